"""Two prefixes, one set of names."""

import pytest

from maesh_core.model.annotations import parse_annotations

OLD, NEW = "maesh.containo.us/", "mesh.traefik.io/"


def test_names_come_without_prefix_and_sorted() -> None:
    assert list(parse_annotations({OLD + "b": "1", NEW + "a": "2"}).items()) == [("a", "2"), ("b", "1")]


@pytest.mark.parametrize("full_names", [(OLD + "scheme", NEW + "scheme"), (NEW + "scheme", OLD + "scheme")])
def test_the_later_prefix_wins_whatever_stands_first(full_names: tuple[str, str]) -> None:
    values = {name: "z-old" if name.startswith(OLD) else "a-new" for name in full_names}
    assert parse_annotations(values) == {"scheme": "a-new"}


@pytest.mark.parametrize("name", ["scheme", "example.com/scheme", "xmaesh.containo.us/scheme", "maesh.containo.us"])
def test_other_annotations_are_left_alone(name: str) -> None:
    assert parse_annotations({name: "https"}) == {}
