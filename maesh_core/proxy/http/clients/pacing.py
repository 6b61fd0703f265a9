"""When a client's connection is read, how much is done with its bytes in one go, and how long it is waited for.

A turn of the event loop is short: TURN_REQUESTS requests or TURN_BYTES of their heads, TURN_LINES lines of a chunked
body, or TURN_READS reads. What is left over is held until other connections had their turn, and the client is not read
meanwhile; neither is one whose upstream is slower, or one that holds HELD_LIMIT_BYTES behind the current request.
Whether a transport is read follows from these states alone, so no pause can undo another. What has to wait for a peer
carries `deadline`, which the handler's sweep looks at.
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
"""Requests of one connection that begin in one turn of the event loop."""
TURN_BYTES: Final = 16384
"""Bytes of heads after which no other request begins in a turn, and bytes of a chunked body that a later turn scans."""
_NEVER: Final = float("inf")


class PacedConnection(ClientStream):
    """What a client's connection holds and waits for.

    `_is_eof` says that the end of the client's bytes was read; `has_ended`, that it is known to come.
    """

    __slots__ = (
        "_buffer",
        "_full_reads",
        "_is_closing",
        "_is_eof",
        "_is_queued",
        "_transport",
        "_unsent",
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
    def on_departure(self, is_broken: bool) -> None:  # noqa: FBT001 - Departures calls it
        """Take the end of a client that is not read now."""

    @abstractmethod
    def advance(self) -> None:
        """Work through the requests that are held, while no exchange is under way and the turn lasts."""

    @abstractmethod
    def pass_held_body(self, exchange: Exchange) -> None:
        """Pass on what is held of a body, as much of it as a turn allows."""

    # --- turns

    def _queue_turn(self) -> None:
        """Leave what is held for the loop's next turn, when other connections have had theirs."""
        if not self._is_queued:
            self._is_queued = True
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._stop_reading()

    def _count_full_read(self) -> None:
        """Leave more of a stream for the next turn: the loop reads on at once while reads are full."""
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
        """Take no more of the request: the upstream is slower, or absent."""
        self._stop_reading()
        exchange = self.exchange
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self._wait_for_taker(self.environment.settings.upstream_body_timeout)

    def resume_reading(self) -> None:
        """Take more of the request, of what is held first."""
        transport, exchange = self._transport, self.exchange
        if transport is None or not self.is_read_paused or not self._may_read():
            return
        if self._buffer and exchange is not None and exchange.request_left:
            self._queue_turn()
            return
        self.is_read_paused = False
        self.environment.departures.forget(transport)
        if not transport.is_closing():
            transport.resume_reading()
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self.wait_for_exchange()

    def _stop_reading(self) -> None:
        transport = self._transport
        if transport is not None and not self.is_read_paused and not self._is_eof and not transport.is_closing():
            self.is_read_paused = True
            transport.pause_reading()
            self.environment.departures.watch(transport, self.on_departure)

    def _may_read(self) -> bool:
        """Whether bytes may be read now; those of a head that is due may be read ahead, up to its own limit."""
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
        """Let the sweep end the current wait after so many seconds; None while something else limits it."""
        self.deadline = _NEVER if seconds is None else self.environment.clock.now + seconds

    def wait_for_exchange(self) -> None:
        """Wait for what the exchange needs next: the rest of the request, the response's head, the rest of that."""
        settings, exchange = self.environment.settings, self.exchange
        if exchange is None:
            return
        if exchange.has_started_response or (exchange.request_left and self.is_read_paused):
            self.wait(settings.upstream_body_timeout)
        elif exchange.request_left and not exchange.is_expecting:
            self.wait(settings.body_timeout)
        else:
            self.wait(settings.response_timeout)

    def _wait_for_taker(self, seconds: float) -> None:
        """Wait for somebody to take what was written; see on_deadline()."""
        self._unsent = self._count_unsent()
        self.wait(seconds)

    def _count_unsent(self) -> int:
        """Count the bytes that were written to either side and are not taken yet."""
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if self.exchange is not None and self.exchange.upstream is not None:
            unsent += self.exchange.upstream.unsent_bytes
        return unsent

    def on_upstream_ready(self, upstream: UpstreamStream) -> None:
        """Read what was held back for want of an upstream."""
        if self.is_write_paused:
            upstream.pause_reading()
        self.resume_reading()

    def on_progress(self) -> None:
        """Restart the wait: bytes of the response have passed."""
        settings = self.environment.settings
        self.wait(settings.body_timeout if self.is_write_paused else settings.upstream_body_timeout)
