"""Two prefixes, one set of names."""

from typing import Annotated, Any

import pytest
from msgspec import Meta

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_annotations, read_annotation, split_port_annotations
from maesh_core.model.topology import PortNode
from maesh_core.values.parsing import Duration

OLD, NEW = "maesh.containo.us/", "mesh.traefik.io/"


def test_names_come_without_prefix_and_sorted() -> None:
    assert list(parse_annotations({OLD + "b": "1", NEW + "a": "2"}).items()) == [("a", "2"), ("b", "1")]


@pytest.mark.parametrize("full_names", [(OLD + "scheme", NEW + "scheme"), (NEW + "scheme", OLD + "scheme")])
def test_the_later_prefix_wins_in_any_order(full_names: tuple[str, str]) -> None:
    values = {name: "z-old" if name.startswith(OLD) else "a-new" for name in full_names}
    assert parse_annotations(values) == {"scheme": "a-new"}


@pytest.mark.parametrize("name", ["scheme", "example.com/scheme", "xmaesh.containo.us/scheme", "maesh.containo.us"])
def test_other_annotations_are_left_alone(name: str) -> None:
    assert parse_annotations({name: "https"}) == {}


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("3", Annotated[int, Meta(ge=1)], 3),
        (" 3 ", int, 3),
        ("500ms", Duration, 0.5),
        ("a, b", tuple[str, ...], ("a", "b")),
    ],
)
def test_a_value_is_read_as_its_type(text: str, type_: Any, value: object) -> None:
    assert read_annotation({"x": text}, "x", type_) == value
    assert read_annotation({}, "x", type_) is None


@pytest.mark.parametrize(
    ("text", "type_", "words"),
    [
        ("many", Annotated[int, Meta(ge=1)], "annotation x: 'many' is not a whole number of at least 1"),
        ("0", Annotated[int, Meta(ge=1)], "annotation x: '0' is not a whole number of at least 1"),
        ("9" * 30, Annotated[int, Meta(ge=1, le=9)], "is not a whole number from 1 to 9"),
        ("soon", Duration, "annotation x: 'soon' is not a duration such as 500ms, 10s or 1m"),
        ("9" * 300, Annotated[int, Meta(le=9)], "'" + "9" * 80 + "...'"),
    ],
)
def test_a_bad_value_is_an_error_that_names_annotation_value_and_rule(text: str, type_: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_annotation({"x": text}, "x", type_)
    assert words in str(caught.value)


def test_an_annotation_of_a_port_replaces_that_of_the_service() -> None:
    split = split_port_annotations({"scheme": "http", "8080.scheme": "h2c", "admin.scheme": "https", "a.b/c": "x"})
    assert split.shared == {"scheme": "http", "a.b/c": "x"}
    assert split.select(PortNode(number=80, name="web")) is split.shared
    assert split.select(PortNode(number=8080, name="grpc"))["scheme"] == "h2c"
    assert split.select(PortNode(number=9000, name="admin")) == {"scheme": "https", "a.b/c": "x"}


def test_the_name_and_the_number_of_a_port_may_not_contradict_each_other() -> None:
    split = split_port_annotations({"80.scheme": "http", "web.scheme": "https", "web.retry-attempts": "2"})
    with pytest.raises(ConfigurationError, match=r"80\.scheme and web\.scheme are of one port"):
        split.select(PortNode(number=80, name="web"))
    assert split.select(PortNode(number=81, name="web")) == {"retry-attempts": "2", "scheme": "https"}
