"""The proxy's half: carries the connections of each entrypoint to its servers, in turn.

Plain asyncio streams, to be read and changed: what goes over the wire is yours from here on.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from maesh_blank import BlankSettings
from maesh_core.plugin import Listener, MetricFamily, ProtocolHandler, Section, Server, StreamRouter, hookimpl

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 65536


class BlankHandler:
    """Carries the traffic of every service of this type. One for each worker."""

    name = "blank"
    transport = "TCP"
    router_type = StreamRouter

    def __init__(self) -> None:
        self._servers: Mapping[int, Sequence[Server]] = {}
        self._turns = itertools.count()
        self._under_way: set[asyncio.Task[None]] = set()
        self._opened = 0

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Any], changed: frozenset[str] | None
    ) -> Mapping[int, Sequence[Server]]:
        """Say for each entrypoint which servers it leads to."""
        return {router.entrypoint: section.services[router.service].servers for router in section.routers.values()}

    def apply_table(self, table: Mapping[int, Sequence[Server]]) -> None:
        """Route new connections by this table; those that are open go on."""
        self._servers = table

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections of an entrypoint."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - asyncio calls this in a task of its own
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self._opened += 1
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._carry(entrypoint, reader, writer)
            writer.close()

        return await asyncio.start_server(accept, sock=sock)

    async def _carry(self, entrypoint: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers = self._servers.get(entrypoint, ())
        if not servers:
            return
        server = servers[next(self._turns) % len(servers)]
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            server_reader, server_writer = await asyncio.open_connection(server.address, server.port)
        try:
            await asyncio.gather(_pump(reader, server_writer), _pump(server_reader, writer))
        finally:
            server_writer.close()

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
        """Read the counters."""
        samples = [((), float(self._opened))]
        text = "Connections accepted."
        return [MetricFamily(name="maesh_blank_connections", type="counter", help=text, labels=(), samples=samples)]


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
    def maesh_protocol_handlers(self) -> Sequence[ProtocolHandler]:
        """Give the protocols of this plugin."""
        return [BlankHandler()]
