"""The messages between controller and proxies, and the reports of the controller's API.

Parses and renders them; both sides use the same structs. A received update is untrusted: it is accepted as a whole, or
refused with UpdateRejectedError.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import Middleware, PortStatus, Section, Service
from maesh_core.model.optional_sections import ADDRESSES, CLIENTS, PODS, SECTION_FORMS, SOURCES, TRANSPORT
from maesh_core.model.transport import ClientEntry, TransportSection

FIXED_FIELDS = frozenset({"revision", "full", "plugins", "removed", *SECTION_FORMS})
"""Fields of the document that are not a protocol's section."""

RawSections: TypeAlias = dict[str, dict[str, dict[str, msgspec.Raw]]]
"""Encoded objects, by protocol, noun and key."""

_USUAL_PROTOCOLS = ("http", "tcp", "udp")
_EMPTY_SECTION = Section()
"""The content of a usual protocol without objects in the document."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration, or the changes since the requested revision.

    `revision` is opaque, `<epoch>.<n>`. `plugins` lists the controller's enabled plugins. `removed` contains wire paths
    (model/keys.py) and is empty if `full`. `sections` is keyed by protocol. `transport`, and `pods`, which are names by
    address, are None if the document has no such section, and wherever it is not read.
    """

    revision: str
    full: bool
    plugins: tuple[str, ...] = ()
    sections: Mapping[str, Section] = {}
    removed: tuple[str, ...] = ()
    transport: TransportSection | None = None
    pods: Mapping[str, str] | None = None
    clients: Mapping[str, str] | None = None
    """The namespaces of clients by address; None if the document has no such section."""


class _RawSection(msgspec.Struct, kw_only=True):
    routers: dict[str, msgspec.Raw] = {}
    services: dict[str, Service] = {}
    middlewares: dict[str, Middleware] = {}


class _RawTransport(msgspec.Struct, kw_only=True):
    nodes: dict[str, msgspec.Raw] = {}
    clients: dict[str, ClientEntry] = {}


class _RawPods(msgspec.Struct, kw_only=True):
    addresses: dict[str, str] = {}


class _RawClients(msgspec.Struct, kw_only=True):
    sources: dict[str, str] = {}


class UpdateHead(msgspec.Struct, kw_only=True):
    """What a document says of itself, beside its sections."""

    revision: str
    full: bool
    plugins: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


_HEAD_DECODER = msgspec.json.Decoder(UpdateHead)
_PARTS_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SECTION_DECODER = msgspec.json.Decoder(_RawSection)
_TRANSPORT_DECODER = msgspec.json.Decoder(_RawTransport)
_PODS_DECODER = msgspec.json.Decoder(_RawPods)
_CLIENTS_DECODER = msgspec.json.Decoder(_RawClients)


def parse_update(
    body: bytes,
    router_types: Mapping[str, type[Any]],
    *,
    node_type: type[Any] | None = None,
    reads_clients: bool = False,
    reads_pods: bool = False,
) -> Update:
    """Decode the response to a pull.

    `router_types` maps each protocol that this proxy has loaded to the struct of its routers; routers of other
    protocols remain plain dicts, so that they can be refused by name. `node_type` is the struct in which the transport
    describes nodes; None if there is no transport, which then needs no section, unless `reads_clients` is set. The
    names of pods are only decoded with `reads_pods`. Raises UpdateRejectedError.
    """
    try:
        head = _HEAD_DECODER.decode(body)
        parts = _PARTS_DECODER.decode(body)
        sections = {
            protocol: _parse_section(raw, router_types.get(protocol, dict[str, Any]))
            for protocol, raw in parts.items()
            if protocol not in FIXED_FIELDS
        }
        has_transport = (node_type is not None or reads_clients) and TRANSPORT in parts
        transport = _parse_transport(parts[TRANSPORT], node_type) if has_transport else None
        pods = _PODS_DECODER.decode(parts[PODS]).addresses if reads_pods and PODS in parts else None
        clients = _CLIENTS_DECODER.decode(parts[CLIENTS]).sources if CLIENTS in parts else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRejectedError(f"not a configuration: {error}") from error
    return Update(
        revision=head.revision,
        full=head.full,
        plugins=head.plugins,
        sections=sections,
        removed=head.removed,
        transport=transport,
        pods=pods,
        clients=clients,
    )


def _parse_transport(raw: msgspec.Raw, node_type: Any) -> TransportSection:
    section = _TRANSPORT_DECODER.decode(raw)
    if node_type is None:
        return TransportSection(clients=section.clients)
    decode = msgspec.json.Decoder(node_type).decode
    nodes = {name: decode(node) for name, node in section.nodes.items()}
    return TransportSection(nodes=nodes, clients=section.clients)


def _parse_section(raw: msgspec.Raw, router_type: Any) -> Section:
    section = _SECTION_DECODER.decode(raw)
    decode = msgspec.json.Decoder(router_type).decode
    routers = {key: decode(router) for key, router in section.routers.items()}
    return Section(routers=routers, services=section.services, middlewares=section.middlewares)


def render_update(update: Update) -> bytes:
    """Encode an update as the JSON document that proxies pull."""
    optional: dict[str, Any] = {TRANSPORT: update.transport}
    if update.pods is not None:
        optional[PODS] = {ADDRESSES: update.pods}
    if update.clients is not None:
        optional[CLIENTS] = {SOURCES: update.clients}
    return render_sections(
        update.revision,
        {**update.sections, **{name: section for name, section in optional.items() if section is not None}},
        is_full=update.full,
        plugins=update.plugins,
        removed=update.removed,
    )


def render_sections(
    revision: str,
    sections: Mapping[str, Any],
    *,
    is_full: bool,
    plugins: tuple[str, ...] = (),
    removed: tuple[str, ...] = (),
) -> bytes:
    """Encode the same document from sections whose objects may already be encoded; those are copied unchanged.

    The sections may include those of SECTION_FORMS.
    """
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
    """One service in `/api/services`. A port that no proxy serves has no `entrypoint`.

    `encryption` is the mode of the service, if there is a transport (model/transport.py).
    """

    namespace: str
    name: str
    host: str
    traffic_type: str | None
    ports: tuple[PortStatus, ...]
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    encryption: str | msgspec.UnsetType = msgspec.UNSET


class PodReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One pod in `/api/pods`. `addresses` are in canonical form, the pod's first one first.

    A pod on the host's network has its node's addresses. The address of a pod that has ended may belong to another pod.
    """

    namespace: str
    name: str
    service_account: str
    addresses: tuple[str, ...] = ()
    host_network: bool = False
    ended: bool = False

    @property
    def account(self) -> str:
        """Its service account in the form of the topology: `name@namespace`."""
        return f"{self.service_account}@{self.namespace}"


class PodsReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The response of `/api/pods`: the pods of one name or address, sorted, and the number of further ones.

    If there is no pod with the name, `nearest` has those with the most similar names, as `namespace/name`.
    """

    pods: tuple[PodReport, ...] = ()
    more: int = 0
    nearest: tuple[str, ...] = ()


class ObjectReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One object with errors or notices in `/api/objects`.

    `origin` is the place in a file, or else the source of the object. An entry that is not about an object, such as one
    about a file, only has an origin.
    """

    kind: str = ""
    namespace: str = ""
    name: str = ""
    origin: str = ""
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class TransportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy reports of its transport, such as its certificate, and what the transport's plugin makes of it.

    `facts` are those that the plugin accepts, by name. `problem` is empty if there is none.
    """

    facts: Mapping[str, str] = {}
    summary: str = ""
    problem: str = ""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One proxy in `/api/status/nodes`; `last_seen` is an RFC 3339 time in UTC.

    `ready` means that the controller answered a pull within 90 s. A proxy is `refused` if it has only sent pulls since
    then that the controller could not answer: it keeps its configuration, and routes traffic by it. `admin_tls`: its
    admin port uses TLS, with the certificate of its node. `shared_ports` is only set if several proxies pull with this
    name from this address: it has their admin ports, and the other fields are those of one of them.
    """

    name: str
    ip: str
    ready: bool
    revision: str | None
    last_seen: str
    admin_port: int | None = None
    refused: bool = False
    transport: TransportReport | msgspec.UnsetType = msgspec.UNSET
    admin_tls: bool = False
    shared_ports: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_active(self) -> bool:
        """Whether it sent a pull within 90 s, so that its admin port should answer."""
        return self.ready or self.refused


class ControllerReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A controller in `/api/status/controller`; `problems` is what it could not read, by origin.

    `version` is that of Maesh, and `plugins` are those that are enabled; empty in reports of earlier versions.
    """

    name: str
    ready: bool
    leads: bool
    leader: str
    revision: str
    problems: Mapping[str, str] = {}
    version: str = ""
    plugins: tuple[str, ...] = ()
