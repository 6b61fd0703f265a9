"""Objects of a kind that reads its fields strictly: from files and from an API server, with their faults."""

import json
from typing import cast

import msgspec
import pytest

from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.discovery.documents.values import convert_value
from maesh_core.controller.discovery.kubernetes.objects import ChangeType, Fault, ObjectDecoder
from maesh_core.controller.discovery.manifests.merging import MergedManifests
from maesh_core.model.events import Applied, Problem
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import UNCHECKED, CheckedResource, ResourceKind
from maesh_core.values.strict_fields import decode_strictly


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: int = 0


class Rule(CheckedResource, frozen=True):
    limit: int = 0


def read(metadata, fields):
    shape, faults = decode_strictly(fields, Fields)
    return Rule(metadata=metadata, limit=shape.limit, faults=faults)


RULES = ResourceKind(name="Rule", plural="rules", api_versions=("example.org/v1",), type=Rule, read=read)
FAULT = "limits: unknown field; did you mean limit?"


def build(name="r", **fields):
    return {"apiVersion": "example.org/v1", "kind": "Rule", "metadata": {"name": name}, **fields}


def parse(text, path="f.yaml"):
    return parse_manifest(text.encode(), KindTable([RULES]), path=path)


def test_metadata_and_status_are_read_as_kubernetes_does():
    metadata = {"name": "r", "creationTimestamp": None, "labels": {"a": None, "b": 1}, "managedFields": [{"x": 1}]}
    rule = convert_value({**build(limit=3), "metadata": metadata, "status": {"anything": None}}, RULES)
    assert isinstance(rule, Rule)
    assert (rule.limit, rule.faults, rule.metadata.labels) == (3, (), {"b": "1"})


@pytest.mark.parametrize("value", [None, [], {"metadata": None}, {"metadata": {"labels": {}}}, {"limit": 1}])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(msgspec.ValidationError):
        convert_value(value, RULES)


def test_what_is_decoded_without_the_kinds_own_reader_has_a_fault():
    assert msgspec.convert(build(limit=1), Rule).faults == UNCHECKED


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ("limits: 1", FAULT),
        ("limit: ~", "limit: expected int, got null"),
        ("limit:", "limit: expected int, got null"),
        ("limit: '1'", "limit: expected int, got str"),
        ("Limit: 1", "Limit: unknown field; did you mean limit?"),
    ],
)
def test_an_object_of_a_file_is_there_with_its_fault(field, fault):
    manifest = parse(f"apiVersion: example.org/v1\nkind: Rule\nmetadata: {{name: r}}\n{field}\n")
    assert not manifest.errors
    assert [item.resource.faults for item in manifest.resources] == [(fault,)]
    assert [str(each) for each in manifest.faults] == [f"f.yaml document 1 line 1: Rule 'r' is not used: {fault}"]


@pytest.mark.parametrize("text", [json.dumps(build(limit=None)), json.dumps(build(limits=1))])
def test_json_is_read_as_yaml_is(text):
    for path in ("f.json", "f.yaml"):
        manifest = parse(text, path)
        assert len(manifest.resources) == len(manifest.faults) == 1


def test_a_key_that_is_there_twice_in_json_is_refused():
    text = json.dumps(build(limit=1)).replace('"limit": 1', '"limit": 1, "limit": 2')
    (error,) = parse(text, "f.json").errors
    assert "key 'limit' appears twice" in error.text


def test_a_number_that_is_too_long_is_refused():
    text = json.dumps(build(limit=1)).replace('"limit": 1', f'"limit": {"9" * 5000}')
    assert parse(text, "f.json").errors


def test_a_file_whose_object_gets_a_fault_is_applied_and_does_not_keep_the_former_one():
    merged = MergedManifests()
    merged.set_manifest("f", parse(json.dumps(build(limit=1)), "f.json"))
    merged.collect_events()
    merged.set_manifest("f", parse(json.dumps(build(limits=2)), "f.json"))
    applied, problem = merged.collect_events()
    assert isinstance(applied, Applied)
    assert isinstance(applied.resource, Rule)
    assert applied.resource.faults == (FAULT,)
    assert isinstance(problem, Problem)
    merged.set_manifest("f", parse(json.dumps(build(limit=2)), "f.json"))
    assert [type(event) for event in merged.collect_events()] == [Applied, Problem]


def test_a_page_has_the_object_and_its_fault():
    items = [build("good", limit=1), build("bad", limits=1), {"metadata": {"name": 1}}]
    page = ObjectDecoder(RULES).decode_page(msgspec.json.encode({"items": items, "metadata": {}}))
    rules = cast("list[Rule]", page.resources)
    assert [(each.metadata.name, each.faults) for each in rules] == [
        ("good", ()),
        ("bad", (FAULT,)),
    ]
    assert page.faults[0] == Fault(ObjectKey("default", "bad"), f"Rule bad@default is not used: {FAULT}")
    assert len(page.faults) == 2


def test_a_line_of_a_watch_has_the_object_and_its_fault():
    decode = ObjectDecoder(RULES).decode_line
    change = decode(msgspec.json.encode({"type": "MODIFIED", "object": build(limits=1)}))
    assert change.type is ChangeType.MODIFIED
    assert isinstance(change.result, Rule)
    assert change.result.faults == (FAULT,)
    assert change.fault == Fault(ObjectKey("default", "r"), f"Rule r@default is not used: {FAULT}")
    assert decode(msgspec.json.encode({"type": "MODIFIED", "object": build(limit=1)})).fault is None
