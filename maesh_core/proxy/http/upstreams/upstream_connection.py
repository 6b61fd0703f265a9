"""One connection to a server: sends a request, and parses and forwards its response.

A connection serves one attempt at a time, its receiver (upstream_stream.py). It returns to its server's pool
(connection_pool.py) only if request and response ended cleanly. Any unexpected byte closes it. response_pacing.py
decides when to read and how many bytes to process in one turn.
"""

import asyncio
from typing import Any, Protocol, cast

from maesh_core.errors import ExchangeError, UpstreamProtocolError
from maesh_core.proxy.balancing.health import Aside
from maesh_core.proxy.http.answers import CLOSED_EARLY
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.frames import CANCEL
from maesh_core.proxy.http.messages.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.head_limits import check_partial_response_head, check_whole_response_head
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import CACHED_HEAD_LIMIT_BYTES, CHUNKED, STREAMED, RequestHead
from maesh_core.proxy.http.messages.response_head import UNTIL_CLOSE, ResponseHead, parse_response_head
from maesh_core.proxy.http.messages.syntax import HEAD_END, SMALL_HEAD_BYTES
from maesh_core.proxy.http.tls import is_cut_off
from maesh_core.proxy.http.transports import (
    FULL_READ_BYTES,
    HELD_LIMIT_BYTES,
    ReleasedTransport,
    limit_write_buffer,
    read_unread,
)
from maesh_core.proxy.http.upstreams.response_pacing import PacedUpstream
from maesh_core.proxy.http.upstreams.upstream_stream import (
    CHANGED,
    INFORMATIONAL_LIMIT,
    RENDERED,
    UNCHANGED,
    Forwarding,
    ResponseReceiver,
)
from maesh_core.proxy.transport.path_counts import ConnectionPath


class Pool(Protocol):
    """The part of a server that its connections use (connection_pool.py)."""

    __slots__ = ("opened",)

    environment: Environment
    idle: list["UpstreamConnection"]
    opened: int
    aside: Aside | None

    @property
    def has_room(self) -> bool:
        """Whether the pool may keep one more idle connection."""

    def describe(self) -> str:
        """Name the server in the log."""

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside for later requests."""

    def note_success(self) -> None:
        """Return the server to full use."""

    def retire(self, upstream: "UpstreamConnection") -> None:
        """Close a connection now if it is idle, or when it becomes idle."""


class UpstreamConnection(PacedUpstream):
    """One connection to a server, and its current response.

    The connection counts itself in its server's `opened` from its creation to the end of its transport. `has_sent_body`
    means that bytes were written after the head of the current request, so the transport had accepted the head. `path`
    says how it was opened, if its server's services have encryption.
    """

    __slots__ = (
        "_buffer",
        "_informational",
        "_is_chunking",
        "_is_counted",
        "_last_head",
        "_raw",
        "has_sent_body",
        "idle_since",
        "is_negotiating",
        "is_reused",
        "path",
        "server",
    )

    def __init__(self, server: Pool) -> None:
        super().__init__()
        self.server = server
        self.is_reused = False
        self.is_negotiating = False
        self.has_sent_body = False
        self.idle_since = 0.0
        self._is_chunking = False
        self._is_counted = True
        self.path: ConnectionPath | None = None
        server.opened += 1
        self._raw: asyncio.Transport | None = None
        self._buffer = b""
        self._informational = 0
        self._last_head: ResponseHead | None = None

    def __repr__(self) -> str:
        return f"<UpstreamConnection to {self.server!r} for {self._receiver!r}>"

    # --- called by the receiver

    def send_request(
        self,
        receiver: ResponseReceiver,
        head: RequestHead,
        changed: Headers | None,
        forwarded: bytes,
        body: bytes | bytearray,
    ) -> None:
        """Send a request, and report the response to `receiver`.

        `changed` holds the header fields if a middleware has changed them. `forwarded` holds the rendered forwarded
        fields and the empty line after them. `body` holds the body bytes received so far; they count as sent with the
        head.
        """
        self._receiver = receiver
        self._response = None
        self._informational = 0
        if self.path is not None:
            receiver.note_path(self.path)
        if self._transport is not None:
            request = head.outgoing + forwarded if changed is None else head.render_changed(changed, forwarded)
            self._is_chunking = head.body == STREAMED and head.framing.startswith(b"Transfer-Encoding")
            if body and self._is_chunking:
                body = _render_chunk(body)
            self._transport.write(request + body if body else request)

    def write(self, data: bytes) -> None:
        """Send bytes of the request's body."""
        transport, raw = self._transport, self._raw
        if transport is None or raw is None or raw.is_closing():
            return
        self.has_sent_body = True
        transport.write(_render_chunk(data) if self._is_chunking and data else data)
        if raw is not transport and raw.is_closing():  # with TLS, nothing can be read after the end is reported
            self._receive_unread(raw, raw.get_protocol())

    def end_body(self, trailers: bytes) -> None:
        """End a streamed body."""
        if self._is_chunking:
            self._is_chunking = False
            self.write(b"0\r\n" + trailers + b"\r\n")

    def abandon(self, code: int = CANCEL) -> None:
        """Close at once, because the receiver ended before this response was complete."""
        self._receiver = None
        self.close()

    def close(self) -> None:
        """Close at once, and leave the pool."""
        if self in self.server.idle:
            self.server.idle.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def discard(self) -> None:
        """Close a connection that was never passed to a receiver, even if it is still connecting.

        The event loop may report neither its start nor its end: uvloop drops a transport whose `create_connection` is
        cancelled, although `connection_made` was called.
        """
        self._uncount()
        self.close()
        self._transport = self._raw = None

    def end_negotiation(self) -> None:
        """Use HTTP/1.1, in which a server must not send anything before it has a request."""
        self.is_negotiating = False
        if self._buffer:
            self.close()

    def hand_over(self) -> bytes:
        """Leave the transport to a connection of another protocol; return the bytes read so far."""
        self._uncount()
        self._transport = self._raw = None
        return self._buffer

    def begin_tls(self, transport: asyncio.Transport) -> None:
        """Switch to the TLS transport, which was created on top of the connection's own."""
        self._transport = transport
        limit_write_buffer(transport)

    def release(self, held: bytes) -> ReleasedTransport:
        """Give up the transport; return it with the bytes read but not used. It stays counted until it ends."""
        transport, self._transport, self._raw = self._transport, None, None
        assert transport is not None  # noqa: S101 - bytes were just received from it
        self._receiver = None
        self.server.environment.upstreams.discard(self)
        return ReleasedTransport(
            transport,
            held,
            has_ended=False,
            is_read_paused=self._is_read_paused,
            is_write_paused=self.is_write_paused,
            on_lost=self._uncount,
        )

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self.server.opened -= 1
            self.server.environment.upstreams.discard(self)

    @property
    def transport(self) -> asyncio.Transport | None:
        """The open transport; None before it is connected and after its end."""
        return self._transport

    @property
    def unsent_bytes(self) -> int:
        """The number of bytes that were written and not sent yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport; the receiver sends its request next."""
        self._transport = self._raw = cast("asyncio.Transport", transport)
        if not self._is_counted:  # the connect was cancelled in the meantime
            self._transport.abort()
            return
        limit_write_buffer(self._transport)
        self.server.environment.upstreams.add(self)

    def path_retired(self) -> None:
        """Leave the pool, because the tunnel that the connection uses is to be replaced."""
        self.server.retire(self)

    def eof_received(self) -> None:
        """Leave the pool at once, since the event loop calls connection_lost() only in its next turn."""
        if self._receiver is None and self in self.server.idle:
            self.server.idle.remove(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete or abort the response, depending on how the connection ended."""
        transport, self._transport = self._transport, None
        self._uncount()
        if self in self.server.idle:
            self.server.idle.remove(self)
        if exc is not None and transport is self._raw and (self.has_sent_body or not self.is_reused):
            self._receive_unread(transport, self)
        self._raw = None
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if self._response is None:
            is_stale = self.is_reused and not self._buffer and not self._informational
            if not is_stale:
                self.server.note_failure(receiver)
            receiver.on_closed(_build_closed_error(), is_stale=is_stale)
        elif self._left == UNTIL_CLOSE and exc is None and transport is not None and not _is_cut_off(transport):
            receiver.on_response_complete()
        else:
            receiver.abort()

    def pause_writing(self) -> None:
        """Pause reading the client: this upstream is slower."""
        self.is_write_paused = True
        if self._receiver is not None:
            self._receiver.client.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading the client."""
        self.is_write_paused = False
        if self._receiver is not None:
            self._receiver.client.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Process bytes of the response."""
        receiver = self._receiver
        if receiver is None:
            if self.is_negotiating and len(self._buffer) <= HELD_LIMIT_BYTES:
                self._buffer += data
            else:  # no request was sent: RFC 9112 section 9.2
                self.close()
        elif self._response is not None:
            self._receive_body(receiver, self._response, data, is_first=False)
        else:
            try:
                self._receive_head(receiver, data)
            except UpstreamProtocolError as error:
                self._break(error)

    # --- the response

    def _receive_unread(self, raw: asyncio.BaseTransport | None, receiver: Any) -> None:
        """Read what arrived before a write failed.

        A server may answer early, and its close then causes a reset (RFC 9112 section 9.6). This is not called if a
        pooled connection failed to send the head, since those bytes would belong to no request. There are no later
        turns, so a chunked response longer than one turn is aborted.
        """
        self.is_write_paused = True  # do not return this connection to the pool
        for data in read_unread(raw) if raw is not None else ():
            if self._receiver is None or self._held is not None:
                return
            if receiver is self:
                self.data_received(data)
            else:  # TLS, whose protocol is an asyncio.BufferedProtocol
                receiver.get_buffer(len(data))[: len(data)] = data
                receiver.buffer_updated(len(data))

    def _receive_head(self, receiver: ResponseReceiver, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            response = self._last_head
            if response is not None and not receiver.is_head_request and data.startswith(response.head):
                end = len(response.head)  # servers often repeat a head
            else:
                end = data.find(HEAD_END) + len(HEAD_END)
                if end < len(HEAD_END):
                    check_partial_response_head(data, self.server.environment.settings)
                    self._buffer = data
                    return
                if end > SMALL_HEAD_BYTES:
                    check_whole_response_head(data[:end], self.server.environment.settings)
                response = self._read_head(data[:end], is_head_request=receiver.is_head_request)
            if self.server.aside is not None:
                self.server.note_success()
            if response.status >= 200:
                break
            if response.status == 101:
                if self._transport is None:
                    raise _build_closed_error()
                receiver.on_switching(self, response, data[end:])
                return
            self._pass_informational(receiver, response)
            data = data[end:]
        forwarding = receiver.on_response_head(response, is_whole=len(data) - end == response.left)
        self._forward(receiver, response, forwarding, data, end)

    def _forward(
        self, receiver: ResponseReceiver, response: ResponseHead, forwarding: Forwarding, data: bytes, end: int
    ) -> None:
        """Forward a response, whose head ends at `end` of the bytes received."""
        if forwarding is UNCHANGED:
            receiver.client.write(data)
            self._end(receiver, is_clean=response.is_keep_alive)
        elif forwarding is CHANGED:
            receiver.start_response(data[end:])
            self._end(receiver, is_clean=response.is_keep_alive)
        elif forwarding is RENDERED:
            self._response = response
            self._left = response.left
            self._scanner = ChunkedScanner() if response.left == CHUNKED else None
            self._receive_body(receiver, response, data[end:], is_first=True)

    def _read_head(self, head: bytes, *, is_head_request: bool) -> ResponseHead:
        response = parse_response_head(head, is_head_request=is_head_request)
        self._last_head = response if len(head) <= CACHED_HEAD_LIMIT_BYTES and not is_head_request else None
        return response

    def _pass_informational(self, receiver: ResponseReceiver, response: ResponseHead) -> None:
        self._informational += 1
        if self._informational > INFORMATIONAL_LIMIT:
            raise UpstreamProtocolError("the upstream sent too many informational responses")
        receiver.on_informational(response)

    def _receive_body(self, receiver: ResponseReceiver, response: ResponseHead, data: bytes, *, is_first: bool) -> None:
        """Forward body bytes to the client; the first ones go with the head."""
        left = self._left
        surplus, size = 0, len(data)
        if left >= 0:
            if surplus := max(0, len(data) - left):
                data = data[:left]
            self._left = left = left - len(data)
            receiver.count_content(len(data))
        elif left == CHUNKED:
            try:
                data, surplus = self._scan(receiver, data, 0)
            except ChunkedError as error:
                if is_first:
                    raise UpstreamProtocolError(f"the upstream sent a {error}") from error
                receiver.abort()
                return
            left = self._left
        else:
            receiver.count_content(size)
        if is_first:
            receiver.start_response(data)
        else:
            receiver.client.write(data)
        if self._receiver is not receiver:  # a middleware that uses the body has ended the exchange
            return
        if left == 0:
            self._pass_trailers(receiver)
            self._end(receiver, is_clean=response.is_keep_alive and not surplus)
        else:
            receiver.client.on_progress()
            if size >= FULL_READ_BYTES:
                self._count_full_read()

    def _end(self, receiver: ResponseReceiver, *, is_clean: bool) -> None:
        self._receiver = None
        self._response = None
        server = self.server
        if receiver.has_request_left or self.is_write_paused:  # the server has not read the whole request
            is_clean = False
        if is_clean and server.has_room:
            self.resume_reading()
            self.idle_since = server.environment.clock.now
            server.idle.append(self)
        else:
            self.close()
        receiver.on_response_complete()

    def _break(self, error: ExchangeError) -> None:
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            receiver.on_broken(error)


def _render_chunk(data: bytes | bytearray) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), bytes(data))


def _build_closed_error() -> UpstreamProtocolError:
    return UpstreamProtocolError(CLOSED_EARLY)


def _is_cut_off(transport: asyncio.Transport) -> bool:
    """Whether TLS ended without a close_notify, so that the response may be truncated."""
    return is_cut_off(transport.get_extra_info("ssl_object"))
