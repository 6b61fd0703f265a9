"""What an API server fills in and refuses: metadata of every object, leases, events, slices, definitions.

Takes an object and what it was, gives a new one, or raises StatusError with every cause. Services are dealt with in
services.py, custom resources in custom.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_testing.kubernetes.custom import list_schema_causes
from maesh_testing.kubernetes.resources import DEFINITIONS, NAMESPACES, PODS, SERVICES, ApiResource
from maesh_testing.kubernetes.services import ServiceRules
from maesh_testing.kubernetes.statuses import Cause, refuse_invalid, refuse_request

Object = dict[str, Any]

ANNOTATIONS_LIMIT_BYTES = 256 * 1024
SLICE_LIMIT = 1000
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


class Admission:
    """Decides what objects may be kept, and how."""

    def __init__(self, services: ServiceRules) -> None:
        self._services = services

    def __repr__(self) -> str:
        return f"<Admission {self._services!r}>"

    def prepare(self, resource: ApiResource, given: Object, old: Object | None) -> Object:
        """Return the object as it will be kept. Raises StatusError."""
        fresh: Object = msgspec.json.decode(msgspec.json.encode(given))
        causes = _list_metadata_causes(resource, fresh["metadata"])
        if resource.key == SERVICES:
            causes += self._services.prepare(fresh, old)
        elif resource.key == PODS and old is None:
            fresh.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})
        elif resource.key == NAMESPACES:
            _fill_namespace(fresh, old)
        elif resource.key == DEFINITIONS:
            causes += _prepare_definition(fresh, old)
        elif resource.plural == "leases":
            causes += _list_lease_causes(fresh)
        elif resource.plural == "endpointslices":
            causes += _list_slice_causes(fresh, old)
        elif resource.plural == "events":
            causes += _list_event_causes(fresh)
        elif resource.is_custom:
            version = fresh["apiVersion"].rpartition("/")[2]
            causes += list_schema_causes(resource.schemas.get(version, {}), fresh)
        if causes:
            raise refuse_invalid(resource, fresh["metadata"]["name"], causes)
        return fresh

    def forget(self, resource: ApiResource, old: Object) -> None:
        """Free what an object had that is gone."""
        if resource.key == SERVICES:
            self._services.forget(old)


def _list_metadata_causes(resource: ApiResource, metadata: Mapping[str, Any]) -> list[Cause]:
    name = metadata["name"]
    causes = []
    if resource.key != SERVICES:
        if len(name) > 253:
            causes.append(_invalid("metadata.name", name, "must be no more than 253 bytes"))
        if not _SUBDOMAIN.fullmatch(name):
            causes.append(_invalid("metadata.name", name, _SUBDOMAIN_TEXT))
    if resource.key == NAMESPACES and len(name) > 63:
        causes.append(_invalid("metadata.name", name, "must be no more than 63 bytes"))
    return [*causes, *_list_label_causes(metadata), *_list_annotation_causes(metadata)]


def _list_label_causes(metadata: Mapping[str, Any]) -> Iterator[Cause]:
    for key, value in _read_texts(metadata, "labels"):
        if not _QUALIFIED.fullmatch(key):
            yield _invalid("metadata.labels", key, "name part must consist of alphanumeric characters, '-', '_' or '.'")
        if len(value) > 63:
            yield _invalid("metadata.labels", value, "must be no more than 63 bytes")
        if not _LABEL_VALUE.fullmatch(value):
            yield _invalid("metadata.labels", value, "a valid label must be an empty string or consist of alphanumeric")


def _list_annotation_causes(metadata: Mapping[str, Any]) -> Iterator[Cause]:
    size = 0
    for key, value in _read_texts(metadata, "annotations"):
        size += len(key.encode()) + len(value.encode())
        if not _QUALIFIED.fullmatch(key.lower()):
            text = "name part must consist of alphanumeric characters, '-', '_' or '.'"
            yield _invalid("metadata.annotations", key, text)
    if size > ANNOTATIONS_LIMIT_BYTES:
        text = f"Too long: may not be more than {ANNOTATIONS_LIMIT_BYTES} bytes"
        yield Cause("FieldValueTooLong", "metadata.annotations", text)


def _read_texts(metadata: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    for key, value in (metadata.get(name) or {}).items():
        if not isinstance(value, str):
            raise refuse_request(f"json: cannot unmarshal {value!r} into Go struct field ObjectMeta.metadata.{name}")
        yield key, value


def _fill_namespace(fresh: Object, old: Object | None) -> None:
    fresh.setdefault("spec", {"finalizers": ["kubernetes"]})
    fresh.setdefault("status", {"phase": "Active"} if old is None else old["status"])
    labels = fresh["metadata"].get("labels") or {}
    fresh["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": fresh["metadata"]["name"]}


def _prepare_definition(fresh: Object, old: Object | None) -> list[Cause]:
    spec = fresh.get("spec", {})
    names, versions = spec.get("names", {}), spec.get("versions", [])
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if fresh["metadata"]["name"] != wanted:
        text = f'must be spec.names.plural+"."+spec.group, that is {wanted}'
        return [_invalid("metadata.name", fresh["metadata"]["name"], text)]
    if sum(bool(version.get("storage")) for version in versions) != 1:
        return [_invalid("spec.versions", "", "must have exactly one version marked as storage version")]
    names.setdefault("singular", str(names.get("kind")).lower())
    names.setdefault("listKind", f"{names.get('kind')}List")
    stored = [version["name"] for version in versions if version.get("storage")]
    if old is not None:
        stored = list(dict.fromkeys([*old["status"]["storedVersions"], *stored]))
    since = {"lastTransitionTime": fresh["metadata"]["creationTimestamp"], "status": "True"}
    conditions = [
        {"type": "NamesAccepted", "reason": "NoConflicts", "message": "no conflicts found", **since},
        {
            "type": "Established",
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
            **since,
        },
    ]
    fresh["status"] = {"acceptedNames": dict(names), "storedVersions": stored, "conditions": conditions}
    return []


def _list_lease_causes(fresh: Object) -> list[Cause]:
    spec = fresh.get("spec") or {}
    _check_times("Lease", spec, ("acquireTime", "renewTime"))
    causes = []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        causes.append(_invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        causes.append(_invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return causes


def _list_event_causes(fresh: Object) -> list[Cause]:
    """Check an event; one with a time of its own is of the new kind, and says more."""
    _check_times("Event", fresh, ("eventTime",))
    namespace = fresh["metadata"]["namespace"]
    about = (fresh.get("involvedObject") or {}).get("namespace", "")
    if about != namespace and not (not about and namespace == "default"):
        return [_invalid("involvedObject.namespace", about, "does not match event.namespace")]
    causes = []
    if fresh.get("eventTime"):
        needed = ("reportingComponent", "reportingInstance", "action", "reason")
        names = {"reportingComponent": "reportingController"}
        missing = [names.get(each, each) for each in needed if not fresh.get(each)]
        causes += [Cause("FieldValueRequired", each, "Required value") for each in missing]
        for field, limit in (("action", 128), ("reason", 128), ("message", 1024)):
            if len((fresh.get(field) or "").encode()) > limit:
                causes.append(_invalid(field, fresh[field], f"can have at most {limit} bytes"))
        if fresh.get("type") not in ("Normal", "Warning"):
            causes.append(_invalid("type", fresh.get("type", ""), "has invalid value: "))
    return causes


def _list_slice_causes(fresh: Object, old: Object | None) -> list[Cause]:
    kind = fresh.get("addressType")
    causes = []
    if not kind:
        causes.append(Cause("FieldValueRequired", "addressType", "Required value"))
    elif kind not in ("IPv4", "IPv6", "FQDN"):
        text = f'Unsupported value: "{kind}": supported values: "FQDN", "IPv4", "IPv6"'
        causes.append(Cause("FieldValueNotSupported", "addressType", text))
    if old is not None and old.get("addressType") != kind:
        causes.append(_invalid("addressType", kind, "field is immutable"))
    endpoints: Sequence[Mapping[str, Any]] = fresh.get("endpoints") or ()
    fresh["endpoints"] = list(endpoints)
    if len(endpoints) > SLICE_LIMIT:
        text = f"Too many: {len(endpoints)}: must have at most {SLICE_LIMIT} items"
        causes.append(Cause("FieldValueTooMany", "endpoints", text))
    for number, endpoint in enumerate(endpoints):
        if not endpoint.get("addresses"):
            field = f"endpoints[{number}].addresses"
            causes.append(Cause("FieldValueRequired", field, "Required value: must contain at least 1 address"))
    for port in fresh.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    return causes


def _check_times(kind: str, fields: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a MicroTime that Go does not read: six digits after the point, no fewer."""
    for name in names:
        value = fields.get(name)
        if value and not (isinstance(value, str) and _MICRO_TIME.fullmatch(value)):
            raise refuse_request(
                f'{kind} in version "v1" cannot be handled as a {kind}: parsing time "{value}" as '
                '"2006-01-02T15:04:05.000000Z07:00": cannot parse'
            )


def _invalid(field: str, value: Any, text: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {text}")
