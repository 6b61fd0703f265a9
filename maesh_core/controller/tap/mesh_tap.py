"""The taps of the mesh: each merges the taps of all proxies into one stream of lines for one viewer.

Takes a finder of proxies, a client, and the cluster's objects. What proxies send is untrusted: a line that is not a
record is ignored. The number of taps, of connections to proxies, and of records in a second are limited.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from maesh_core.controller.mesh_proxies.finder import Finder
from maesh_core.controller.tap.proxy_streams import ProxyStreams, TapClient
from maesh_core.controller.tap.selection import Selection, is_named, name_source, parse_selection
from maesh_core.controller.traffic.callers import Objects, find_caller
from maesh_core.controller.traffic.report import list_destinations, list_ports
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.tap import TapDrops, TapError, TappedRecord, cut_texts, render_dropped
from maesh_core.model.topology import ServiceNode
from maesh_core.plain_http.client_shares import ClientShares
from maesh_core.plain_http.line_stream import LineStream

TAPS_LIMIT = 8
"""Limit of concurrent taps; a proxy allows as many for each controller."""
CLIENT_TAPS_LIMIT = 4
"""Limit for one client address, so that one client leaves taps to others."""
RATE = 1000
"""Limit of the records of one tap in a second, which take about 1 % of a core. Above it, each proxy has an equal share,
so that a proxy with many records does not hide those of others."""
DROPS_LIMIT = 1_000_000_000
"""The largest number of dropped records that is believed at once."""
WINDOW_S = 1.0

_log = logging.getLogger(__name__)
_decode_record = msgspec.json.Decoder(TappedRecord).decode
_decode_drops = msgspec.json.Decoder(TapDrops).decode


class TooManyTapsError(Exception):
    """The controller has as many taps as it may have."""


class Mesh(Protocol):
    """The cluster's objects and the services of the mesh: the engine."""

    @property
    def objects(self) -> Objects: ...  # noqa: D102

    def find_service_node(self, key: ObjectKey) -> ServiceNode | None: ...  # noqa: D102


class MeshTaps:
    """The active taps. Close it when done."""

    __slots__ = ("_client", "_finder", "_mesh", "_shares", "_taps")

    def __init__(self, finder: Finder, client: TapClient, mesh: Mesh) -> None:
        self._shares = ClientShares(limit=TAPS_LIMIT, client_limit=CLIENT_TAPS_LIMIT)
        self._finder = finder
        self._client = client
        self._mesh = mesh
        self._taps: dict[_Tap, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<MeshTaps {len(self._taps)} active>"

    def open(self, parameters: Mapping[str, str], client: str) -> LineStream:
        """Open a tap with a query's parameters. Raises ValueError with a reason, and TooManyTapsError."""
        selection = parse_selection(parameters)
        if not self._shares.acquire(client):
            raise TooManyTapsError
        tap = _Tap(selection, self._mesh)
        query = urlencode(selection.parameters)
        tap.streams = ProxyStreams(self._client, query, tap, count_spare=self._count_spare)
        task = self._taps[tap] = asyncio.create_task(tap.streams.run(self._finder))

        def stop() -> None:
            task.cancel()

        def on_done(done: "asyncio.Task[None]") -> None:
            del self._taps[tap]
            self._shares.release(client)
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("a tap failed", exc_info=error)
            tap.lines.finish()

        tap.lines = LineStream(render_dropped, on_close=stop)
        task.add_done_callback(on_done)
        return tap.lines

    def finish(self) -> None:
        """End all taps after the lines that wait."""
        for tap in self._taps:
            tap.lines.finish()

    async def close(self) -> None:
        """End all taps, and close the connections to proxies."""
        tasks = list(self._taps.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def _count_spare(self) -> int:
        return self._client.connections_limit - sum(len(tap.streams) for tap in self._taps)


class _Tap:
    """One viewer's tap: what the viewer is shown of the lines of proxies. Implements proxy_streams.Viewer."""

    __slots__ = ("_left", "_mesh", "_received", "_selection", "_window_s", "lines", "streams")

    lines: LineStream
    streams: ProxyStreams

    def __init__(self, selection: Selection, mesh: Mesh) -> None:
        self._selection = selection
        self._mesh = mesh
        self._left = selection.limit
        self._received: Counter[str] = Counter()
        self._window_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<_Tap of {self.streams!r}>"

    def on_missing(self, error: TapError) -> None:
        """Send a line that records are missing."""
        self.lines.put(msgspec.json.encode(error) + b"\n")

    def on_line(self, name: str, line: bytes) -> None:
        """Show the record of a line of a proxy; above the rate, the line is dropped without being decoded."""
        is_above_rate = self._is_above_rate(name)
        try:
            if line.startswith(b'{"dropped"'):
                self.lines.note_dropped(min(_decode_drops(line).dropped, DROPS_LIMIT))
            elif is_above_rate:
                self.lines.note_dropped(1)
            else:
                self._show(_decode_record(line))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError):
            pass  # not a record: whatever answers there is no proxy of this version

    def _is_above_rate(self, name: str) -> bool:
        """Count a line; return whether there are too many, and this proxy has had its share of them."""
        now_s, received = time.monotonic(), self._received
        if now_s - self._window_s >= WINDOW_S:
            self._window_s = now_s
            received.clear()
        received[name] += 1
        return received[name] * len(self.streams) > RATE and received.total() > RATE

    def _show(self, record: TappedRecord) -> None:
        if self._left == 0:
            return
        caller = find_caller(self._mesh.objects, record.client)
        if self._selection.source and not is_named(caller, self._selection.source):
            return
        destination = name_destination(self._mesh, record)
        named = msgspec.structs.replace(record, source=name_source(caller), destination=destination)
        is_shown = self.lines.put(msgspec.json.encode(cut_texts(named)) + b"\n")
        if is_shown and self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.lines.finish()


def name_destination(mesh: Mesh, record: TappedRecord) -> str:
    """Name the service port that received a record's traffic; a proxy may name the part of a branch instead."""
    if record.destination in ("", record.service):
        return record.destination
    namespace, _, name = record.service.partition(":")[0].partition("/")
    key = ObjectKey(namespace, name)
    node = mesh.find_service_node(key)
    for port in list_ports(node) if node is not None else ():
        if build_port_key(key, port.number) == record.service:
            return list_destinations(record.service, port).get(record.destination, record.destination)
    return record.destination
