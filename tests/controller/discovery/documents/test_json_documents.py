import pytest

from maesh_core.controller.discovery.documents.json_documents import parse_json_documents
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import ManifestError
from maesh_core.model.resources import Service

SERVICES = next(kind for kind in CORE_KINDS if kind.type is Service)


def test_several_documents_may_stand_in_a_row():
    documents = list(parse_json_documents('{"kind": "A"}\n\n{"kind": "B"} {"kind": "C"}\n', "f.json"))
    assert [(item.number, item.line) for item in documents] == [(1, 1), (2, 3), (3, 3)]
    assert [item.body.read_head().kind for item in documents] == ["A", "B", "C"]


@pytest.mark.parametrize("text", ["", " \n\t", "null", "null null"])
def test_nothing_and_null_are_empty(text):
    assert list(parse_json_documents(text, "f.json")) == []


def test_documents_before_a_broken_one_are_there_and_the_error_names_its_line():
    documents = parse_json_documents('{"kind": "A"}\n{\n"kind" "B"}\n', "f.json")
    assert next(documents).number == 1
    with pytest.raises(ManifestError) as caught:
        next(documents)
    assert caught.value.origin == "f.json document 2 line 3"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 100_000, "{", '"', "\x00", "{'a': 1}"])
def test_hostile_text_is_refused(text):
    with pytest.raises(ManifestError, match=r"f\.json document 1 line 1: not JSON"):
        list(parse_json_documents(text, "f.json"))


def test_nulls_and_numbers_in_labels_are_corrected():
    text = '{"metadata": {"name": "a", "labels": {"x": 2, "y": null}, "annotations": null}, "spec": {"ports": null}}'
    (document,) = parse_json_documents(text, "f.json")
    service = document.body.decode(SERVICES)
    assert isinstance(service, Service)
    assert service.metadata.labels == {"x": "2"}
    assert service.spec.ports == ()
