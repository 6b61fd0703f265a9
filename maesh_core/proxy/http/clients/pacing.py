"""Decides when to read a client connection, how many bytes to process per turn, and how long to wait.

One turn of the event loop processes at most TURN_REQUESTS requests or TURN_BYTES of their heads, TURN_LINES lines of a
chunked body, or TURN_READS reads. The rest is buffered until other connections have had their turn, and the client is
not read in the meantime. Reading also pauses while the upstream is slower, and while HELD_LIMIT_BYTES are buffered
after the current request. Whether to read is always computed from these states, so one pause cannot cancel another.
Each wait for a peer sets `deadline`, which the handler's sweep checks.
"""

import asyncio
from abc import abstractmethod
from typing import Final

from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.transports import HELD_LIMIT_BYTES, TURN_READS
from maesh_core.proxy.http.upstreams.upstream_stream import UpstreamStream

TURN_REQUESTS: Final = 4
"""Requests of one connection that start in one turn of the event loop."""
TURN_BYTES: Final = 16384
"""Bytes of heads after which no further request starts in a turn. A chunked body is scanned in pieces of this size."""
_NEVER: Final = float("inf")


class PacedConnection(ClientStream):
    """The buffer, the pauses and the deadline of a client connection.

    `_is_eof` means that the client's FIN was read; `has_ended`, that the FIN is known to have been sent.
    """

    __slots__ = (
        "_buffer",
        "_full_reads",
        "_is_closing",
        "_is_eof",
        "_is_queued",
        "_transport",
        "_unsent",
        "deadline",
        "environment",
        "exchange",
        "has_ended",
        "is_read_paused",
        "is_write_paused",
    )

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._full_reads = 0
        self._is_closing = False
        self._is_eof = False
        self._is_queued = False
        self.has_ended = False
        self.is_read_paused = False
        self.is_write_paused = False
        self._unsent = 0
        self.deadline = _NEVER
        self.exchange: Exchange | None = None

    @abstractmethod
    def on_peer_left(self, is_broken: bool) -> None:  # noqa: FBT001 - EpollPeerWatch calls it
        """Handle the end of a client whose reading is paused."""

    @abstractmethod
    def advance(self) -> None:
        """Process the buffered requests until an exchange is in progress or the turn's limit is reached."""

    @abstractmethod
    def pass_held_body(self, exchange: Exchange) -> None:
        """Forward buffered body bytes, up to the limit of a turn."""

    # --- turns

    def _queue_turn(self) -> None:
        """Process the buffered bytes in the loop's next turn, after other connections."""
        if not self._is_queued:
            self._is_queued = True
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._stop_reading()

    def _has_turn(self) -> bool:
        """Whether a turn is queued; a method, because mypy takes for granted that an attribute did not change."""
        return self._is_queued

    def rest(self, seconds: float) -> None:
        """Process no further request for this time, so that other clients have turns."""
        if not self._is_queued:
            self._is_queued = True
            asyncio.get_running_loop().call_later(seconds, self._take_turn)
        self._stop_reading()

    def _count_full_read(self) -> None:
        """Continue in the next turn after several full reads: the loop itself keeps reading while reads are full."""
        self._full_reads += 1
        if self._full_reads >= TURN_READS:
            self._full_reads = 0
            self._queue_turn()

    def _take_turn(self) -> None:
        self._is_queued = False
        exchange = self.exchange
        if exchange is None:
            self.advance()
        elif exchange.request_left and self._buffer and not exchange.is_body_held_up:
            self.pass_held_body(exchange)
        self.resume_reading()

    # --- reading

    def pause_reading(self) -> None:
        """Pause reading the request: the upstream is slower, or not connected yet."""
        self._stop_reading()
        exchange = self.exchange
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self._wait_for_reader(self.environment.settings.upstream_body_timeout)

    def resume_reading(self) -> None:
        """Resume reading the request, starting with the buffered bytes."""
        transport, exchange = self._transport, self.exchange
        if transport is None or not self.is_read_paused or not self._may_read():
            return
        if self._buffer and exchange is not None and exchange.request_left:
            self._queue_turn()
            return
        self.is_read_paused = False
        self.environment.peer_watch.forget(transport)
        if not transport.is_closing():
            transport.resume_reading()
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self.wait_for_exchange()

    def _stop_reading(self) -> None:
        transport = self._transport
        if transport is not None and not self.is_read_paused and not self._is_eof and not transport.is_closing():
            self.is_read_paused = True
            transport.pause_reading()
            self.environment.peer_watch.watch(transport, self.on_peer_left)

    def _may_read(self) -> bool:
        """Whether to read now. The next head may be read ahead, up to the limit for heads."""
        if self._is_queued:
            return False
        exchange = self.exchange
        if exchange is None:
            return not self.is_write_paused or len(self._buffer) <= HELD_LIMIT_BYTES
        if exchange.request_left:
            return not exchange.is_body_held_up
        return len(self._buffer) <= HELD_LIMIT_BYTES

    # --- waiting

    def wait(self, seconds: float | None) -> None:
        """Set the deadline of the current wait; None means that something else limits it."""
        self.deadline = _NEVER if seconds is None else self.environment.clock.now + seconds

    def wait_for_exchange(self) -> None:
        """Wait for what comes next: the rest of the request, the response's head, or the rest of the response."""
        if self.exchange is not None:
            self.wait(self.exchange.wait_s)

    def _wait_for_reader(self, seconds: float) -> None:
        """Wait for the peer to read what was written; see on_deadline()."""
        self._unsent = self._count_unsent()
        self.wait(seconds)

    def _count_unsent(self) -> int:
        """Return the number of bytes that were written to either side and are not sent yet."""
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if self.exchange is not None and self.exchange.upstream is not None:
            unsent += self.exchange.upstream.unsent_bytes
        return unsent

    def on_upstream_ready(self, upstream: UpstreamStream) -> None:
        """Resume reading, which was paused because there was no upstream."""
        if self.is_write_paused:
            upstream.pause_reading()
        self.resume_reading()

    def on_progress(self) -> None:
        """Restart the wait: bytes of the response were forwarded."""
        settings = self.environment.settings
        self.wait(settings.body_timeout if self.is_write_paused else settings.upstream_body_timeout)
