"""The proxy's half: carries the connections of each entrypoint to its servers, in turn.

Plain asyncio streams, to be read and changed: what goes over the wire is yours from here on. Which server is next, and
who may connect, the mesh knows (`Node.build_streams`): ask it, or access control does not hold for this protocol.
"""

import asyncio
import contextlib
import socket
from collections.abc import Collection, Mapping, Sequence

from maesh_blank import BlankSettings
from maesh_core.plugin import (
    Listener,
    MetricFamily,
    Middleware,
    Node,
    ProtocolHandler,
    Section,
    StreamRoute,
    StreamRouter,
    StreamServer,
    hookimpl,
)

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 65536


class Counters:
    """What is counted for one service."""

    def __init__(self) -> None:
        self.opened = 0


class BlankConnection:
    """A connection as middlewares see it: implements `maesh_core.plugin.Connection`."""

    exchange = None

    def __init__(self, route: StreamRoute[Counters], entrypoint: int, client_address: str) -> None:
        self.route, self.entrypoint, self.client_address = route, entrypoint, client_address
        self.service = route.service
        self.server: tuple[str, int] | None = None
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        self.would_deny = ""

    def may_use(self, server: StreamServer) -> bool:
        """Say whether the middlewares let this connection go to a server."""
        return self.allowed_servers is None or server.socket_address in self.allowed_servers


class BlankHandler:
    """Carries the traffic of every service of this type. One for each worker."""

    name = "blank"
    transport = "TCP"
    router_type = StreamRouter

    def __init__(self, node: Node) -> None:
        self._streams = node.build_streams(Counters)
        self._under_way: dict[asyncio.Task[None], BlankConnection] = {}

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> object:
        """Build the routes: for each entrypoint its servers, and the middlewares that say who may connect."""
        return self._streams.compile_table(section, middlewares=middlewares, changed=changed)

    def apply_table(self, table: object) -> None:
        """Route new connections by this table; those that are open go on, if they still may."""
        self._streams.apply_table(table)
        for task, connection in list(self._under_way.items()):
            if not self._streams.may_go_on(connection, connection.route):
                task.cancel()

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections of an entrypoint."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(entrypoint, reader, writer)
            writer.close()

        return await asyncio.start_server(accept, sock=sock)

    async def _carry(self, entrypoint: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry a connection, if the middlewares let it in and some server takes it."""
        route, task = self._streams.routes.get(entrypoint), asyncio.current_task()
        if route is None or task is None:
            return
        connection = BlankConnection(route, entrypoint, writer.get_extra_info("peername")[0])
        if not route.admits(connection):
            return
        self._under_way[task] = connection
        task.add_done_callback(lambda done: self._under_way.pop(done, None))
        route.counters.opened += 1
        for server in filter(connection.may_use, route.list_servers()):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    streams = await asyncio.open_connection(*server.socket_address)
            except OSError:  # TimeoutError, too
                server.note_failure()
                continue
            connection.server = server.socket_address
            await _join(server, (reader, writer), streams)
            return

    def start_draining(self) -> None:
        """Let connections go on: this protocol has no word for leaving."""

    def is_drained(self) -> bool:
        """Whether every connection has ended."""
        return not self._under_way

    def abort(self) -> None:
        """End every connection."""
        for task in self._under_way:
            task.cancel()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters, by the services' keys, as those of the mesh's own protocols are."""
        samples = [((service,), float(counters.opened)) for service, counters in sorted(self._streams.counters.items())]
        text = "Connections carried, by service."
        labels = ("service",)
        return [MetricFamily(name="maesh_blank_connections", type="counter", help=text, labels=labels, samples=samples)]


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(server: StreamServer, client: _Streams, upstream: _Streams) -> None:
    """Carry bytes both ways, until both sides have ended."""
    server.under_way += 1
    try:
        await asyncio.gather(_pump(client[0], upstream[1]), _pump(upstream[0], client[1]))
    finally:
        server.under_way -= 1
        upstream[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way, at the pace of the slower side, and the end of them too."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_protocol_handlers(self, node: Node) -> Sequence[ProtocolHandler]:
        """Return the protocols of this plugin."""
        return [BlankHandler(node)]
