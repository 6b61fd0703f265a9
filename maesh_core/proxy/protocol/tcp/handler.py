"""The TCP half of a proxy: entrypoint to service, and the connections that it relays.

Implements `hookspecs.ProtocolHandler`. A connection keeps the route that it began with; when its entrypoint leads
elsewhere or nowhere, it goes on until one of its ends closes it.
"""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.hookspecs import Listener
from maesh_core.model.configuration import Section, StreamRouter
from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.protocol.tcp.relay import End, Relay
from maesh_core.proxy.upstream.balancer import Balancer, build_balancer
from maesh_core.settings import CarryingSettings


class Address(NamedTuple):
    """A server. None is ever set aside: a client's connection tries them one after the other."""

    host: str
    port: int

    @property
    def aside(self) -> None:
        """Always in full use."""
        return None

    @property
    def under_way(self) -> int:
        """Not counted."""
        return 0


class TcpCounters:
    """What happened to the connections of one service."""

    __slots__ = ("closed", "failed_connects", "opened", "refused")

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.refused = 0
        self.failed_connects = 0

    def __repr__(self) -> str:
        return f"<TcpCounters opened={self.opened} closed={self.closed}>"


class TcpRoute:
    """Where an entrypoint leads."""

    __slots__ = ("_balancer", "_count", "counters", "service")

    def __init__(self, service: str, servers: Sequence[tuple[Address, int]], counters: TcpCounters) -> None:
        self.service = service
        self.counters = counters
        self._balancer: Balancer[Address] = build_balancer(servers)
        self._count = sum(weight > 0 for _, weight in servers)

    def __repr__(self) -> str:
        return f"<TcpRoute to {self.service}>"

    def list_servers(self) -> Iterator[Address]:
        """Give the servers for one connection, the one whose turn it is first, each once."""
        tried: list[Address] = []
        while len(tried) < self._count:
            server = self._balancer.pick(tried)
            if server is None or server in tried:
                return
            tried.append(server)
            yield server


class TcpTable:
    """The route of every entrypoint."""

    __slots__ = ("counters", "routes")

    def __init__(self, routes: Mapping[int, TcpRoute], counters: Mapping[str, TcpCounters]) -> None:
        self.routes = routes
        self.counters = counters


class TcpHandler:
    """Carries TCP on the entrypoints opened for it."""

    name = "tcp"
    transport = "TCP"
    router_type = StreamRouter

    def __init__(self, settings: CarryingSettings) -> None:
        self.settings = settings
        self.relays: set[Relay] = set()
        self._table = TcpTable({}, {})

    def __repr__(self) -> str:
        return f"<TcpHandler entrypoints={len(self._table.routes)} connections={len(self.relays)}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Any], changed: frozenset[str] | None
    ) -> TcpTable:
        """Build the next table; see `hookspecs.ProtocolHandler`. Routes of services that stay the same stay, too."""
        del middlewares  # `on_connect` has no caller yet, and the controller gives TCP services none
        current = self._table
        routes: dict[int, TcpRoute] = {}
        counters: dict[str, TcpCounters] = {}
        for key, router in sorted(section.routers.items(), reverse=True):
            known = current.routes.get(router.entrypoint)
            service = router.service
            counters[service] = current.counters.get(service) or TcpCounters()
            if known and known.service == service and changed is not None and not {key, service} & changed:
                routes[router.entrypoint] = known
                continue
            servers = [(Address(each.address, each.port), each.weight) for each in section.services[service].servers]
            routes[router.entrypoint] = TcpRoute(service, servers, counters[service])
        return TcpTable(routes, counters)

    def apply_table(self, table: Any) -> None:
        """Route new connections by this table from now on."""
        self._table = table

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections from `sock`."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: ClientEnd(self, entrypoint), sock=sock)

    def accept(self, client: "ClientEnd", entrypoint: int) -> None:
        """Relay a client that has connected, or turn it away."""
        route = self._table.routes.get(entrypoint)
        if route is None:
            client.reset()
        else:
            client.relay = Relay(self, route, client)

    def start_draining(self) -> None:
        """Let connections go on: TCP has no word for leaving."""

    def is_drained(self) -> bool:
        """Whether every connection has ended."""
        return not self.relays

    def abort(self) -> None:
        """Reset every connection."""
        for relay in list(self.relays):
            relay.abort()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        counters = sorted(self._table.counters.items())
        return [
            _family("maesh_tcp_connections", "counter", "TCP connections accepted.", counters, "opened"),
            _family("maesh_tcp_closed_connections", "counter", "TCP connections that ended.", counters, "closed"),
            _family(
                "maesh_tcp_refused_connections", "counter", "Closed since no server took them.", counters, "refused"
            ),
            _family(
                "maesh_tcp_failed_connects", "counter", "Servers that took no connection.", counters, "failed_connects"
            ),
        ]


def _family(
    name: str, type_: Any, text: str, counters: Sequence[tuple[str, TcpCounters]], attribute: str
) -> MetricFamily:
    samples = [((service,), float(getattr(each, attribute))) for service, each in counters]
    return MetricFamily(name=name, type=type_, help=text, labels=("service",), samples=samples)


class ClientEnd(End):
    """A client's end: paused on arrival, until a server is there."""

    __slots__ = ("_entrypoint", "_handler")

    def __init__(self, handler: TcpHandler, entrypoint: int) -> None:
        super().__init__()
        self._handler = handler
        self._entrypoint = entrypoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find a server for the client."""
        super().connection_made(transport)
        self.pause_reading()
        self._handler.accept(self, self._entrypoint)
