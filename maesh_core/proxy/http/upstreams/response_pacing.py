"""Decides when to read a response of HTTP/1.1, and how much of it to process in one turn of the event loop.

One turn processes a few lines of a chunked body, or TURN_READS reads. `_held` contains the bytes for later turns and
the position of the next one; the transport is not read in the meantime. Reading also pauses while the client is slower.
The base of a connection (upstream_connection.py), as clients/pacing.py is for clients.
"""

import asyncio
from abc import abstractmethod

from maesh_core.proxy.http.messages.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.transports import TURN_READS
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver, UpstreamStream


class PacedUpstream(UpstreamStream):
    """The transport, the current response and its pauses. `_left` counts the bytes of its body that are missing."""

    __slots__ = (
        "_full_reads",
        "_held",
        "_is_queued",
        "_is_read_paused",
        "_left",
        "_receiver",
        "_response",
        "_scanner",
        "_transport",
        "is_write_paused",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._is_read_paused = False
        self._is_queued = False
        self.is_write_paused = False
        self._receiver: ResponseReceiver | None = None
        self._full_reads = 0
        self._held: tuple[bytes, int] | None = None
        self._response: ResponseHead | None = None
        self._left = 0
        self._scanner: ChunkedScanner | None = None

    @abstractmethod
    def _end(self, receiver: ResponseReceiver, *, is_clean: bool) -> None:
        """End the response; a connection whose end is not clean is not used again."""

    def pause_reading(self) -> None:
        """Pause reading the response: the client is slower."""
        if self._transport is not None and not self._is_read_paused:
            self._is_read_paused = True
            if self._held is None:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading the response."""
        if self._transport is not None and self._is_read_paused:
            self._is_read_paused = False
            if self._held is None:
                self._transport.resume_reading()
            else:
                self._queue_turn()

    def _count_full_read(self) -> None:
        """Continue in the next turn after several full reads: the loop itself keeps reading while reads are full."""
        self._full_reads += 1
        if self._full_reads >= TURN_READS and self._held is None:
            self._full_reads = 0
            self._hold(b"", 0)

    def _hold(self, data: bytes, position: int) -> None:
        """Keep `data` from `position` on for the next turn, and pause reading."""
        if self._held is None and not self._is_read_paused and self._transport is not None:
            self._transport.pause_reading()
        self._held = data, position
        self._queue_turn()

    def _scan(self, receiver: ResponseReceiver, data: bytes, start: int) -> tuple[bytes, int]:
        """Scan chunks; hold the rest for a later turn. Return the bytes to send and the number of surplus bytes.

        An HTTP/1.0 client receives the content of the chunks without their framing.
        """
        scanner = self._scanner
        assert scanner is not None  # noqa: S101 - _left is CHUNKED
        payload: list[bytes] | None = [] if receiver.client.is_unchunked else None
        known_bytes = scanner.size_bytes - scanner.left_bytes
        end = scanner.scan(data, payload, start=start)
        receiver.count_content(scanner.size_bytes - scanner.left_bytes - known_bytes)
        body = data[start:end] if payload is None else b"".join(payload)
        left = len(data) - end
        if scanner.is_complete:
            self._left = 0
            return body, left
        if left:
            self._hold(data, end)
        return body, 0

    def _queue_turn(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_queued = False
        receiver, response, held = self._receiver, self._response, self._held
        if receiver is None or response is None or held is None or self._is_read_paused:
            return
        if held[1] == len(held[0]):
            self._stop_holding()
            return
        try:
            body, surplus = self._scan(receiver, *held)
        except ChunkedError:
            receiver.abort()
            return
        if self._held == held:
            self._stop_holding()
        receiver.client.write(body)
        if self._receiver is not receiver:  # a middleware that uses the body has ended the exchange
            return
        if self._left == 0:
            self._pass_trailers(receiver)
            self._end(receiver, is_clean=response.is_keep_alive and not surplus)
        else:
            receiver.client.on_progress()

    def _pass_trailers(self, receiver: ResponseReceiver) -> None:
        """Pass the trailers of a chunked body to a client that receives no chunks; others have received them."""
        scanner = self._scanner
        if scanner is not None and scanner.trailers and receiver.client.is_unchunked:
            receiver.client.end_content(scanner.trailers)

    def _stop_holding(self) -> None:
        """Resume reading, since no bytes are held any more."""
        self._held = None
        if self._transport is not None and not self._is_read_paused:
            self._transport.resume_reading()
