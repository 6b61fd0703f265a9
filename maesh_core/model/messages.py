"""What crosses the wire between controller and proxies, and what the controller's API reports.

Parses and renders; both sides use the same structs. A received update is untrusted: it is taken whole or refused
with UpdateRejectedError.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import Middleware, PortStatus, Section, Service

FIXED_FIELDS = frozenset({"revision", "full", "plugins", "removed"})
"""Fields of the document that are no protocol's section."""

RawSections: TypeAlias = dict[str, dict[str, dict[str, msgspec.Raw]]]
"""Objects that are encoded already, by protocol, noun and key."""

_USUAL_PROTOCOLS = ("http", "tcp", "udp")
_EMPTY_SECTION = Section()
"""Stands in the document for each usual protocol of which there is nothing to say."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration, or what changed in it since the revision that was asked for.

    `revision` is opaque, `<epoch>.<n>`. `plugins` names what the controller has enabled. `removed` holds wire paths
    (model/keys.py) and is empty when `full`. `sections` is keyed by protocol.
    """

    revision: str
    full: bool
    plugins: tuple[str, ...] = ()
    sections: Mapping[str, Section] = {}
    removed: tuple[str, ...] = ()


class _RawSection(msgspec.Struct, kw_only=True):
    routers: dict[str, msgspec.Raw] = {}
    services: dict[str, Service] = {}
    middlewares: dict[str, Middleware] = {}


class _Head(msgspec.Struct, kw_only=True):
    revision: str
    full: bool
    plugins: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


_HEAD_DECODER = msgspec.json.Decoder(_Head)
_PARTS_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SECTION_DECODER = msgspec.json.Decoder(_RawSection)


def parse_update(body: bytes, router_types: Mapping[str, type[Any]]) -> Update:
    """Decode the answer to a pull.

    `router_types` maps each protocol that this proxy has loaded to the struct of its routers; routers of another
    protocol stay plain dicts, so that they can be refused by name. Raises UpdateRejectedError.
    """
    try:
        head = _HEAD_DECODER.decode(body)
        parts = _PARTS_DECODER.decode(body)
        sections = {
            protocol: _parse_section(raw, router_types.get(protocol, dict[str, Any]))
            for protocol, raw in parts.items()
            if protocol not in FIXED_FIELDS
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRejectedError(f"not a configuration: {error}") from error
    return Update(revision=head.revision, full=head.full, plugins=head.plugins, sections=sections, removed=head.removed)


def _parse_section(raw: msgspec.Raw, router_type: Any) -> Section:
    section = _SECTION_DECODER.decode(raw)
    decode = msgspec.json.Decoder(router_type).decode
    routers = {key: decode(router) for key, router in section.routers.items()}
    return Section(routers=routers, services=section.services, middlewares=section.middlewares)


def render_update(update: Update) -> bytes:
    """Encode an update as the JSON document that proxies pull."""
    return render_sections(
        update.revision, update.sections, is_full=update.full, plugins=update.plugins, removed=update.removed
    )


def render_sections(
    revision: str,
    sections: Mapping[str, Section] | RawSections,
    *,
    is_full: bool,
    plugins: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
) -> bytes:
    """Encode the same document from sections whose objects may be encoded already; those are copied as they are."""
    document: dict[str, Any] = {
        "revision": revision,
        "full": is_full,
        "plugins": plugins,
        **dict.fromkeys(_USUAL_PROTOCOLS, _EMPTY_SECTION),
        **sections,
        "removed": removed,
    }
    return msgspec.json.encode(document)


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One service in `/api/services`. `entrypoint` is left out of a port that no proxy carries."""

    namespace: str
    name: str
    host: str
    traffic_type: str | None
    ports: tuple[PortStatus, ...]
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class PodReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One pod in `/api/pods`. `addresses` are in their canonical spelling, the pod's first one first.

    One on the host's network has its node's addresses. One that has ended may have lost its own to another pod.
    """

    namespace: str
    name: str
    service_account: str
    addresses: tuple[str, ...] = ()
    host_network: bool = False
    ended: bool = False

    @property
    def account(self) -> str:
        """Its service account as the topology names it: `name@namespace`."""
        return f"{self.service_account}@{self.namespace}"


class PodsReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer of `/api/pods`: the pods of one name or address, sorted, and how many more there are.

    Where there is no pod of a name, `nearest` are those whose names are nearest to it, as `namespace/name`.
    """

    pods: tuple[PodReport, ...] = ()
    more: int = 0
    nearest: tuple[str, ...] = ()


class ObjectReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object in `/api/objects`, of those with errors or notices.

    `origin` is the place in a file, or else the source that knows the object. What is no object, such as a file, has an
    origin alone.
    """

    kind: str = ""
    namespace: str = ""
    name: str = ""
    origin: str = ""
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One proxy in `/api/status/nodes`; `last_seen` is an RFC 3339 time in UTC."""

    name: str
    ip: str
    ready: bool
    revision: str | None
    last_seen: str


class ControllerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A controller in `/api/status/controller`; `problems` is what it could not read, by where."""

    name: str
    ready: bool
    leads: bool
    leader: str
    revision: str
    problems: Mapping[str, str] = {}
