"""A client's HTTP/2 connection: accepts its streams, drains, and closes when it is idle (RFC 9113).

Takes over the transport of a connection whose first bytes are the preface (clients/client_connection.py), together with
its slot. Each stream is an exchange of its own (client_side_stream.py).
"""

import asyncio
from typing import Final, cast, final

from maesh_core.errors import ClientProtocolError, MalformedMessageError
from maesh_core.proxy.callers import Caller
from maesh_core.proxy.http.clients.descriptor_transport import DescriptorTransport
from maesh_core.proxy.http.clients.linger import Linger
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.grpc import is_call
from maesh_core.proxy.http.http2.budget import Budget
from maesh_core.proxy.http.http2.client_side_stream import ClientSideStream
from maesh_core.proxy.http.http2.connection import Http2Connection
from maesh_core.proxy.http.http2.errors import Http2ConnectionError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    PREFACE_REST,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_BITS,
    render_goaway,
    render_ping,
    render_rst_stream,
    render_settings,
)
from maesh_core.proxy.http.http2.request_fields import read_request
from maesh_core.proxy.http.http2.stream import STREAM_WINDOW_BYTES, Http2Stream
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.head_limits import check_whole_head
from maesh_core.proxy.http.messages.head_rules import HeadRules
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.syntax import SMALL_HEAD_BYTES
from maesh_core.proxy.http.routing_table import CurrentTable
from maesh_core.proxy.http.transports import limit_write_buffer, reset

CACHED_REQUESTS: Final = 32
"""Parsed requests that a connection keeps: clients often repeat a header list."""
CACHED_REQUEST_BYTES: Final = 2048
"""Size of the largest request head that a connection keeps."""
RESET_REFILL_PER_S: Final = 5.0
"""Tokens for resets that time brings back."""
DRAIN_PING: Final = b"maesh-go"
"""Payload of the PING that follows the first GOAWAY of a drain: with its answer, the client knows of the drain."""


@final
class MultiplexedClient(Http2Connection):
    """A client's connection."""

    __slots__ = (
        "_current",
        "_goaway_id",
        "_has_ended",
        "_idle_deadline",
        "_is_greeted",
        "_last_stream_id",
        "_lingering",
        "_opened",
        "_preface_left",
        "_requests",
        "_requests_left",
        "_resets",
        "_rules",
        "_skipped",
        "address",
        "caller",
        "entrypoint",
        "forwarded",
        "number",
    )

    def __init__(
        self,
        environment: Environment,
        current: CurrentTable,
        *,
        caller: Caller,
        entrypoint: int,
        rules: HeadRules,
        forwarded: ForwardedFields,
    ) -> None:
        super().__init__(environment)
        settings = environment.settings
        self._current = current
        self._rules = rules
        self.caller = caller
        self.address = caller.address
        self.entrypoint = entrypoint
        self.forwarded = forwarded
        self.number = 0
        self._preface_left = PREFACE_REST
        self._last_stream_id = 0
        self._skipped = range(0)  # numbers that the client left out last: such streams are closed without a request
        self._goaway_id = STREAM_BITS
        self._has_ended = False
        self._is_greeted = False
        self._requests: dict[Fields, RequestHead] = {}
        self._requests_left = settings.request_limit
        self._resets = Budget(settings.http2_reset_limit, RESET_REFILL_PER_S, environment.clock.now)
        self._lingering: Linger | None = None
        self._opened = 0
        self.deadline = self._idle_deadline = environment.clock.now + settings.head_timeout

    # --- the transport

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Continue on the transport of an HTTP/1.1 connection; `data` follows the first part of the preface."""
        settings = self.environment.settings
        transport.set_protocol(cast("asyncio.Protocol", self))
        opening = render_settings(
            (MAX_CONCURRENT_STREAMS, settings.http2_stream_limit),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (MAX_HEADER_LIST_SIZE, settings.head_limit),
        )
        self._start(transport, opening)
        if self.environment.is_draining:
            self.start_draining()
        if data:
            self.data_received(data)

    @property
    def can_change_transport(self) -> bool:
        """Whether another transport may continue the connection now."""
        is_waiting = self._is_turn_queued or self.is_write_paused or self.is_closing or bool(self.out)
        return self._transport is not None and not is_waiting and not self._has_ended and self._lingering is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Continue on another transport."""
        former: object = self._transport
        self._transport = cast("asyncio.Transport", transport)
        limit_write_buffer(self._transport)
        if isinstance(former, DescriptorTransport):  # streams may have written to it since it was detached
            former.pass_on(self._transport)

    def data_received(self, data: bytes) -> None:
        """Process frames, after the rest of the preface."""
        if self._lingering is not None:
            self.deadline = max(self.deadline, self._lingering.extend(self.environment.clock.now))
            return
        if self._preface_left:
            size = min(len(data), len(self._preface_left))
            if data[:size] != self._preface_left[:size]:
                self.abort()
                return
            self._preface_left = self._preface_left[size:]
            data = data[size:]
            if not data:
                return
        super().data_received(data)

    def eof_received(self) -> bool:
        """Handle the client's FIN: it has left, or it still reads responses."""
        self._has_ended = True
        for stream in self.streams.values():
            if isinstance(stream, ClientSideStream):
                stream.has_ended = True
        return self.environment.is_serving_half_closed and bool(self.streams) and not self.is_closing

    def on_ended(self) -> None:
        """Release the slot."""
        self.environment.forget(self)
        self.environment.callers.leave(self.caller)

    # --- streams

    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether the client has not opened a stream yet; it never opens those with even numbers."""
        return stream_id > self._last_stream_id or not stream_id & 1

    def describe_last_stream(self) -> int:
        """Return the last stream that was processed."""
        return min(self._last_stream_id, self._goaway_id)

    def ignores_closed(self, stream_id: int) -> bool:
        """Whether the stream was reset not long ago, or is above the last one of a GOAWAY (RFC 9113 section 6.8)."""
        return stream_id in self._recent_resets or stream_id > self._goaway_id

    def _handle_closed(self, stream: Http2Stream | None, stream_id: int) -> None:
        if stream_id in self._skipped:
            raise Http2ConnectionError(PROTOCOL_ERROR, "a stream below the last one")  # section 5.1.1
        super()._handle_closed(stream, stream_id)

    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Open a stream for a request. Raises Http2ConnectionError."""
        if not stream_id & 1:
            raise Http2ConnectionError(PROTOCOL_ERROR, "a stream with an even number")
        if stream_id > self._last_stream_id + 2:
            self._skipped = range(self._last_stream_id + 1 | 1, stream_id, 2)
        self._last_stream_id = stream_id
        if stream_id > self._goaway_id:
            self._count_control()
            return
        settings = self.environment.settings
        if len(self.streams) >= settings.http2_stream_limit:
            self._refuse_stream(stream_id, REFUSED_STREAM)
            return
        stream = ClientSideStream(
            self,
            stream_id,
            self.peer_window,
            self.environment,
            self._current,
            self.caller,
            self.entrypoint,
            self.forwarded,
        )
        stream.has_ended_remotely = not has_body
        stream.has_ended = self._has_ended
        try:
            request = self._read_request(fields, has_body=has_body)
        except MalformedMessageError as error:
            self.environment.refuse(self.address, self.entrypoint, 400, str(error), "HTTP/2")
            self._refuse_stream(stream_id, PROTOCOL_ERROR)
            return
        except ClientProtocolError as error:
            self.streams[stream_id] = stream
            stream.refuse(error, is_grpc=fields is not None and is_call(fields))
            return
        if not self.streams:
            self.deadline = self.owed_deadline  # each stream that waits lowers it
        self.streams[stream_id] = stream
        self._opened += 1
        stream.start(request, self.environment.clock_time())
        if self._requests_left:
            self._requests_left -= 1
            if not self._requests_left:
                self._send_goaway(self._last_stream_id)

    def _read_request(self, fields: Fields | None, *, has_body: bool) -> RequestHead:
        if fields is None:
            raise ClientProtocolError("the request's head is too large", 431)
        request = None if self.never_indexed else self._requests.get(fields)
        if request is None or (request.body != 0) is not has_body:
            request = read_request(fields, self._rules, has_body=has_body)
            if len(request.head) > SMALL_HEAD_BYTES:
                check_whole_head(request.head, self.environment.settings)
            if len(self._requests) >= CACHED_REQUESTS:
                self._requests.clear()
            if self.never_indexed:
                request.never_indexed = self.never_indexed
            elif len(request.head) <= CACHED_REQUEST_BYTES:
                self._requests[fields] = request
        return request

    def _refuse_stream(self, stream_id: int, code: int) -> None:
        self.note_reset(stream_id)
        self.out.append(render_rst_stream(stream_id, code))
        self.on_stream_reset(self.environment.clock.now)

    def on_stream_reset(self, now: float) -> None:
        """Count a reset. Raises Http2ConnectionError if there are too many (CVE-2023-44487)."""
        if not self._resets.spend(now):
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "too many streams are reset")

    def on_stream_finished(self) -> None:
        """Allow one more reset."""
        self._resets.earn(1)

    def on_streams_changed(self) -> None:
        """Wait for the next request, or close if there will be none."""
        if self.streams:
            return
        if self._goaway_id != STREAM_BITS or self._has_ended:
            self._end_gently()
        else:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        """Allow the client to be idle from now on."""
        self._idle_deadline = idle = self.environment.clock.now + self.environment.idle_timeout
        self.deadline = idle if idle < self.owed_deadline else self.owed_deadline

    def on_settings(self) -> None:
        """Allow the client to be idle from now on, since it has proved to speak HTTP/2."""
        if not self._is_greeted:
            self._is_greeted = True
            self._wait_for_request()

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """Do nothing: the mesh opens no stream towards clients, and the client closes when it has its responses."""

    def on_ping_ack(self, payload: bytes) -> None:
        """Finish the announcement of a drain: the client has read the first GOAWAY."""
        if payload == DRAIN_PING and self._goaway_id == STREAM_BITS and self.environment.is_draining:
            self._send_goaway(self._last_stream_id)

    # --- what the environment needs (see ExpiringClient)

    @property
    def idle_since(self) -> float | None:
        """The time since which no stream is open; None if there is one, or if written bytes are unsent."""
        transport = self._transport
        if self.streams or transport is None or self.is_closing or self.is_write_paused:
            return None
        if transport.get_write_buffer_size():
            return None
        settings = self.environment.settings
        return self._idle_deadline - (settings.idle_timeout if self._is_greeted else settings.head_timeout)

    def list_exchanges(self) -> list[Exchange]:
        """Return the exchanges in progress."""
        streams = [stream for stream in self.streams.values() if isinstance(stream, ClientSideStream)]
        return [stream.exchange for stream in streams if stream.exchange is not None]

    def on_deadline(self) -> None:
        """End the waits of streams that took too long, or close an idle connection."""
        now = self.environment.clock.now
        if self._lingering is not None:
            self._close_transport()
            return
        if self.is_closing:
            self.abort()
            return
        if self._is_greeted and self.is_overdue(now):
            self.fail_overdue()
            return
        self.deadline = self.owed_deadline
        if not self.streams:
            self._end_if_idle(now)
            return
        for stream in list(self.streams.values()):
            if not isinstance(stream, ClientSideStream):
                continue
            if stream.deadline <= now:
                stream.on_deadline()
            if stream.deadline < self.deadline:
                self.deadline = stream.deadline
        if self.out:
            self.queue_flush()

    def _end_if_idle(self, now: float) -> None:
        if self._idle_deadline <= now:
            self.out.append(render_goaway(self.describe_last_stream(), NO_ERROR))
            self.close()
        else:
            self.deadline = min(self._idle_deadline, self.owed_deadline)

    def start_draining(self) -> None:
        """Announce that the connection ends, and finish the requests that the client sends until it knows."""
        if self._transport is None or self.is_closing or self._goaway_id != STREAM_BITS:
            return
        if self._opened == 0 and not self.streams and self._preface_left:
            self.close()
            return
        self.out.append(render_goaway(STREAM_BITS, NO_ERROR) + render_ping(DRAIN_PING))
        self.queue_flush()

    def _send_goaway(self, last_stream_id: int) -> None:
        self._goaway_id = last_stream_id
        self.out.append(render_goaway(last_stream_id, NO_ERROR))
        self.queue_flush()
        if not self.streams:
            self._end_gently()

    def close(self) -> None:
        """Close once all written bytes are sent, or when the client does not read them in time."""
        if self._transport is None or self.is_closing:
            return
        self._flush()
        self.is_closing = True
        self._close_transport()

    def fail(self, code: int, text: str = "") -> None:
        """End the connection because of an error, with GOAWAY (RFC 9113 section 5.4.1)."""
        if self._transport is None or self.is_closing:
            return
        self.is_closing = True
        self.out.append(render_goaway(self.describe_last_stream(), code, text))
        self._flush()
        self._end_streams()
        self._linger()

    def _end_gently(self) -> None:
        """End the connection after its last response."""
        if not self.is_closing:
            self._flush()
            self.is_closing = True
            self._linger()

    def _linger(self) -> None:
        """Shut down our side, and discard what the client still sends.

        If its bytes, such as WINDOW_UPDATE frames, were not read, Linux would reset the connection when it is closed,
        and drop the part of the responses that is not sent yet.
        """
        transport = self._transport
        if transport is None or self._has_ended or transport.is_closing() or not transport.can_write_eof():
            self._close_transport()
            return
        transport.write_eof()
        transport.resume_reading()
        self._lingering = Linger(self.environment.clock.now)
        self.deadline = self._lingering.deadline

    def _close_transport(self) -> None:
        self._lingering = None
        if self._transport is not None:
            self._transport.close()
        self.deadline = self.environment.clock.now + self.environment.settings.body_timeout

    def abort(self) -> None:
        """Reset the connection."""
        self.is_closing = True
        self._end_streams()
        if self._transport is not None:
            reset(self._transport)
