"""One client's connection: reads requests one after the other, and writes their responses in that order.

The next head is parsed only when the exchange before it has ended, so a pipelining client costs no more than its
unread bytes. What has to wait carries `deadline`, which the handler's sweep looks at.
"""

import asyncio
from typing import cast

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.protocol.http.answers import build_answer, render_answer
from maesh_core.proxy.protocol.http.chained import ChainedExchange
from maesh_core.proxy.protocol.http.environment import Environment
from maesh_core.proxy.protocol.http.exchange import Exchange
from maesh_core.proxy.protocol.http.forwarding import ForwardedFields
from maesh_core.proxy.protocol.http.request_head import KEPT_LIMIT_BYTES, RequestHead, parse_request_head
from maesh_core.proxy.protocol.http.syntax import (
    HEAD_END,
    SMALL_HEAD_BYTES,
    count_fields,
    has_bare_line_end,
    match_empty_lines,
)
from maesh_core.proxy.protocol.http.table import CurrentTable, Route
from maesh_core.proxy.protocol.http.transports import HELD_LIMIT_BYTES, limit_write_buffer, reset
from maesh_core.proxy.protocol.http.tunnel import Released
from maesh_core.proxy.protocol.http.upgrade import UpgradeExchange
from maesh_core.proxy.protocol.http.upstream import UpstreamConnection

LINGER_S = 2.0
"""After a last answer to a client that is still sending: what comes is thrown away, so that no reset overtakes it."""
_NEVER = float("inf")


class ClientConnection(asyncio.Protocol):
    """A connection accepted on an entrypoint. Attributes by lifetime: the connection, its waiting, its exchange."""

    __slots__ = (
        "_buffer",
        "_current",
        "_head_rules",
        "_is_advancing",
        "_is_closing",
        "_is_eof",
        "_is_lingering",
        "_last_head",
        "_requests_left",
        "_scanned",
        "_transport",
        "_unsent",
        "address",
        "deadline",
        "entrypoint",
        "environment",
        "exchange",
        "forwarded",
        "is_read_paused",
        "is_write_paused",
        "number",
    )

    def __init__(self, environment: Environment, current: CurrentTable, entrypoint: int) -> None:
        self.environment = environment
        self._current = current
        self.address = ""
        self.entrypoint = entrypoint
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._last_head: RequestHead | None = None
        self._requests_left = environment.settings.request_limit
        self._unsent = 0
        self._is_advancing = False
        self._is_closing = False
        self._is_eof = False
        self._is_lingering = False
        self.is_read_paused = False
        self.is_write_paused = False
        self.deadline = _NEVER
        self.number = 0
        self.exchange: Exchange | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection of {self.address} held={len(self._buffer)} {self.exchange!r}>"

    @property
    def is_draining(self) -> bool:
        """Whether this connection takes no request after the current one."""
        return self.environment.is_draining or (self._is_eof and not self._buffer)

    @property
    def is_holding(self) -> bool:
        """Whether bytes have come that are not of the current request."""
        return bool(self._buffer)

    @property
    def idle_since(self) -> float | None:
        """When the client began to be idle: no byte of a request has come, all of the last response is taken; or None.

        It is computed from the deadline of that wait, so that it costs a request nothing.
        """
        transport = self._transport
        if transport is None or self.exchange is not None or self._buffer or self._is_lingering or self._is_closing:
            return None
        if self.is_write_paused or transport.get_write_buffer_size():
            return None
        settings = self.environment.settings
        is_new = self._requests_left == settings.request_limit
        return self.deadline - (settings.head_timeout if is_new else settings.idle_timeout)

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start waiting for a request, if there is room for one more client."""
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        if not self.environment.admit(self):
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        limit_write_buffer(self._transport)
        self.forwarded = ForwardedFields(self.address, self.environment.server_name)
        self._head_rules = self.environment.head_rules.find(self.address)
        self.deadline = self.environment.clock.now + self.environment.settings.head_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way."""
        self._transport = None
        self.environment.forget(self)
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.on_client_gone()

    def eof_received(self) -> bool:
        """Answer what was asked before the client ended its side; True keeps our side open."""
        self._is_eof = True
        if self.exchange is None:
            return self.is_write_paused and bool(self._buffer) and not self._is_lingering
        return not self.exchange.request_left

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        exchange = self.exchange
        if exchange is None and not self._buffer and not self.is_write_paused and not self._is_lingering:
            end = data.find(HEAD_END)
            if end > 0 and data[0] != 13:
                size = end + len(HEAD_END)
                if size == len(data):  # a whole head alone: the usual case
                    self._start_exchange(data)
                    return
                self._start_exchange(data[:size])
                exchange, data = self.exchange, data[size:]
        if self._is_lingering:
            return
        if exchange is not None and exchange.request_left and not self._buffer:
            data = self._pass_body(exchange, data)
        if data:
            self._buffer += data
            self._advance()
            if not self._can_hold_more():
                self.pause_reading()

    def pause_writing(self) -> None:
        """Stop taking the response: this client is slower."""
        self.is_write_paused = True
        self._wait_for_taker(self.environment.settings.body_timeout)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause_reading()

    def resume_writing(self) -> None:
        """Take more of the response, or the next request."""
        self.is_write_paused = False
        exchange = self.exchange
        if exchange is not None:
            if exchange.upstream is not None:
                self.wait_for_exchange(exchange)
                exchange.upstream.resume_reading()
        elif not self._is_closing and not self._is_lingering:
            self.wait(self.environment.settings.idle_timeout)
            self._advance()
            self.resume_reading()
            if self.environment.is_draining:
                self.start_draining()

    # --- requests

    def _advance(self) -> None:
        """Work through the bytes that are held, for as long as no exchange is under way."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while (
                self.exchange is None
                and self._buffer
                and self._transport is not None
                and not self.is_write_paused
                and not self._is_lingering
                and not self._is_closing
            ):
                if not self._read_held_head():
                    if self._is_eof:
                        self.close()
                    return
        except ClientProtocolError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False

    def _read_held_head(self) -> bool:
        """Start an exchange from the bytes held; False when its head is not whole yet."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n") and (empty_lines := match_empty_lines(buffer)):
            del buffer[: empty_lines.end()]
        end = buffer.find(HEAD_END, max(0, self._scanned - len(HEAD_END))) + len(HEAD_END)
        if end < len(HEAD_END):
            if buffer and buffer != b"\r":  # empty lines are no beginning: they do not prolong the wait for one
                self._check_partial_head()
            return False
        self._scanned = 0
        head = bytes(buffer[:end])
        del buffer[:end]
        self._start_exchange(head)
        exchange = self.exchange
        if exchange is not None and exchange.request_left and buffer:
            held = bytes(buffer)
            buffer.clear()
            buffer += self._pass_body(exchange, held)
            if exchange.request_left and self._is_eof:  # the rest of this body will not come
                self.close()
        return True

    def _check_partial_head(self) -> None:
        """Refuse early what no further byte can mend; otherwise wait, from the first byte on, for the rest."""
        buffer, settings = self._buffer, self.environment.settings
        if not self._scanned:
            self.deadline = self.environment.clock.now + settings.head_timeout
        if has_bare_line_end(buffer, max(0, self._scanned - 1)):
            raise ClientProtocolError("line ended by something else than CRLF")
        line_end = buffer.find(b"\r\n", 0, settings.target_limit + 2)
        if line_end < 0 and len(buffer) > settings.target_limit + 1:
            raise ClientProtocolError("the request line is too long", 414)
        if len(buffer) > settings.head_limit:
            raise ClientProtocolError("the request's head is too large", 431)
        self._scanned = len(buffer)

    def _start_exchange(self, head: bytes) -> None:
        try:
            if len(head) > SMALL_HEAD_BYTES:
                self._check_size(head)
            request = self._last_head
            if request is None or request.head != head:
                request = parse_request_head(head, self._head_rules)
                self._last_head = request if len(head) <= KEPT_LIMIT_BYTES else None
        except ClientProtocolError as error:
            self._refuse(error)
            return
        route = self._current.table.find(self.entrypoint, request.host)
        kind = Exchange
        if route is not None and not route.is_plain:
            if route.branches:
                route = route.choose(request)
            if route.is_chained:
                kind = ChainedExchange
        if request.upgrade:
            kind = UpgradeExchange
        exchange = self.exchange = kind(self, request, self.environment.clock_time())
        self._requests_left -= 1
        if self._requests_left == 0:  # never so without a limit
            exchange.is_keep_alive = False
        exchange.start(route)

    def find_route(self, host: bytes) -> Route | None:
        """Find where a host leads now."""
        return self._current.table.find(self.entrypoint, host)

    def _check_size(self, head: bytes) -> None:
        """Refuse a whole head that is too large."""
        settings = self.environment.settings
        if head.index(b"\r\n") > settings.target_limit:
            raise ClientProtocolError("the request line is too long", 414)
        if len(head) > settings.head_limit:
            raise ClientProtocolError("the request's head is too large", 431)
        if count_fields(head) > settings.field_limit:
            raise ClientProtocolError("the request has too many header fields", 431)

    def _refuse(self, error: ClientProtocolError) -> None:
        """Answer what is no request, and close: nothing behind it can be trusted."""
        self.environment.count_refusal(error.status)
        answer = build_answer(error)
        self.write(render_answer(answer, connection=b"Connection: close\r\n", is_head_request=False))
        self._linger()

    def _pass_body(self, exchange: Exchange, data: bytes) -> bytes:
        """Hand body bytes to the exchange; returns those that belong to the next request."""
        try:
            rest = exchange.receive_body(data)
        except ClientProtocolError as error:
            exchange.fail(error)
            return b""
        if self.exchange is exchange:
            if exchange.upstream is not None:
                self.wait_for_exchange(exchange)
            elif exchange.is_holding_enough:
                self.pause_reading()
        return rest

    # --- what the exchange and its upstream ask for

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""
        if self._transport is not None and data:
            self._transport.write(data)

    def wait(self, seconds: float | None) -> None:
        """Let the sweep end the current wait after so many seconds; None while something else limits it."""
        self.deadline = _NEVER if seconds is None else self.environment.clock.now + seconds

    def wait_for_exchange(self, exchange: Exchange) -> None:
        """Wait for what the exchange needs next: the rest of the request, the response's head, the rest of that."""
        settings = self.environment.settings
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

    def on_upstream_ready(self, upstream: UpstreamConnection) -> None:
        """Read what was held back for want of an upstream."""
        if self.is_write_paused:
            upstream.pause_reading()
        self.resume_reading()

    def on_progress(self) -> None:
        """Wait anew: bytes of the response have passed."""
        settings = self.environment.settings
        self.wait(settings.body_timeout if self.is_write_paused else settings.upstream_body_timeout)

    def pause_reading(self) -> None:
        """Take no more of the request: the upstream is slower, or absent."""
        transport = self._transport
        if transport is not None and not self.is_read_paused and not self._is_eof and not transport.is_closing():
            self.is_read_paused = True
            transport.pause_reading()
            exchange = self.exchange
            if exchange is not None and exchange.request_left and exchange.upstream is not None:
                self._wait_for_taker(self.environment.settings.upstream_body_timeout)

    def resume_reading(self) -> None:
        """Take more of the request."""
        if self.is_read_paused and self._transport is not None and self._can_hold_more():
            self.is_read_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
            exchange = self.exchange
            if exchange is not None and exchange.request_left and exchange.upstream is not None:
                self.wait_for_exchange(exchange)

    def _can_hold_more(self) -> bool:
        """Whether bytes may be read ahead; those of a head that is due may be, up to its own limit."""
        is_head_due = self.exchange is None and not self.is_write_paused
        return is_head_due or len(self._buffer) <= HELD_LIMIT_BYTES

    def on_exchange_finished(self, exchange: Exchange) -> None:
        """Go on to the next request, or close."""
        if self.exchange is exchange:
            self.exchange = None
        environment = self.environment
        if not exchange.is_keep_alive or environment.is_draining or (self._is_eof and not self._buffer):  # is_draining
            if exchange.request_left or self._buffer:
                self._linger()
            else:
                self.close()
            return
        self.deadline = environment.clock.now + environment.settings.idle_timeout
        if self._buffer:
            self._advance()
        if self.is_read_paused:
            self.resume_reading()

    # --- ends

    def on_deadline(self) -> None:
        """End a wait that was too long, but not for somebody who takes bytes slowly: the pause counts."""
        self.deadline = _NEVER
        unsent = self._count_unsent()
        if unsent < self._unsent and (self.is_write_paused or self.is_read_paused or self._is_closing):
            settings = self.environment.settings
            is_client_slow = self.is_write_paused or self._is_closing
            self._wait_for_taker(settings.body_timeout if is_client_slow else settings.upstream_body_timeout)
        elif self.exchange is not None:
            self.exchange.on_timeout()
        elif self._is_closing or self.is_write_paused:
            self.cut()
        elif self._buffer and not self._is_lingering:
            self._refuse(ClientProtocolError("the request's head did not come in time", 408))
        else:
            self.close()

    def start_draining(self) -> None:
        """Close if idle; an exchange under way, or a head that has begun to come, ends first."""
        if self.exchange is None and not (self._buffer or self._is_lingering or self.is_write_paused):
            self.close()

    def close(self) -> None:
        """Close once everything written has gone out, or the client has not taken it for too long."""
        if self._transport is not None:
            self._is_closing = True
            self._transport.close()
            self._wait_for_taker(self.environment.settings.body_timeout)

    def cut(self) -> None:
        """Reset the connection, so that the client cannot take what it got for complete."""
        self._is_closing = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_client_gone()
        if self._transport is not None:
            reset(self._transport)

    def release(self) -> Released:
        """Let go of the transport for good, with what was read of it and is not used."""
        transport, self._transport = self._transport, None
        assert transport is not None  # noqa: S101 - its end would have ended the exchange
        self.exchange = None
        self.environment.clients.discard(self)
        held = bytes(self._buffer)
        self._buffer.clear()
        return Released(
            transport,
            held,
            has_ended=self._is_eof,
            is_read_paused=self.is_read_paused,
            is_write_paused=self.is_write_paused,
        )

    def _linger(self) -> None:
        """End our side, and throw away what the client still sends for a while (RFC 9112 section 9.6)."""
        transport = self._transport
        if transport is None:
            return
        if self._is_eof:
            self.close()
            return
        self._is_lingering = True
        self._buffer.clear()
        self.exchange = None
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        self.resume_reading()
        self.deadline = self.environment.clock.now + LINGER_S
