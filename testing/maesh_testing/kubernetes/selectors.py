"""Label and field selectors, as lists and watches take them. Takes text, gives a test of objects, or refuses it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.statuses import refuse_request

Object = dict[str, Any]
Selector = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"\s*([^\s,=!()]+)\s+(in|notin)\s+\(([^)]*)\)\s*(?:,|$)")
_PLAIN = re.compile(r"\s*(!?)\s*([^\s,=!()]+)\s*(?:(==|=|!=)\s*([^\s,=!()]*))?\s*(?:,|$)")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    "services": ("spec.clusterIP", "spec.type"),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
        "type",
    ),
}


def parse_selectors(resource: ApiResource, labels: str, fields: str) -> Selector | None:
    """Parse both selectors; None when all objects are meant."""
    tests = [*_parse_labels(labels), *_parse_fields(resource, fields)]
    if not tests:
        return None
    return lambda found: all(test(found) for test in tests)


def _parse_labels(text: str) -> list[Selector]:
    tests, position = [], 0
    while text.strip() and position < len(text):
        if match := _SET.match(text, position):
            key, operator, values = match.groups()
            tests.append(_test_set(key, {value.strip() for value in values.split(",")}, is_in=operator == "in"))
        elif match := _PLAIN.match(text, position):
            negation, key, operator, value = match.groups()
            if negation and operator:
                raise refuse_request(f"unable to parse requirement: {text!r}")
            if operator:
                tests.append(_test_set(key, {value}, is_in=operator != "!="))
            else:
                tests.append(_test_presence(key, is_there=not negation))
        else:
            raise refuse_request(f"unable to parse requirement: {text!r}")
        position = match.end()
    return tests


def _test_set(key: str, values: set[str], *, is_in: bool) -> Selector:
    return lambda found: (_get_labels(found).get(key) in values) is is_in


def _test_presence(key: str, *, is_there: bool) -> Selector:
    return lambda found: (key in _get_labels(found)) is is_there


def _get_labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def _parse_fields(resource: ApiResource, text: str) -> list[Selector]:
    tests = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if match is None:
            raise refuse_request(f"invalid selector: '{term}'; can't understand '{term}'")
        path, operator, value = match.groups()
        known: tuple[str, ...] = (
            ("metadata.name", "metadata.namespace") if resource.is_namespaced else ("metadata.name",)
        )
        known += () if resource.is_custom else _FIELDS.get(resource.plural, ())
        if path not in known:
            raise refuse_request(f'field label not supported: "{path}"')
        tests.append(_test_field(path.split("."), value, is_equal=operator != "!="))
    return tests


def _test_field(path: list[str], value: str, *, is_equal: bool) -> Selector:
    def test(found: Mapping[str, Any]) -> bool:
        at: Any = found
        for part in path:
            at = at.get(part) if isinstance(at, Mapping) else None
        text = {True: "true", False: "false", None: ""}.get(at, at) if isinstance(at, bool | None) else at
        return (str(text) == value) is is_equal

    return test
