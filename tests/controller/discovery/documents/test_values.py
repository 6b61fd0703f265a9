import msgspec
import pytest

from maesh_core.controller.discovery.documents.values import MAX_DEPTH, convert_value, drop_nulls
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.resources import Service

SERVICES = next(kind for kind in CORE_KINDS if kind.type is Service)


def test_numbers_and_booleans_become_text_only_in_labels_and_annotations():
    metadata = {"name": "a", "labels": {"n": 2, "t": True}, "annotations": {"f": False, "x": 1.5}}
    service = convert_value({"metadata": metadata}, SERVICES)
    assert service.metadata.labels == {"n": "2", "t": "true"}
    assert service.metadata.annotations == {"f": "false", "x": "1.5"}


def test_a_list_in_an_annotation_is_refused_by_its_path():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.metadata\.annotations"):
        convert_value({"metadata": {"name": "a", "annotations": {"x": [1]}}}, SERVICES)


def test_the_given_value_is_left_as_it_was():
    labels = {"n": 2}
    convert_value({"metadata": {"name": "a", "labels": labels}}, SERVICES)
    assert labels == {"n": 2}


@pytest.mark.parametrize("value", [None, [], "text", {"metadata": None}, {"metadata": {"labels": 1}}])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(msgspec.ValidationError):
        convert_value(value, SERVICES)


def test_nulls_are_dropped_from_mappings_at_any_depth_but_not_from_lists():
    assert drop_nulls({"a": None, "b": [{"c": None, "d": 1}, None]}) == {"b": [{"d": 1}, None]}


def test_dropping_nulls_stops_at_the_depth_limit():
    value = {}
    for _ in range(MAX_DEPTH + 2):
        value = {"a": value}
    with pytest.raises(RecursionError):
        drop_nulls(value)
