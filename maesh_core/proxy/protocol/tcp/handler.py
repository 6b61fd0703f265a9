"""The TCP half of a proxy: entrypoint to service, and the connections that it relays.

Implements `hookspecs.ProtocolHandler`. Sockets are this module's own, on an edge-triggered epoll (proxy/edges.py). A
connection keeps the route that it began with; when its entrypoint leads elsewhere or nowhere, it goes on until one of
its ends closes it.
"""

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maesh_core.hookspecs import Listener, Ticks
from maesh_core.model.configuration import Section, StreamRouter
from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.edges import EdgePoller
from maesh_core.proxy.protocol.tcp.flow import BUFFER_BYTES
from maesh_core.proxy.protocol.tcp.pipes import PipePool
from maesh_core.proxy.protocol.tcp.relay import RESET, Relay
from maesh_core.proxy.upstream.balancer import AnyBalancer, build_balancer
from maesh_core.settings import CarryingSettings

ACCEPTS_IN_A_TURN = 64
ACCEPT_PAUSE_S = 0.25
"""When there are no descriptors left, clients wait in the kernel's queue this long."""
_OF_THE_CLIENT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of accepting that say something of one client alone (accept(2))."""
_logger = logging.getLogger(__name__)


class TcpServer:
    """A server. None is ever set aside: a client's connection tries them one after the other."""

    __slots__ = ("address", "family", "under_way")

    aside = None
    """Always in full use."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.under_way = 0

    def __repr__(self) -> str:
        return f"<TcpServer {self.address} connections={self.under_way}>"


class TcpCounters:
    """What happened to the connections of one service."""

    __slots__ = ("closed", "failed_connects", "opened", "received_bytes", "refused", "sent_bytes")

    def __init__(self) -> None:
        self.opened = self.closed = self.refused = self.failed_connects = 0
        self.received_bytes = self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<TcpCounters opened={self.opened} closed={self.closed}>"


class TcpRoute:
    """Where an entrypoint leads."""

    __slots__ = ("_count", "balancer", "counters", "service")

    def __init__(
        self,
        service: str,
        servers: Sequence[tuple[TcpServer, int]],
        counters: TcpCounters,
        *,
        kind: str,
        former: AnyBalancer[TcpServer] | None = None,
    ) -> None:
        self.service = service
        self.counters = counters
        self.balancer: AnyBalancer[TcpServer] = build_balancer(servers, kind, former=former)
        self._count = sum(weight > 0 for _, weight in servers)

    def __repr__(self) -> str:
        return f"<TcpRoute to {self.service}>"

    def list_servers(self) -> Iterator[TcpServer]:
        """Give the servers for one connection, the one whose turn it is first, each once."""
        tried: list[TcpServer] = []
        while len(tried) < self._count:
            server = self.balancer.pick(tried)
            if server is None or server in tried:
                return
            tried.append(server)
            yield server


class TcpTable:
    """The route of every entrypoint, and the servers that they lead to."""

    __slots__ = ("counters", "routes", "servers")

    def __init__(
        self,
        routes: Mapping[int, TcpRoute],
        counters: Mapping[str, TcpCounters],
        servers: Mapping[tuple[str, int], TcpServer],
    ) -> None:
        self.routes = routes
        self.counters = counters
        self.servers = servers

    def __repr__(self) -> str:
        return f"<TcpTable {len(self.routes)} entrypoints>"


class TcpHandler:
    """Carries TCP on the entrypoints opened for it. To be made in the loop."""

    name = "tcp"
    transport = "TCP"
    router_type = StreamRouter

    def __init__(self, settings: CarryingSettings, clock: Ticks) -> None:
        self.settings = settings
        self.clock = clock
        self.poller = EdgePoller(asyncio.get_running_loop())
        self.pipes = PipePool()
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.relays: set[Relay] = set()
        self.connecting: set[Relay] = set()
        """Those that no server has taken yet."""
        self._table = TcpTable({}, {}, {})
        clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<TcpHandler entrypoints={len(self._table.routes)} connections={len(self.relays)}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Any], changed: frozenset[str] | None
    ) -> TcpTable:
        """Build the next table; see `hookspecs.ProtocolHandler`. Routes of services that stay the same stay, too."""
        del middlewares  # the controller gives TCP services none
        current = self._table
        routes: dict[int, TcpRoute] = {}
        counters: dict[str, TcpCounters] = {}
        servers: dict[tuple[str, int], TcpServer] = {}
        for key, router in sorted(section.routers.items(), reverse=True):
            known = current.routes.get(router.entrypoint)
            service = section.services[router.service]
            for each in service.servers:
                address = (each.address, each.port)
                if address not in servers:
                    servers[address] = current.servers.get(address) or TcpServer(*address)
            counters[router.service] = current.counters.get(router.service) or TcpCounters()
            is_known = known is not None and known.service == router.service
            if known and is_known and changed is not None and not {key, router.service} & changed:
                routes[router.entrypoint] = known
                continue
            routes[router.entrypoint] = TcpRoute(
                router.service,
                [(servers[each.address, each.port], each.weight) for each in service.servers],
                counters[router.service],
                kind=service.load_balancer,
                former=known.balancer if known and is_known else None,
            )
        return TcpTable(routes, counters, servers)

    def apply_table(self, table: Any) -> None:
        """Route new connections by this table from now on."""
        self._table = table

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections from `sock`."""
        return TcpListener(self, sock, entrypoint)

    def accept(self, client: socket.socket, client_address: str, entrypoint: int) -> None:
        """Relay a client that has connected, or turn it away."""
        route = self._table.routes.get(entrypoint)
        if route is None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        route.counters.opened += 1
        relay = Relay(self, route, client, client_address)
        self.relays.add(relay)
        relay.connect()

    def forget(self, relay: Relay) -> None:
        """Note that a relay's sockets are closed."""
        self.relays.discard(relay)
        relay.route.counters.closed += 1

    def start_draining(self) -> None:
        """Let connections go on: TCP has no word for leaving."""

    def is_drained(self) -> bool:
        """Whether every connection has ended."""
        return not self.relays

    def abort(self) -> None:
        """Reset every connection."""
        for relay in list(self.relays):
            relay.abort()
        self.pipes.close()
        self.poller.close()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        counters = sorted(self._table.counters.items())
        return [
            _family("maesh_tcp_connections", "TCP connections accepted.", counters, "opened"),
            _family("maesh_tcp_closed_connections", "TCP connections that ended.", counters, "closed"),
            _family("maesh_tcp_refused_connections", "Closed since no server took them.", counters, "refused"),
            _family("maesh_tcp_failed_connects", "Servers that took no connection.", counters, "failed_connects"),
            _family("maesh_tcp_received_bytes", "Bytes of clients that ended.", counters, "received_bytes"),
            _family("maesh_tcp_sent_bytes", "Bytes sent to clients that ended.", counters, "sent_bytes"),
        ]

    def _sweep(self, now: float) -> None:
        """End what waits too long: for a server, or for a byte of either side."""
        connect_limit, idle_limit = self.settings.connect_timeout, self.settings.tunnel_timeout
        for relay in list(self.connecting):
            if now - relay.active_at > connect_limit > 0:
                relay.give_up_connecting()
        for relay in self.relays - self.connecting if idle_limit else ():
            if now - relay.active_at > idle_limit:
                relay.abort()


class TcpListener:
    """Accepts the clients of one entrypoint on one socket."""

    def __init__(self, handler: TcpHandler, sock: socket.socket, entrypoint: int) -> None:
        self._handler = handler
        self._sock = sock
        self._entrypoint = entrypoint
        self._is_open = True
        self._has_failed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler.poller.watch(sock.fileno(), self._on_event, select.EPOLLIN | select.EPOLLET)

    def __repr__(self) -> str:
        return f"<TcpListener {self._entrypoint}>"

    def close(self) -> None:
        """Stop accepting; what was accepted goes on."""
        if self._is_open:
            self._is_open = False
            self._handler.poller.forget(self._sock.fileno())
            self._sock.close()

    def _on_event(self, events: int) -> None:
        self._accept()

    def _accept(self) -> None:
        """Accept who waits, some at a time."""
        for _ in range(ACCEPTS_IN_A_TURN if self._is_open else 0):
            try:
                client, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OF_THE_CLIENT:
                    continue
                if not self._has_failed:
                    _logger.error("no connection can be accepted on %d: %s", self._entrypoint, error.strerror)
                self._has_failed = True
                asyncio.get_running_loop().call_later(ACCEPT_PAUSE_S, self._accept)
                return
            self._has_failed = False
            client.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._handler.accept(client, address[0], self._entrypoint)
        if self._is_open:
            self._handler.poller.put_off(self._accept)


def _family(name: str, text: str, counters: Sequence[tuple[str, TcpCounters]], attribute: str) -> MetricFamily:
    samples = [((service,), float(getattr(each, attribute))) for service, each in counters]
    return MetricFamily(name=name, type="counter", help=text, labels=("service",), samples=samples)
