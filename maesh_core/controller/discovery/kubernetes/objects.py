"""Decodes the API server's responses: pages of lists and lines of watches, directly from bytes to resources.

Takes bytes and a kind; returns resources, and for unusable objects the reason. Raises KubernetesError if a page or a
line is malformed. No I/O.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import msgspec

from maesh_core.controller.discovery.documents.validation import (
    DEFAULT_NAMESPACE,
    fill_defaults,
    find_faults,
    show_value,
)
from maesh_core.controller.discovery.documents.values import convert_value
from maesh_core.controller.discovery.sharing import Sharer
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import CheckedResource, Resource, ResourceKind


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class _Named(msgspec.Struct, frozen=True):
    """The part of an object that must be readable to identify it."""

    metadata: _Meta = _Meta()


class _RawPage(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: list[msgspec.Raw] | None = None


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""
    message: str = ""


class ChangeType(Enum):
    """The type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class _Line(msgspec.Struct, frozen=True):
    type: ChangeType
    object: msgspec.Raw


class Fault(msgspec.Struct, frozen=True):
    """An object that cannot be used, and why."""

    key: ObjectKey
    text: str
    uid: str = ""


MAX_SHOWN_KEY = 320
"""Limit of a shown key, in characters: a name has at most 253, a namespace 63."""

_Result = Resource | Fault
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Page(msgspec.Struct, frozen=True):
    """A page of a list; `next` is the token of the next one, or empty. An object may have a resource and a fault."""

    resources: Sequence[Resource]
    faults: Sequence[Fault]
    resource_version: str
    next: str


class Change(msgspec.Struct, frozen=True):
    """A line of a watch. `result` is None for deletions and bookmarks."""

    type: ChangeType
    key: ObjectKey
    resource_version: str
    result: Resource | Fault | None = None
    fault: Fault | None = None
    """The fault of the object, whether or not it could be read."""


class ObjectDecoder:
    """Decodes one kind."""

    __slots__ = ("_decode_object", "_decode_page", "_kind", "_sharer")

    def __init__(self, kind: ResourceKind) -> None:
        self._kind = kind
        self._sharer = Sharer()
        self._decode_object: Callable[[Any], Resource] = msgspec.json.Decoder(kind.type).decode
        items: Any = list[kind.type] | None  # type: ignore[name-defined]  # known when it runs
        page = msgspec.defstruct("TypedPage", [("metadata", _ListMeta, _ListMeta()), ("items", items, None)])
        self._decode_page: Callable[[bytes], Any] = msgspec.json.Decoder(page).decode

    def __repr__(self) -> str:
        return f"<ObjectDecoder {self._kind.label}>"

    def decode_page(self, body: bytes) -> Page:
        """Decode a page of a list. An object with an error is left out; the others are returned."""
        if self._kind.read is not None:
            return self._decode_items(body)
        try:
            page = self._decode_page(body)
        except _UNREADABLE:
            return self._decode_items(body)
        results = [self._check(resource) for resource in page.items or ()]
        return self._build_page(results, page.metadata)

    def decode_line(self, line: bytes) -> Change:
        """Decode a line of a watch; raises for an ERROR event and for a malformed line."""
        try:
            event = msgspec.json.decode(line, type=_Line)
            if event.type is ChangeType.ERROR:
                status = msgspec.json.decode(event.object, type=_Status)
                text = " ".join(status.message.split())[:500]
                raise KubernetesError(
                    f"the watch of {self._kind.plural} ended: {text}", status=status.code, reason=status.reason
                )
            meta = msgspec.json.decode(event.object, type=_Named).metadata
        except _UNREADABLE as error:
            raise KubernetesError(
                f"the watch of {self._kind.plural} sent a line that is not an event: {error}"
            ) from error
        key, version = self._build_key(meta), meta.resource_version or ""
        if event.type in (ChangeType.BOOKMARK, ChangeType.DELETED):
            return Change(event.type, key, version)
        result = self._decode_one(event.object, key, meta.uid or "")
        return Change(event.type, key, version, result, self._find_fault(result))

    def _decode_items(self, body: bytes) -> Page:
        """Decode a page object by object."""
        try:
            page = msgspec.json.decode(body, type=_RawPage)
        except _UNREADABLE as error:
            raise KubernetesError(f"the list of {self._kind.plural} is malformed: {error}") from error
        results = []
        for number, item in enumerate(page.items or ()):
            try:
                meta = msgspec.json.decode(item, type=_Named).metadata
            except _UNREADABLE:
                meta = _Meta(name=f"number {number}")
            results.append(self._decode_one(item, self._build_key(meta), meta.uid or ""))
        return self._build_page(results, page.metadata)

    def _build_key(self, meta: _Meta) -> ObjectKey:
        """Build the key of the object's resource."""
        return ObjectKey((meta.namespace or DEFAULT_NAMESPACE) if self._kind.is_namespaced else "", meta.name or "")

    def _decode_one(self, item: msgspec.Raw, key: ObjectKey, uid: str) -> _Result:
        try:
            if self._kind.read is None:
                return self._check(self._decode_object(item))
        except _UNREADABLE:
            pass
        try:
            # Go writes an empty required list as null, such as the endpoints of an empty slice.
            return self._check(convert_value(msgspec.json.decode(item), self._kind))
        except _UNREADABLE as error:
            return Fault(key, f"{self._kind.label} {show_key(key)} cannot be read: {error}", uid)

    def _check(self, resource: Resource) -> _Result:
        resource = fill_defaults(resource, self._kind)
        faults = list(find_faults(resource, self._kind))
        if not faults:
            self._sharer.share(resource)
            return resource
        text = f"{self._kind.label} {show_key(resource.key)} cannot be used: {'; '.join(faults)}"
        return Fault(resource.key, text, resource.metadata.uid)

    def _find_fault(self, result: _Result) -> Fault | None:
        """Find the fault of an object, whether or not it could be read."""
        if isinstance(result, Fault):
            return result
        if isinstance(result, CheckedResource) and result.faults:
            text = f"{self._kind.label} {show_key(result.key)} is not used: {'; '.join(result.faults)}"
            return Fault(result.key, text, result.metadata.uid)
        return None

    def _build_page(self, results: Sequence[_Result], meta: _ListMeta) -> Page:
        return Page(
            resources=[result for result in results if not isinstance(result, Fault)],
            faults=[fault for result in results if (fault := self._find_fault(result)) is not None],
            resource_version=meta.resource_version,
            next=meta.continue_,
        )


def show_key(key: ObjectKey) -> str:
    """Show a key; an invalid name is escaped."""
    text = str(key)
    return text if text.isprintable() and len(text) <= MAX_SHOWN_KEY else show_value(text)
