"""The taps of a node: `/tap` on the admin port shows the records of all workers, as lines of JSON.

Takes the pool of workers and a request's parameters; returns a stream of lines for each viewer. A tap begins with its
viewer and ends with it. New workers get the taps that are active.
"""

import itertools
from urllib.parse import parse_qsl

import msgspec

from maesh_core.model.tap import parse_filter, render_dropped
from maesh_core.plain_http.client_shares import ClientShares
from maesh_core.plain_http.line_stream import LineStream
from maesh_core.proxy.workers.link import WorkerLink
from maesh_core.proxy.workers.messages import StartTap, StopTap, Tapped
from maesh_core.proxy.workers.pool import WorkerPool

CLIENT_TAPS_LIMIT = 8
"""Limit for one client address: as many as one controller has."""
TAPS_LIMIT = 3 * CLIENT_TAPS_LIMIT
"""Limit of concurrent taps of a node: each costs its workers a check of every record. Every controller follows all
proxies, and the chart starts two, so a stranger leaves all their taps to both."""
RATE = 200
"""Records that a worker sends in a second for one tap; more than a person can read."""


class TooManyTapsError(Exception):
    """The node has as many taps as it may have."""


class NodeTaps:
    """The active taps of a node. Create it in the event loop."""

    __slots__ = ("_encoder", "_numbers", "_orders", "_pool", "_shares", "_streams")

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._shares = ClientShares(limit=TAPS_LIMIT, client_limit=CLIENT_TAPS_LIMIT)
        self._encoder = msgspec.json.Encoder()
        self._numbers = itertools.count(1)
        self._orders: dict[int, StartTap] = {}
        self._streams: dict[int, LineStream] = {}
        pool.on_tapped = self._on_tapped

    def __repr__(self) -> str:
        """Show the number of taps."""
        return f"<NodeTaps {len(self._orders)} active>"

    def open(self, query: bytes, client: str) -> LineStream:
        """Open a tap with the parameters of a query. Raises ValueError with a reason, and TooManyTapsError."""
        parameters = dict(parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True))
        chosen = parse_filter(parameters)
        if not self._shares.acquire(client):
            raise TooManyTapsError
        number = next(self._numbers)
        order = self._orders[number] = StartTap(tap=number, filter=chosen, rate=RATE)
        stream = self._streams[number] = LineStream(render_dropped, on_close=lambda: self._stop(number, client))
        for link in self._pool.joined:
            link.send(order)
        return stream

    def introduce(self, link: WorkerLink) -> None:
        """Start the active taps in a new worker; one that has a tap already ignores it."""
        for order in self._orders.values():
            link.send(order)

    def close(self) -> None:
        """End all taps after the lines that wait."""
        for stream in self._streams.values():
            stream.finish()

    def _stop(self, number: int, client: str) -> None:
        del self._orders[number], self._streams[number]
        self._shares.release(client)
        for link in self._pool.joined:
            link.send(StopTap(tap=number))

    def _on_tapped(self, report: Tapped) -> None:
        stream = self._streams.get(report.tap)
        if stream is None:
            return
        for record in report.records:
            stream.put(self._encoder.encode(record) + b"\n")
        stream.note_dropped(report.dropped)
