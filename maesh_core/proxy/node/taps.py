"""The taps of a node: `/tap` on the admin port shows the records of all workers, as lines of JSON.

Takes the pool of workers and a request's parameters; returns a stream of lines for each viewer. A tap begins with its
viewer and ends with it. New workers get the taps that are active.
"""

import itertools
from urllib.parse import parse_qsl

import msgspec

from maesh_core.model.tap import TapDrops, parse_filter
from maesh_core.plain_http.line_stream import LineStream
from maesh_core.proxy.workers.link import WorkerLink
from maesh_core.proxy.workers.messages import StartTap, StopTap, Tapped
from maesh_core.proxy.workers.pool import WorkerPool

TAPS_LIMIT = 8
"""Limit of concurrent taps of a node: each costs its workers a check of every record."""
RATE = 200
"""Records that a worker sends in a second for one tap; more than a person can read."""


class TooManyTapsError(Exception):
    """The node has as many taps as it may have."""


class NodeTaps:
    """The active taps of a node. Create it in the event loop."""

    __slots__ = ("_encoder", "_numbers", "_orders", "_pool", "_streams")

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._encoder = msgspec.json.Encoder()
        self._numbers = itertools.count(1)
        self._orders: dict[int, StartTap] = {}
        self._streams: dict[int, LineStream] = {}
        pool.on_tapped = self._on_tapped

    def __repr__(self) -> str:
        """Show the number of taps."""
        return f"<NodeTaps {len(self._orders)} active>"

    def open(self, query: bytes) -> LineStream:
        """Open a tap with the parameters of a query. Raises ValueError with a reason, and TooManyTapsError."""
        parameters = dict(parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True))
        chosen = parse_filter(parameters)
        if len(self._orders) >= TAPS_LIMIT:
            raise TooManyTapsError
        number = next(self._numbers)
        order = self._orders[number] = StartTap(tap=number, filter=chosen, rate=RATE)
        stream = self._streams[number] = LineStream(render_dropped, on_close=lambda: self._stop(number))
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

    def _stop(self, number: int) -> None:
        del self._orders[number], self._streams[number]
        for link in self._pool.joined:
            link.send(StopTap(tap=number))

    def _on_tapped(self, report: Tapped) -> None:
        stream = self._streams.get(report.tap)
        if stream is None:
            return
        for record in report.records:
            stream.put(self._encoder.encode(record) + b"\n")
        stream.note_dropped(report.dropped)


def render_dropped(count: int) -> bytes:
    """Render the line that says how many records were dropped."""
    return msgspec.json.encode(TapDrops(count)) + b"\n"
