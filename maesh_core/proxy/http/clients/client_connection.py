"""One client connection: reads requests in sequence, and writes their responses in the same order.

It parses the next head only after the previous exchange has ended, so a pipelining client costs no more than its unread
bytes. pacing.py decides when to read and how many bytes to process in one turn.
"""

import asyncio
from typing import Final, cast

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.callers import Caller
from maesh_core.proxy.http.answers import HEAD_TIMEOUT, build_answer, render_answer
from maesh_core.proxy.http.clients.ending import EndingConnection
from maesh_core.proxy.http.clients.pacing import TURN_BYTES, TURN_REQUESTS
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.opening import open_exchange
from maesh_core.proxy.http.http2.frames import PREFACE_HEAD
from maesh_core.proxy.http.http2.multiplexed_client import MultiplexedClient
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.head_limits import check_partial_head, check_whole_head
from maesh_core.proxy.http.messages.request_head import CACHED_HEAD_LIMIT_BYTES, RequestHead
from maesh_core.proxy.http.messages.request_parsing import HeadReader
from maesh_core.proxy.http.messages.syntax import HEAD_END, SMALL_HEAD_BYTES, match_empty_lines
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.routing_table import CurrentTable
from maesh_core.proxy.http.transports import FULL_READ_BYTES, ReleasedTransport, limit_write_buffer

BODY_WITH_HEAD_LIMIT_BYTES: Final = 16384
"""Body bytes that arrive together with their head are forwarded with it in one write, up to this size."""


class ClientConnection(EndingConnection):
    """A connection accepted on an entrypoint."""

    __slots__ = (
        "_current",
        "_head_reader",
        "_is_advancing",
        "_last_head",
        "_requests_left",
        "_scanned",
        "address",
        "caller",
        "entrypoint",
        "forwarded",
        "number",
    )

    def __init__(self, environment: Environment, current: CurrentTable, entrypoint: int) -> None:
        super().__init__(environment)
        self._current = current
        self.address = ""
        self.entrypoint = entrypoint
        self._scanned = 0
        self._last_head: RequestHead | None = None
        self._requests_left = environment.settings.request_limit
        self._is_advancing = False
        self.number = 0

    def __repr__(self) -> str:
        return f"<ClientConnection of {self.address} held={len(self._buffer)} {self.exchange!r}>"

    @property
    def idle_since(self) -> float | None:
        """The time since which the client is idle; None if it is not.

        A client is idle when it has sent no byte of a request and has received all of the last response. The time is
        computed from the deadline of that wait, which adds no work per request. A client that has sent part of a head
        returns its deadline, a time in the future, so all idle clients are evicted before it.
        """
        transport = self._transport
        if transport is None or self.exchange is not None or self._is_lingering or self._is_closing:
            return None
        if self._buffer:
            return self.deadline if self._scanned else None
        if self.is_write_paused or transport.get_write_buffer_size():
            return None
        settings = self.environment.settings
        is_new = self._requests_left == settings.request_limit
        return self.deadline - (settings.head_timeout if is_new else settings.idle_timeout)

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, or refuse the client if no slot is free; a later call switches transports."""
        if self._transport is not None:
            self._change_transport(self._transport, cast("asyncio.Transport", transport))
            return
        self.address = self._find_address(transport)
        self.caller = self._build_caller()
        if not self.environment.admit(self):
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        limit_write_buffer(self._transport)
        self.forwarded = self._build_forwarded()
        self._head_reader = self._find_head_reader()
        self.deadline = self.environment.clock.now + self.environment.settings.head_timeout

    def _find_address(self, transport: asyncio.BaseTransport) -> str:
        peer = transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def _build_caller(self) -> Caller:
        return Caller(self.address, self.environment.find_entrypoint_counter(self.entrypoint))

    def _build_forwarded(self) -> ForwardedFields:
        environment = self.environment
        return environment.add_account(ForwardedFields(self.address, environment.server_name), self.address)

    def _find_head_reader(self) -> HeadReader:
        return self.environment.head_readers.find(self.address)

    @property
    def can_change_transport(self) -> bool:
        """Whether it can switch transports: it is between requests, buffers no bytes, and is not paused."""
        if self._transport is None or self.exchange is not None or self._buffer or self._is_queued:
            return False
        is_paused = self.is_read_paused or self.is_write_paused
        return not (is_paused or self._is_eof or self._is_lingering or self._is_closing)

    def _change_transport(self, former: asyncio.Transport, transport: asyncio.Transport) -> None:
        self._transport = transport
        limit_write_buffer(transport)
        if former.is_closing():  # it was closed while the new transport was created
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current exchange."""
        if self._transport is not None:
            self.environment.peer_watch.forget(self._transport)
        self._transport = None
        self.has_ended = True
        self.environment.forget(self)
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.on_client_gone()
        self.environment.callers.leave(self.caller)

    def eof_received(self) -> bool:
        """Handle the client's FIN: it has left, or it still reads responses. Returning True keeps our side open."""
        self._is_eof = self.has_ended = True
        if not self.environment.is_serving_half_closed:
            self._on_client_left()
            return False
        if self.exchange is None:
            return self.is_write_paused and bool(self._buffer) and not self._is_lingering
        return not self.exchange.request_left

    def on_peer_left(self, is_broken: bool) -> None:  # noqa: FBT001 - EpollPeerWatch calls it
        """Handle the end of a client whose reading is paused; unread bytes may precede it."""
        self.has_ended = True
        if is_broken or not self.environment.is_serving_half_closed:
            self._on_client_left()

    def _on_client_left(self) -> None:
        """End the current exchange, since its client has left. Responses that were already written are still sent."""
        exchange, self.exchange = self.exchange, None
        self._buffer.clear()
        if exchange is not None:
            exchange.on_client_gone()
        if exchange is not None and exchange.has_started_response:
            self.abort()
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Process bytes of requests."""
        exchange = self.exchange
        if exchange is None and not self._buffer and not self.is_write_paused and not self._is_lingering:
            last_head = self._last_head
            if last_head is not None and data == last_head.head:  # clients often repeat a request
                self._start_parsed_exchange(last_head)
                return
            end = data.find(HEAD_END)
            if end > 0 and data[0] != 13:
                size = end + len(HEAD_END)
                if size == len(data):  # exactly one complete head: the usual case
                    self._start_exchange(data)
                    return
                data = self._start_exchange(data[:size], data[size:])
                if not data:
                    return
                exchange = self.exchange
        if self._lingering is not None:
            self.deadline = max(self.deadline, self._lingering.extend(self.environment.clock.now))
            return
        if exchange is not None and exchange.request_left and not self._buffer:
            size, data = len(data), self._pass_body(exchange, data)
            if size >= FULL_READ_BYTES:
                self._count_full_read()
        if data:
            self._buffer += data
            if exchange is not None and exchange.request_left:
                self._queue_turn()
            else:
                self.advance()
                if not self._may_read():
                    self._stop_reading()

    def pause_writing(self) -> None:
        """Pause reading the upstream: the client reads the response more slowly."""
        self.is_write_paused = True
        self._wait_for_reader(self.environment.settings.body_timeout)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading the upstream, or process the next request."""
        self.is_write_paused = False
        exchange = self.exchange
        if exchange is not None:
            if exchange.upstream is not None:
                self.wait_for_exchange()
                exchange.upstream.resume_reading()
            exchange.on_client_reads()
        elif not self._is_closing and not self._is_lingering:
            self.wait(self.environment.settings.idle_timeout)
            self.advance()
            self.resume_reading()
            if self.environment.is_draining:
                self.start_draining()

    # --- requests

    def advance(self) -> None:
        """Process the buffered bytes until an exchange is in progress or the turn's limit is reached."""
        if self._is_advancing or self._is_queued:
            return
        self._is_advancing = True
        requests_left, held_bytes = TURN_REQUESTS, len(self._buffer)
        try:
            while (
                self.exchange is None
                and self._buffer
                and self._transport is not None
                and not self.is_write_paused
                and not self._is_lingering
                and not self._is_closing
            ):
                if self._has_turn() or not requests_left or held_bytes - len(self._buffer) > TURN_BYTES:
                    self._queue_turn()
                    return
                requests_left -= 1
                if not self._read_held_head():
                    if self._is_eof:
                        self.close()
                    return
        except ClientProtocolError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False

    def _read_held_head(self) -> bool:
        """Start an exchange from the buffered bytes; return False if the head is incomplete."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n") and (empty_lines := match_empty_lines(buffer)):
            del buffer[: empty_lines.end()]
        end = buffer.find(HEAD_END, max(0, self._scanned - len(HEAD_END))) + len(HEAD_END)
        if end < len(HEAD_END):
            if buffer and buffer != b"\r":  # empty lines do not start a request, so they do not extend the wait
                self._wait_for_head()
            return False
        self._scanned = 0
        head = bytes(buffer[:end])
        del buffer[:end]
        self._start_exchange(head)
        exchange = self.exchange
        if exchange is not None and exchange.request_left and buffer:
            self.pass_held_body(exchange)
            if exchange.request_left and self._is_eof and not buffer:  # the rest of this body will never arrive
                self.close()
        return True

    def pass_held_body(self, exchange: Exchange) -> None:
        """Forward buffered body bytes, up to the limit of a turn."""
        buffer = self._buffer
        piece = bytes(buffer if exchange.request_left > 0 else buffer[:TURN_BYTES])
        rest = self._pass_body(exchange, piece)
        del buffer[: len(piece) - len(rest)]
        if buffer and self.exchange is exchange and exchange.request_left:
            self._queue_turn()

    def _wait_for_head(self) -> None:
        """Wait for the rest of a head, from its first byte on. Raises ClientProtocolError if it cannot become valid."""
        settings = self.environment.settings
        if not self._scanned:
            self.deadline = self.environment.clock.now + settings.head_timeout
        check_partial_head(self._buffer, self._scanned, settings)
        self._scanned = len(self._buffer)

    def _start_exchange(self, head: bytes, behind: bytes = b"") -> bytes:
        """Start the exchange of a head; return the bytes of `behind` that were not forwarded."""
        try:
            if len(head) > SMALL_HEAD_BYTES:
                check_whole_head(head, self.environment.settings)
            request = self._last_head
            if request is None or request.head != head:
                request = self._head_reader.read(head)
                self._last_head = request if len(head) <= CACHED_HEAD_LIMIT_BYTES else None
        except ClientProtocolError as error:
            if head == PREFACE_HEAD and self._may_switch:
                self._switch_to_http2(behind)
                return b""
            self._refuse(error)
            return behind
        return self._start_parsed_exchange(request, behind)

    @property
    def _may_switch(self) -> bool:
        """Whether the preface of HTTP/2 is accepted: as the first bytes of a connection."""
        return self.environment.settings.http2 and self._is_first and not self._is_eof

    @property
    def _is_first(self) -> bool:
        """Whether no request has started yet."""
        return self._requests_left == self.environment.settings.request_limit

    def _switch_to_http2(self, behind: bytes) -> None:
        """Let a multiplexed connection continue; `behind` follows the first part of the preface."""
        transport, self._transport = self._transport, None
        data = behind + bytes(self._buffer)
        self._buffer.clear()
        environment = self.environment
        if transport is None:
            return
        environment.peer_watch.forget(transport)
        self.caller.is_http2 = True
        successor = MultiplexedClient(
            environment,
            self._current,
            caller=self.caller,
            entrypoint=self.entrypoint,
            rules=self._head_reader.rules,
            forwarded=self.forwarded,
        )
        environment.replace(self, successor)
        if self.is_read_paused and not transport.is_closing():
            transport.resume_reading()
        successor.take_over(transport, data)

    def list_exchanges(self) -> list[Exchange]:
        """Return the exchange in progress, if there is one."""
        return [self.exchange] if self.exchange is not None else []

    def _start_parsed_exchange(self, request: RequestHead, behind: bytes = b"") -> bytes:
        environment = self.environment
        route = self._current.table.find(self.entrypoint, request.host)
        if route is None:
            route = self._current.find_plain(self.entrypoint, request.host, self.address)
        exchange = self.exchange = open_exchange(self, route, request, environment.clock_time())
        self.caller.entrypoint_counter.requests += 1
        self._requests_left -= 1
        self.is_keep_alive = request.is_keep_alive and self._requests_left != 0  # never 0 when there is no limit
        is_joined = 0 < len(behind) <= min(request.body, BODY_WITH_HEAD_LIMIT_BYTES) and not request.upgrade
        exchange.start(behind if is_joined else b"")
        return b"" if is_joined and exchange.request_left < request.body else behind

    def find_route(self, host: bytes) -> Route | None:
        """Return the route of a host in the current routing table."""
        return self._current.find(self.entrypoint, host, self.address)

    def find_namespace(self) -> str:
        """Return the namespace of the client's pod; empty if it is unknown."""
        return self._current.namespaces.get(self.address, "")

    def _refuse(self, error: ClientProtocolError) -> None:
        """Answer bytes that are not a valid request, and close: the bytes after them cannot be trusted."""
        self.environment.refuse(self.address, self.entrypoint, error.status, str(error), "HTTP/1.1")
        answer = build_answer(error)
        self.write(render_answer(answer, connection=b"Connection: close\r\n", is_head_request=False))
        self._linger()

    def _pass_body(self, exchange: Exchange, data: bytes) -> bytes:
        """Pass body bytes to the exchange; return those that follow the body."""
        try:
            rest = exchange.receive_body(data)
        except ClientProtocolError as error:
            exchange.fail(error)
            return b""
        if self.exchange is exchange:
            if exchange.upstream is not None:
                self.wait_for_exchange()
            elif exchange.is_body_held_up:
                self.pause_reading()
        return rest

    # --- called by the exchange and its upstream

    def on_exchange_finished(self) -> None:
        """Continue with the next request, or close."""
        exchange, self.exchange = self.exchange, None
        environment = self.environment
        if self._buffer and exchange is not None and exchange.head.upgrade:
            self.is_keep_alive = False  # bytes after it may not be meant as a request (upgrade.py)
        if not self.is_keep_alive or environment.is_draining or (self._is_eof and not self._buffer):  # is_draining
            if self._buffer or (exchange is not None and exchange.request_left):
                self._linger()
            else:
                self.close()
            return
        self.deadline = environment.clock.now + environment.idle_timeout
        if self._buffer:
            self.advance()
        if self.is_read_paused:
            self.resume_reading()

    # --- ends

    def on_deadline(self) -> None:
        """End a wait that took too long, unless the peer is reading slowly but makes progress."""
        self.wait(None)
        unsent = self._count_unsent()
        if unsent < self._unsent and (self.is_write_paused or self.is_read_paused or self._is_closing):
            settings = self.environment.settings
            is_client_slow = self.is_write_paused or self._is_closing
            self._wait_for_reader(settings.body_timeout if is_client_slow else settings.upstream_body_timeout)
        elif self.exchange is not None:
            self.exchange.on_timeout()
        elif self._is_closing or self.is_write_paused:
            self.abort()
        elif self._buffer and not self._is_lingering:
            self._refuse(ClientProtocolError(HEAD_TIMEOUT, 408))
        else:
            self.close()

    def start_draining(self) -> None:
        """Close if idle; otherwise finish the current exchange, or the head that has started to arrive, first."""
        if self.exchange is None and not (self._buffer or self._is_lingering or self.is_write_paused):
            self.close()

    def release(self) -> ReleasedTransport:
        """Give up the transport, and return it with the bytes that were read but not used."""
        transport, self._transport = self._transport, None
        assert transport is not None  # noqa: S101 - if it had ended, so would the exchange
        self.environment.peer_watch.forget(transport)
        self.exchange = None
        self.environment.clients.discard(self)
        self.environment.callers.leave(self.caller)
        held = bytes(self._buffer)
        self._buffer.clear()
        return ReleasedTransport(
            transport,
            held,
            has_ended=self._is_eof,
            is_read_paused=self.is_read_paused,
            is_write_paused=self.is_write_paused,
        )
