"""Objects between the form that they are kept in and the version that a request names. Pure; shares what it can.

Versions of a custom resource differ in `apiVersion` alone. The two groups of events name the same fields differently.
"""

from collections.abc import Mapping
from typing import Any

from maesh_testing.kubernetes.resources import ApiResource

Object = dict[str, Any]

_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_CORE_EVENT_FIELDS = {core: new for new, core in _EVENT_FIELDS.items()}


def to_kept(resource: ApiResource, given: Mapping[str, Any]) -> Object:
    """Return an object of a request in the form that is kept."""
    if resource.group == "events.k8s.io":
        return {**_rename(given, _EVENT_FIELDS), "apiVersion": "v1", "kind": resource.kind}
    return {**given, "apiVersion": resource.render_version(resource.storage_version), "kind": resource.kind}


def to_version(resource: ApiResource, version: str, kept: Mapping[str, Any]) -> Object:
    """Return an object as a version shows it."""
    wanted = resource.render_version(version)
    if resource.group == "events.k8s.io":
        return {**_rename(kept, _CORE_EVENT_FIELDS), "apiVersion": wanted}
    return {**kept, "apiVersion": wanted}


def to_item(resource: ApiResource, version: str, kept: Mapping[str, Any]) -> Object:
    """Return an object as a list contains it: objects of built-in kinds have no kind and apiVersion there."""
    found = to_version(resource, version, kept)
    if not resource.is_custom:
        del found["apiVersion"], found["kind"]
    return found


def _rename(found: Mapping[str, Any], names: Mapping[str, str]) -> Object:
    return {names.get(key, key): value for key, value in found.items()}
