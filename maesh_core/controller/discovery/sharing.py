"""Shares equal parts of objects: pods of one ReplicaSet differ in little more than name and address.

Takes new resources, and returns them with parts that other resources share. With 100,000 pods this saves two thirds of
the memory. Parts are remembered until the table is full, which empties it.
"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import force_setattr

from maesh_core.model.resources import EndpointSlice, ObjectMeta, Pod, Resource

TABLE_LIMIT = 50_000
"""Limit of remembered parts."""


class Sharer:
    """Shares parts among the resources that pass through it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<Sharer {len(self._known)} parts>"

    def share(self, resource: Resource) -> None:
        """Replace parts of a new resource by equal ones of other resources."""
        if len(self._known) > TABLE_LIMIT:
            self._known.clear()
        self._share_metadata(resource.metadata)
        if isinstance(resource, Pod):
            self._replace(resource.spec, "containers")  # not the spec itself, which differs by node
            self._replace(resource.spec, "service_account_name")
            self._replace(resource.spec, "node_name")
            self._replace(resource.status, "conditions")
            self._replace(resource.status, "phase")
        elif isinstance(resource, EndpointSlice):
            self._replace(resource, "ports")
            for endpoint in resource.endpoints:
                self._replace(endpoint, "conditions")
                if endpoint.target_ref is not None:
                    self._replace(endpoint.target_ref, "kind")
                    self._replace(endpoint.target_ref, "namespace")

    def _share_metadata(self, metadata: ObjectMeta) -> None:
        self._replace(metadata, "namespace")
        self._replace(metadata, "owner_references")
        self._replace(metadata, "creation_timestamp")
        for field in ("labels", "annotations"):
            self._replace_texts(metadata, field)

    def _replace(self, owner: Any, field: str) -> None:
        value = getattr(owner, field)
        known = self._known.setdefault(value, value)
        if known is not value:
            force_setattr(owner, field, known)

    def _replace_texts(self, owner: Any, field: str) -> None:
        """Share a mapping of texts, which has no hash, by its items in order."""
        value: Mapping[str, str] = getattr(owner, field)
        known = self._known.setdefault((dict, tuple(value.items())), value)
        if known is not value:
            force_setattr(owner, field, known)
