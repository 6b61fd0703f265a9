"""Strict decoding: every slip is a fault with its path, and what is right still says whom the object concerns."""

from typing import Annotated, Literal

import msgspec
import pytest

from maesh_core.values.strict_fields import MAX_FAULTS, decode_strictly


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Rule(Part, frozen=True):
    kind: str = ""
    type: Literal["Exact", "Prefix"] | msgspec.UnsetType = msgspec.UNSET
    matches: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ()


class Spec(Part, frozen=True):
    name: str = ""
    port: Annotated[int, msgspec.Meta(ge=1)] | msgspec.UnsetType = msgspec.UNSET
    rules: tuple[Rule, ...] = ()
    pairs: dict[str, str] | tuple[dict[str, str], ...] = ()
    time: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]+s\Z", description="a duration such as 10s")] | None = None


class Below(Part, frozen=True):
    spec: Spec = Spec()


class Top(Part, frozen=True):
    name: str = ""
    specs: tuple[Rule, ...] = ()


def decode(fields):
    return decode_strictly(fields, Below, other=Top)


@pytest.mark.parametrize(
    "spec", [{}, {"name": "a", "port": 1}, {"rules": [{"kind": "x", "matches": ["y"]}], "pairs": [{"a": "b"}]}]
)
def test_what_fits_has_no_fault(spec):
    assert decode({"spec": spec}) == (msgspec.convert({"spec": spec}, Below), ())


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"spec": {"nmae": "a"}}, "spec.nmae: unknown field; did you mean name?"),
        ({"spec": {"Name": "a"}}, "spec.Name: unknown field; did you mean name?"),
        ({"spec": {"name": "a", "NAME": "b"}}, "spec.NAME: unknown field; did you mean name?"),
        ({"spec": {"rule": []}}, "spec.rule: unknown field; did you mean rules?"),
        ({"spec": {"pair": []}}, "spec.pair: unknown field; did you mean pairs?"),
        ({"Spec": {}}, "Spec: unknown field; did you mean spec?"),
        ({"spec": {"zzz": 1}}, "spec.zzz: unknown field; known here: name, pairs, port, rules, time"),
        ({"name": "a"}, "name: unknown field; it belongs at spec.name"),
        ({"spec": {"matches": ["a"]}}, "spec.matches: unknown field; it belongs at spec.rules[].matches"),
        ({"spec": {"rules": [{}, {"match": ["a"]}]}}, "spec.rules[1].match: unknown field; did you mean matches?"),
        ({"spec": {"rules": None}}, "spec.rules: expected list, got null"),
        ({"spec": {"rules": [{"matches": []}]}}, "spec.rules[0].matches: it is empty; leave the field out"),
        ({"spec": {"port": "1"}}, "spec.port: expected int, got str"),
        ({"spec": {"port": True}}, "spec.port: expected int, got bool"),
        ({"spec": {"port": 0}}, "spec.port: expected int >= 1"),
        ({"spec": {"pairs": {"a": 1}}}, "spec.pairs: expected str, got int"),
        ({"spec": {"pairs": [{"a": None}]}}, "spec.pairs[0]: expected str, got null"),
        (
            {"spec": {"rules": [{"type": "Regex"}]}},
            "spec.rules[0].type: invalid enum value 'Regex'; known: Exact, Prefix",
        ),
        ({"spec": {"time": "10"}}, "spec.time: expected a duration such as 10s"),
        ({"spec": {"time": 10}}, "spec.time: expected str, got int"),
        ({"spec": None}, "spec: expected object, got null"),
        ({"spec": []}, "spec: expected object, got list"),
        ({"spec": {"a\nb": 1}}, "spec.'a\\nb': unknown field"),
    ],
)
def test_a_slip_is_a_fault_that_names_the_path_and_the_nearest_name(fields, fault):
    _, faults = decode(fields)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


@pytest.mark.parametrize(
    "fields",
    [
        {"spec": {"nmae": "a"}},
        {"spec": {"name": "a", "port": None}},
        {"name": "a"},
        {"name": "a", "spec": {"rules": {}}},
        {"Spec": {"name": "a"}},
        {"spec": {"name": "a", "rules": [{"kind": 1, "matches": [2]}, None]}},
    ],
)
def test_what_can_be_recovered_says_whom_the_object_concerns(fields):
    found, faults = decode(fields)
    assert found.spec.name == "a"
    assert faults


def test_several_slips_are_all_reported_up_to_a_limit():
    _, faults = decode({"spec": {"rules": [{"kind": 1, "matches": [2]}], "x": 1}})
    assert [fault.partition(":")[0] for fault in faults] == [
        "spec.x",
        "spec.rules[0].kind",
        "spec.rules[0].matches[0]",
    ]
    _, faults = decode({"spec": {f"x{number}": number for number in range(1000)}})
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1] == "and more"


def test_a_synonym_is_the_nearest_name():
    _, faults = decode_strictly({"rules": []}, Top, synonyms={"rules": "specs"})
    assert faults == ("rules: unknown field; did you mean specs?",)
