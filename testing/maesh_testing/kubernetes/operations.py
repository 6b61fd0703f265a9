"""What an API server does on create, update, patch and delete: versions, preconditions, metadata, ends of objects.

Takes objects in the form that they are kept in; raises StatusError. Objects that are given must not be changed.
"""

import secrets
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from maesh_testing.kubernetes.admission import Admission
from maesh_testing.kubernetes.applying import (
    APPLY,
    Path,
    apply,
    decode_paths,
    encode_paths,
    find_value,
    list_paths,
    take_paths,
)
from maesh_testing.kubernetes.patches import merge_patch
from maesh_testing.kubernetes.resources import DEFINITIONS, NAMESPACES, PODS, ApiResource
from maesh_testing.kubernetes.statuses import (
    Cause,
    StatusError,
    refuse_conflict,
    refuse_existing,
    refuse_invalid,
    refuse_missing,
    refuse_request,
)
from maesh_testing.kubernetes.store import Object, Store

NAME_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes makes no words by chance."""
POD_GRACE_S = 30
_ENVELOPE = ("apiVersion", "kind", "metadata", "status")
_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName")


class Deletion(NamedTuple):
    """What a deletion asks for; None where it does not say."""

    uid: str | None = None
    version: str | None = None
    grace_s: int | None = None


_PLAIN = Deletion()


class Operations:
    """Changes the store as requests say."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission

    def __repr__(self) -> str:
        return f"<Operations on {self._store!r}>"

    def get(self, resource: ApiResource, namespace: str, name: str) -> Object:
        """Return an object. Raises StatusError."""
        found = self._store.find(resource, namespace, name)
        if found is None:
            raise refuse_missing(resource, name)
        return found

    def create(
        self, resource: ApiResource, namespace: str, given: Mapping[str, Any], *, manager: str = "unknown"
    ) -> Object:
        """Create an object, with a name by chance where it has `generateName`."""
        with self._store.lock:
            metadata = dict(given.get("metadata") or {})
            if metadata.get("resourceVersion"):
                raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
            name = metadata.get("name") or ""
            if not name and metadata.get("generateName"):
                chosen = "".join(secrets.choice(NAME_CHARACTERS) for _ in range(5))
                name = metadata["generateName"][: 63 - 5] + chosen
            if not name:
                raise refuse_invalid(resource, "", [_require_name()])
            _check_namespace(resource, metadata, namespace)
            metadata.pop("namespace", None)
            if resource.is_namespaced:
                metadata["namespace"] = namespace
                if self._store.find(self._store.resources[NAMESPACES], "", namespace) is None:
                    raise refuse_missing(self._store.resources[NAMESPACES], namespace)
            for key in ("uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
                metadata.pop(key, None)
            metadata |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": render_time()}
            if _has_generation(resource):
                metadata["generation"] = 1
            fresh = {**given, "metadata": metadata}
            if resource.has_status:
                fresh.pop("status", None)
            if self._store.find(resource, metadata.get("namespace", ""), name) is not None:
                raise refuse_existing(resource, name)
            fresh = self._admission.prepare(resource, fresh, None)
            return self._store.commit("ADDED", resource, _sign(fresh, resource, manager))

    def update(
        self,
        resource: ApiResource,
        namespace: str,
        name: str,
        given: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "unknown",
    ) -> Object:
        """Put an object in place of what is there."""
        with self._store.lock:
            metadata = given.get("metadata") or {}
            if metadata.get("name", name) != name:
                found = metadata["name"]
                text = f"the name of the object ({found}) does not match the name on the URL ({name})"
                raise refuse_request(text)
            _check_namespace(resource, metadata, namespace)
            old = self._store.find(resource, namespace, name)
            if old is None and not (resource.creates_on_update and not subresource):
                raise refuse_missing(resource, name)
            if old is None:
                if metadata.get("uid"):
                    raise refuse_conflict(resource, name, _describe_uid(metadata["uid"], ""))
                given = {**given, "metadata": {**metadata, "name": name, "resourceVersion": ""}}
                return self.create(resource, namespace, given, manager=manager)
            _check_update(resource, metadata, old)
            fresh = self._admission.prepare(resource, _merge_old(resource, given, old, subresource), old)
            return self._replace(resource, fresh, old, manager)

    def patch(
        self,
        resource: ApiResource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "unknown",
    ) -> Object:
        """Apply a merge patch; without a resource version in it there is no conflict."""
        with self._store.lock:
            old = self.get(resource, namespace, name)
            merged = merge_patch(old, patch)
            return self.update(resource, namespace, name, merged, subresource=subresource, manager=manager)

    def apply(
        self,
        resource: ApiResource,
        namespace: str,
        name: str,
        given: Mapping[str, Any],
        *,
        subresource: str,
        manager: str,
        is_forced: bool,
    ) -> tuple[Object, bool]:
        """Apply a custom resource (server-side apply); return it, and whether it is new."""
        with self._store.lock:
            metadata = given.get("metadata") or {}
            if metadata.get("managedFields"):
                raise refuse_request("metadata.managedFields must be nil")
            old = self._store.find(resource, namespace, name)
            if old is None:
                if subresource or metadata.get("resourceVersion") or metadata.get("uid"):
                    raise refuse_missing(resource, name)
                fresh = {**given, "metadata": {**metadata, "name": name}}
                created = self.create(resource, namespace, fresh, manager=manager)
                return self._own(resource, created, set(_list_content_paths(resource, fresh)), manager, ""), True
            _check_namespace(resource, metadata, namespace)
            _check_update(resource, {"resourceVersion": old["metadata"]["resourceVersion"], **metadata}, old)
            if subresource:
                applied = {"status": given.get("status", {})}
            else:
                applied = {key: value for key, value in given.items() if key not in _ENVELOPE}
                texts = {key: metadata[key] for key in ("labels", "annotations") if key in metadata}
                applied |= {"metadata": texts} if texts else {}
            merged, others, paths = apply(
                _get_schema(resource),
                old,
                applied,
                old["metadata"].get("managedFields", ()),
                manager=manager,
                subresource=subresource,
                is_forced=is_forced,
            )
            merged = {**merged, "metadata": {**merged["metadata"], "managedFields": others}}
            fresh = self._admission.prepare(resource, _merge_old(resource, merged, old, subresource), old)
            fresh["metadata"]["managedFields"] = [
                *others,
                _build_entry(fresh, encode_paths(paths), manager, APPLY, subresource),
            ]
            return self._replace(resource, fresh, old, None), False

    def _own(self, resource: ApiResource, found: Object, paths: set[Path], manager: str, subresource: str) -> Object:
        """Record that a manager has applied a new object."""
        entry = _build_entry(found, encode_paths(paths), manager, APPLY, subresource)
        fresh = {**found, "metadata": {**found["metadata"], "managedFields": [entry]}}
        return self._store.commit("MODIFIED", resource, fresh)

    def delete(
        self, resource: ApiResource, namespace: str, name: str, deletion: Deletion = _PLAIN
    ) -> tuple[Object, bool]:
        """Delete an object, or mark it as one that ends. Returns it, and whether it is gone."""
        with self._store.lock:
            old = self.get(resource, namespace, name)
            metadata = old["metadata"]
            if deletion.uid is not None and deletion.uid != metadata["uid"]:
                raise refuse_conflict(resource, name, _describe_uid(deletion.uid, metadata["uid"]))
            if deletion.version is not None and deletion.version != metadata["resourceVersion"]:
                text = f"ResourceVersion in precondition: {deletion.version}, ResourceVersion in object meta: "
                raise refuse_conflict(resource, name, f"Precondition failed: {text}{metadata['resourceVersion']}")
            grace_s = _choose_grace(resource, old, deletion.grace_s)
            if not metadata.get("finalizers") and not grace_s:
                return self.remove(resource, old), True
            if "deletionTimestamp" in metadata and grace_s >= metadata.get("deletionGracePeriodSeconds", 0):
                return old, False
            marks = {"deletionTimestamp": render_time(grace_s), "deletionGracePeriodSeconds": grace_s}
            return self._store.commit("MODIFIED", resource, {**old, "metadata": {**metadata, **marks}}), False

    def remove(self, resource: ApiResource, old: Object) -> Object:
        """Remove an object at once; a namespace with all that is in it."""
        with self._store.lock:
            if resource.key == NAMESPACES:
                mark = {"deletionTimestamp": render_time()}
                ending = {**old, "metadata": {**old["metadata"], **mark}, "status": {"phase": "Terminating"}}
                old = self._store.commit("MODIFIED", resource, ending)
                for each in list(self._store.resources.values()):
                    for found in self._store.list(each, old["metadata"]["name"]) if each.is_namespaced else ():
                        self.remove(each, found)
            self._admission.forget(resource, old)
            return self._store.commit("DELETED", resource, old)

    def _replace(self, resource: ApiResource, fresh: Object, old: Object, manager: str | None) -> Object:
        """Store a changed object; with a manager, note that it has updated the object."""
        if _strip(fresh) == _strip(old) and (manager is not None or _list_owned(fresh) == _list_owned(old)):
            return old
        if _has_generation(resource) and _get_content(fresh) != _get_content(old):
            fresh["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if manager is not None:
            fresh = _sign(_disown(fresh, old, resource), resource, manager)
        fresh = self._store.commit("MODIFIED", resource, fresh)
        ends = "deletionTimestamp" in fresh["metadata"] and not fresh["metadata"].get("finalizers")
        if ends and not fresh["metadata"].get("deletionGracePeriodSeconds"):
            return self.remove(resource, fresh)
        return fresh


def render_time(later_s: float = 0) -> str:
    """Render a moment as metadata has it."""
    return (datetime.now(UTC) + timedelta(seconds=later_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _require_name() -> Cause:
    return Cause("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")


def _describe_uid(asked: str, found: str) -> str:
    return f"Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"


def _check_namespace(resource: ApiResource, metadata: Mapping[str, Any], namespace: str) -> None:
    if resource.is_namespaced and metadata.get("namespace", namespace) != namespace:
        raise refuse_request("the namespace of the provided object does not match the namespace sent on the request")


def _check_update(resource: ApiResource, metadata: Mapping[str, Any], old: Object) -> None:
    name = old["metadata"]["name"]
    if metadata.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
        raise refuse_conflict(resource, name, _describe_uid(metadata["uid"], old["metadata"]["uid"]))
    version = metadata.get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        raise refuse_conflict(resource, name)
    if not version and not resource.can_update_blindly:
        text = "Invalid value: 0: must be specified for an update"
        raise refuse_invalid(resource, name, [Cause("FieldValueInvalid", "metadata.resourceVersion", text)])


def _merge_old(resource: ApiResource, given: Mapping[str, Any], old: Object, subresource: str) -> Object:
    """Return the new object with what a client cannot change; of status nothing else can be changed."""
    if subresource == "status":
        return {**old, "metadata": dict(old["metadata"]), "status": given.get("status", {})}
    kept = {key: old["metadata"][key] for key in _KEPT if key in old["metadata"]}
    metadata = {key: value for key, value in (given.get("metadata") or {}).items() if key not in _KEPT}
    metadata |= {"name": old["metadata"]["name"], "resourceVersion": old["metadata"]["resourceVersion"], **kept}
    if resource.is_namespaced:
        metadata["namespace"] = old["metadata"]["namespace"]
    metadata["managedFields"] = old["metadata"].get("managedFields", [])
    fresh = {**given, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": metadata}
    if resource.has_status:
        fresh.pop("status", None)
        fresh |= {"status": old["status"]} if "status" in old else {}
    return fresh


def _choose_grace(resource: ApiResource, old: Object, asked_s: int | None) -> int:
    """Return how long a pod is given to end; nothing else is, nor is a pod that runs nowhere."""
    phase = old.get("status", {}).get("phase")
    if resource.key != PODS or asked_s == 0 or phase in ("Succeeded", "Failed"):
        return 0
    if not old.get("spec", {}).get("nodeName"):
        return 0
    default = old["spec"].get("terminationGracePeriodSeconds", POD_GRACE_S)
    return int(default if asked_s is None else asked_s)


def _has_generation(resource: ApiResource) -> bool:
    return resource.is_custom or resource.group in ("apps", "discovery.k8s.io", DEFINITIONS[0])


def _get_content(found: Object) -> Object:
    return {key: value for key, value in found.items() if key not in ("metadata", "status")}


def _strip(found: Object) -> Object:
    metadata = {key: value for key, value in found["metadata"].items() if key not in ("managedFields",)}
    return {**found, "metadata": {key: value for key, value in metadata.items() if value not in ({}, [], "")}}


def _sign(fresh: Object, resource: ApiResource, manager: str) -> Object:
    """Note who changed the object, as `managedFields` do it; the fields are named at the top alone."""
    fields: Object = {f"f:{key}": {} for key in fresh if key not in ("apiVersion", "kind")}
    entry = _build_entry(fresh, fields, manager, "Update", "")
    entries = fresh["metadata"].get("managedFields", ())
    others = [each for each in entries if (each.get("manager"), each.get("operation")) != (manager, "Update")]
    return {**fresh, "metadata": {**fresh["metadata"], "managedFields": [*others, entry]}}


def _build_entry(fresh: Object, fields: Object, manager: str, operation: str, subresource: str) -> Object:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": fresh["apiVersion"],
        "time": render_time(),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    } | ({"subresource": subresource} if subresource else {})


def _disown(fresh: Object, old: Object, resource: ApiResource) -> Object:
    """Take the fields that an update changes from those who have applied them."""
    entries = fresh["metadata"].get("managedFields", ())
    applied = {path for entry in entries if entry["operation"] == APPLY for path in decode_paths(entry["fieldsV1"])}
    if not applied:
        return fresh
    schema = _get_schema(resource)
    changed = {path for path in applied if find_value(schema, fresh, path) != find_value(schema, old, path)}
    return {**fresh, "metadata": {**fresh["metadata"], "managedFields": take_paths(entries, changed)}}


def _list_owned(found: Object) -> list[Object]:
    entries = found["metadata"].get("managedFields", ())
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def _get_schema(resource: ApiResource) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = resource.schemas.get(resource.storage_version, {})
    return schema


def _list_content_paths(resource: ApiResource, given: Object) -> Iterator[Path]:
    return list_paths(_get_schema(resource), _get_content(given))
