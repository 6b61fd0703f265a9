"""The interfaces of a protocol: `TrafficType` is its half in the controller, `ProtocolHandler` its half in the proxy.

hookspecs/protocol.py has the hooks that return them. Plugins import them from `maesh_core.plugin`. Declares, and does
nothing.
"""

import socket
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.model.configuration import Section
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.middleware import Middleware

# --- protocol --------------------------------------------------------------------------------------------------------


class PortRange(msgspec.Struct, frozen=True, kw_only=True):
    """The entrypoints of a traffic type: `limit` ports from `first`.

    If it is exclusive, each service port gets an entrypoint of its own and keeps it. Otherwise services share the
    entrypoints: that of a port is `first` plus the port's index in the Service.
    """

    first: int
    limit: int
    is_exclusive: bool


class TrafficType(Protocol):
    """The controller's half of a protocol. `name` is the value of the annotation and the name of the section."""

    name: str
    transport: str
    """`TCP` or `UDP`: the protocol of suitable service ports; other ports are left out, with a notice."""
    port_range: PortRange
    has_middlewares: bool
    """Whether the annotations of middlewares have an effect on services of this type."""

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Build the routers and services of a service; pure. Annotations have no prefix.

        `entrypoints` pairs each suitable port with its entrypoint; `middlewares` are keys, outermost first. Raising
        ConfigurationError closes the service.
        """

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Build what responds in place of a service with an error; pure. The section may be empty."""


class Listener(Protocol):
    """An open entrypoint."""

    def close(self) -> None:
        """Stop accepting; accepted connections and sessions continue."""


class ProtocolHandler(Protocol):
    """The proxy's half of a protocol. It may be a `NamespacesHandler` and a `CountingHandler`."""

    name: str
    transport: str
    router_type: type[Any]
    """The frozen struct of this protocol's routers, with fields `entrypoint` and `middlewares`."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> Any:
        """Build a routing table; pure, but may reuse parts of the current one.

        `section` is the complete section of this protocol; every reference in it is checked. `middlewares` maps keys
        to compiled middlewares. `changed` has the keys of routers and services that differ from the current table; None
        means all. Raising refuses the whole update.
        """

    def apply_table(self, table: Any) -> None:
        """Use this table from now on."""

    def open_listener(self, sock: socket.socket, entrypoint: int) -> Awaitable[Listener]:
        """Serve an entrypoint on a non-blocking socket, bound and for TCP listening. The handler owns the socket."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""

    def start_draining(self) -> None:
        """Make clients reconnect elsewhere where the protocol allows it, and end idle connections and sessions."""

    def is_drained(self) -> bool:
        """Whether all connections, sessions and exchanges have ended."""

    def abort(self) -> None:
        """End all connections, sessions and exchanges immediately."""


class NamespacesHandler(ProtocolHandler, Protocol):
    """A handler whose routes depend on the namespaces of clients, such as one with `Node.build_streams`."""

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces, by address, from now on; called before the tables of the same update."""


class CountingHandler(ProtocolHandler, Protocol):
    """A handler that counts its open connections or sessions, for the log of a drain."""

    def count_under_way(self) -> int:
        """Count the open connections or sessions; called until the handler is drained."""
