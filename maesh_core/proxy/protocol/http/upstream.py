"""Connections to one server: a pool of idle ones, and what one of them does with a response.

A connection belongs to one exchange at a time. It goes back to the pool only when both messages ended cleanly and
nothing came that was not asked for; any unexpected byte closes it.
"""

import asyncio
import ssl
from enum import Enum
from typing import NamedTuple, Protocol, cast

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamNotReachedError, UpstreamProtocolError
from maesh_core.proxy.protocol.http.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.protocol.http.environment import Environment
from maesh_core.proxy.protocol.http.request_head import CHUNKED, KEPT_LIMIT_BYTES
from maesh_core.proxy.protocol.http.response_head import UNTIL_CLOSE, ResponseHead, parse_response_head
from maesh_core.proxy.protocol.http.syntax import HEAD_END, SMALL_HEAD_BYTES, count_fields, has_bare_line_end
from maesh_core.proxy.protocol.http.transports import limit_write_buffer
from maesh_core.proxy.protocol.http.tunnel import Released
from maesh_core.proxy.upstream.health import Aside
from maesh_core.proxy.upstream.tls import is_cut_off

IDLE_LIMIT = 1024
"""Idle connections kept to one server. Maesh 1.2 kept 200; with fewer than there are requests under way, each request
more pays a connect, and 2,000 clients of two servers waited four times as long for the slowest hundredth."""
INFORMATIONAL_LIMIT = 16
"""1xx responses passed on before a final one (RFC 9110 section 15.2); more is a broken upstream."""


class Passing(Enum):
    """What becomes of a response whose head has been read."""

    AS_IT_CAME = 1
    """All that came of it goes to the client, byte for byte, and is all there is."""
    RENDERED = 2
    """`render_response_head` says what goes to the client before the body."""
    GIVEN_UP = 3
    """It is no longer wanted; the exchange has let go of the connection."""


AS_IT_CAME, RENDERED, GIVEN_UP = Passing  # reading a member off its class takes 0.1 us


class ClientSide(Protocol):
    """The client's connection, as an upstream's sees it."""

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""

    def on_progress(self) -> None:
        """Wait anew: bytes of the response have passed."""

    def pause_reading(self) -> None:
        """Take no more of the request."""

    def resume_reading(self) -> None:
        """Take more of the request."""


class Owner(Protocol):
    """The exchange that a connection belongs to for a while."""

    @property
    def connection(self) -> ClientSide:
        """Where the response goes."""

    @property
    def is_head_request(self) -> bool:
        """Whether the response has no body, whatever its head says."""

    @property
    def is_unchunked(self) -> bool:
        """Whether the client takes the content of chunks alone."""

    @property
    def request_left(self) -> int:
        """What has not come yet of the request's body."""

    def count_ejection(self) -> None:
        """Count that its server was set aside."""

    def on_connected(self, upstream: "UpstreamConnection") -> None:
        """Go on over a connection that was made for it."""

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Go on from a server that could not be connected to."""

    def on_upstream_closed(self, server: "HttpServer", error: ExchangeError, *, is_stale: bool) -> None:
        """Go on from a connection that ended before a response head."""

    def on_upstream_broken(self, error: ExchangeError) -> None:
        """Go on from a connection that brought what is no response."""

    def on_informational(self, response: ResponseHead) -> None:
        """Take a 1xx."""

    def on_switching(self, upstream: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """Take a 101 and what came behind it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Take the head of the final response; `is_whole` says that its body came with it, and nothing behind it."""

    def render_response_head(self) -> bytes:
        """Render the head of the response as the client must have it."""

    def on_response_complete(self) -> None:
        """End well: the whole response is with the client's transport."""

    def cut(self) -> None:
        """End in the middle of a response."""


class ServerKey(NamedTuple):
    """What makes two servers one, with one pool of connections and one health: how and where it is spoken to.

    A connection that was verified for one name is none for another, so the name is part of it.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"


class HttpServer:
    """One server's address and the connections to it.

    `uses` counts the services that have it; `opened` the connections that are open or being made, idle ones too.
    """

    __slots__ = ("_connecting", "aside", "environment", "idle", "is_removed", "key", "opened", "uses")

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        self.environment = environment
        self.key = key
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        self.aside: Aside | None = None
        self.is_removed = False
        self.uses = 0
        self._connecting: dict[Owner, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<HttpServer {self.key} idle={len(self.idle)} opened={self.opened} {self.aside!r}>"

    @property
    def address(self) -> str:
        """Its IP address."""
        return self.key.address

    @property
    def port(self) -> int:
        """Its port."""
        return self.key.port

    @property
    def under_way(self) -> int:
        """How many exchanges have a connection, or wait for one: counting these would cost every request."""
        return self.opened - len(self.idle)

    def take_idle(self) -> "UpstreamConnection":
        """Take the connection that was used last out of the pool, which holds one."""
        upstream = self.idle.pop()
        upstream.is_reused = True
        return upstream

    def connect(self, exchange: Owner) -> None:
        """Make a connection for an exchange and hand it over, or tell it why not."""
        self.opened += 1
        self._connecting[exchange] = asyncio.get_running_loop().create_task(self._connect(exchange))

    def forget(self, exchange: Owner) -> None:
        """Give up a connection that is being made."""
        task = self._connecting.pop(exchange, None)
        if task is not None:
            self.opened -= 1
            task.cancel()

    def note_failure(self, exchange: Owner) -> None:
        """Set the server aside for requests to come: it took no connection, or broke one instead of answering."""
        if self.environment.health.on_failure(self):
            exchange.count_ejection()

    async def _connect(self, exchange: Owner) -> None:
        error: ExchangeError
        try:
            async with asyncio.timeout(self.environment.settings.connect_timeout):
                upstream = await self._open()
        except TimeoutError:
            error = ConnectTimeoutError("no connection to the upstream in time")
        except ssl.SSLCertVerificationError as failure:
            error = UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            error = UpstreamNotReachedError(f"no TLS with the upstream: {failure.reason}")
        except UpstreamNotReachedError as failure:
            error = failure
        except (OSError, ValueError, OverflowError):  # the latter two: an address or port that there cannot be
            error = UpstreamNotReachedError("no connection to the upstream")
        else:
            if self._connecting.pop(exchange, None) is not None:
                self.opened -= 1  # the connection counts itself
                exchange.on_connected(upstream)
            else:
                upstream.close()
            return
        if self._connecting.pop(exchange, None) is not None:
            self.opened -= 1
            self.note_failure(exchange)
            exchange.on_connect_failed(error)

    async def _open(self) -> "UpstreamConnection":
        """Open a connection, and have TLS on it where the scheme says so. Raises OSError, UpstreamNotReachedError."""
        loop = asyncio.get_running_loop()
        _, address, port, name = self.key
        if self.key.scheme != "https":
            return (await loop.create_connection(lambda: UpstreamConnection(self), address, port))[1]
        transport, upstream = await loop.create_connection(
            lambda: UpstreamConnection(self),
            address,
            port,
            ssl=self.environment.tls.context,
            server_hostname=name or address,  # an address is not sent (RFC 6066 section 3)
        )
        if not self.environment.tls.is_for(transport.get_extra_info("ssl_object"), address=address, name=name):
            upstream.close()
            names = f"{address} nor for {name}" if name else address
            raise UpstreamNotReachedError(f"the upstream's certificate is not for {names}")
        return upstream

    def remove(self) -> None:
        """Close what is idle, and what becomes so: no service has this server any more."""
        self.is_removed = True
        for upstream in list(self.idle):
            upstream.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; the oldest stand first."""
        limit = now - self.environment.settings.upstream_idle_timeout
        while self.idle and self.idle[0].idle_since < limit:
            self.idle[0].close()


class UpstreamConnection(asyncio.Protocol):
    """One connection to a server, and the response it is about to bring or brings."""

    __slots__ = (
        "_buffer",
        "_exchange",
        "_informational",
        "_is_read_paused",
        "_is_write_paused",
        "_last_head",
        "_left",
        "_response",
        "_scanner",
        "_transport",
        "idle_since",
        "is_reused",
        "server",
    )

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.is_reused = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._is_read_paused = False
        self._is_write_paused = False
        self._exchange: Owner | None = None
        self._buffer = b""
        self._informational = 0
        self._response: ResponseHead | None = None
        self._last_head: ResponseHead | None = None
        self._left = 0
        self._scanner: ChunkedScanner | None = None

    def __repr__(self) -> str:
        return f"<UpstreamConnection to {self.server.key} for {self._exchange!r}>"

    # --- what the exchange asks for

    def begin(self, exchange: Owner, request: bytes) -> None:
        """Send a request, and bring the response to `exchange`."""
        self._exchange = exchange
        self._response = None
        self._informational = 0
        if self._transport is not None:
            self._transport.write(request)

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        if self._transport is not None:
            self._transport.write(data)

    def abandon(self) -> None:
        """Close at once: the exchange has ended without this response."""
        self._exchange = None
        self.close()

    def close(self) -> None:
        """Close at once, and leave the pool."""
        if self in self.server.idle:
            self.server.idle.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Take no more of the response: the client is slower."""
        if self._transport is not None and not self._is_read_paused:
            self._is_read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more of the response."""
        if self._transport is not None and self._is_read_paused:
            self._is_read_paused = False
            self._transport.resume_reading()

    def release(self, held: bytes) -> Released:
        """Let go of the transport for good, with what was read of it and is not used; the server counts it on."""
        transport, self._transport = self._transport, None
        assert transport is not None  # noqa: S101 - bytes have just come from it
        self._exchange = None
        self.server.environment.upstreams.discard(self)
        return Released(
            transport,
            held,
            has_ended=False,
            is_read_paused=self._is_read_paused,
            is_write_paused=self._is_write_paused,
        )

    @property
    def unsent_bytes(self) -> int:
        """What was written and the server has not taken."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; the exchange sends its request next."""
        self._transport = cast("asyncio.Transport", transport)
        limit_write_buffer(self._transport)
        self.server.opened += 1
        self.server.environment.upstreams.add(self)

    def eof_received(self) -> None:
        """Leave the pool now: the end of the connection is told only in the next round of the loop."""
        if self._exchange is None and self in self.server.idle:
            self.server.idle.remove(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response as the end of the connection says."""
        transport, self._transport = self._transport, None
        self.server.opened -= 1
        self.server.environment.upstreams.discard(self)
        if self in self.server.idle:
            self.server.idle.remove(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._response is None:
            is_stale = self.is_reused and not self._buffer and not self._informational
            if not is_stale:
                self.server.note_failure(exchange)
            error = UpstreamProtocolError("the upstream closed without a response")
            exchange.on_upstream_closed(self.server, error, is_stale=is_stale)
        elif self._left == UNTIL_CLOSE and exc is None and transport is not None and not _is_cut_off(transport):
            exchange.on_response_complete()
        else:
            exchange.cut()

    def pause_writing(self) -> None:
        """Stop reading the client: this upstream is slower."""
        self._is_write_paused = True
        if self._exchange is not None:
            self._exchange.connection.pause_reading()

    def resume_writing(self) -> None:
        """Read the client again."""
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.connection.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the response."""
        exchange = self._exchange
        if exchange is None:  # nothing was asked: RFC 9112 section 9.2
            self.close()
        elif self._response is not None:
            self._receive_body(exchange, self._response, data, is_first=False)
        else:
            try:
                self._receive_head(exchange, data)
            except UpstreamProtocolError as error:
                self._break(error)

    # --- the response

    def _receive_head(self, exchange: Owner, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while True:
            end = data.find(HEAD_END) + len(HEAD_END)
            if end < len(HEAD_END):
                self._hold_head(data)
                return
            if end > SMALL_HEAD_BYTES:
                self._check_size(data[:end])
            head, response = data[:end], self._last_head
            if response is None or response.head != head or exchange.is_head_request:  # servers repeat themselves
                response = self._read_head(head, is_head_request=exchange.is_head_request)
            if self.server.aside is not None:
                self.server.environment.health.on_success(self.server)
            if response.status >= 200:
                break
            if response.status == 101:
                exchange.on_switching(self, response, data[end:])
                return
            self._pass_informational(exchange, response)
            data = data[end:]
        passing = exchange.on_response_head(response, is_whole=len(data) - end == response.left)
        if passing is AS_IT_CAME:
            exchange.connection.write(data)
            self._end(exchange, is_clean=response.is_keep_alive)
        elif passing is RENDERED:
            self._response = response
            self._left = response.left
            self._scanner = ChunkedScanner() if response.left == CHUNKED else None
            self._receive_body(exchange, response, data[end:], is_first=True)

    def _read_head(self, head: bytes, *, is_head_request: bool) -> ResponseHead:
        response = parse_response_head(head, is_head_request=is_head_request)
        self._last_head = response if len(head) <= KEPT_LIMIT_BYTES and not is_head_request else None
        return response

    def _check_size(self, head: bytes) -> None:
        settings = self.server.environment.settings
        if len(head) > settings.head_limit:
            raise UpstreamProtocolError("the upstream's response head is too large")
        if count_fields(head) > settings.field_limit:
            raise UpstreamProtocolError("the upstream's response has too many header fields")

    def _hold_head(self, data: bytes) -> None:
        if len(data) > self.server.environment.settings.head_limit:
            raise UpstreamProtocolError("the upstream's response head is too large")
        if has_bare_line_end(data):
            raise UpstreamProtocolError("the upstream ended a line by something else than CRLF")
        self._buffer = data

    def _pass_informational(self, exchange: Owner, response: ResponseHead) -> None:
        self._informational += 1
        if self._informational > INFORMATIONAL_LIMIT:
            raise UpstreamProtocolError("the upstream sent too many informational responses")
        exchange.on_informational(response)

    def _receive_body(self, exchange: Owner, response: ResponseHead, data: bytes, *, is_first: bool) -> None:
        """Pass body bytes to the client, the first ones behind the head."""
        left = self._left
        surplus = 0
        if left >= 0:
            if surplus := max(0, len(data) - left):
                data = data[:left]
            self._left = left = left - len(data)
        elif left == CHUNKED:
            try:
                data, surplus = self._scan(exchange, data)
            except ChunkedError as error:
                if is_first:
                    raise UpstreamProtocolError(f"the upstream sent a {error}") from error
                exchange.cut()
                return
            left = self._left
        connection = exchange.connection
        connection.write(exchange.render_response_head() + data if is_first else data)
        if left == 0:
            self._end(exchange, is_clean=response.is_keep_alive and not surplus)
        else:
            connection.on_progress()

    def _scan(self, exchange: Owner, data: bytes) -> tuple[bytes, int]:
        """Follow the chunks; an HTTP/1.0 client gets their content alone. Returns what to send, and the surplus."""
        assert self._scanner is not None  # noqa: S101 - _left is CHUNKED
        payload: list[bytes] | None = [] if exchange.is_unchunked else None
        taken = self._scanner.scan(data, payload)
        if self._scanner.is_complete:
            self._left = 0
        body = data[:taken] if payload is None else b"".join(payload)
        return body, len(data) - taken

    def _end(self, exchange: Owner, *, is_clean: bool) -> None:
        self._exchange = None
        self._response = None
        server = self.server
        if exchange.request_left or self._is_write_paused:  # the server did not take all of the request
            is_clean = False
        if is_clean and not server.is_removed and len(server.idle) < IDLE_LIMIT:
            self.resume_reading()
            self.idle_since = server.environment.clock.now
            server.idle.append(self)
        else:
            self.close()
        exchange.on_response_complete()

    def _break(self, error: ExchangeError) -> None:
        exchange, self._exchange = self._exchange, None
        self.close()
        if exchange is not None:
            exchange.on_upstream_broken(error)


def _is_cut_off(transport: asyncio.Transport) -> bool:
    return is_cut_off(transport.get_extra_info("ssl_object"))
