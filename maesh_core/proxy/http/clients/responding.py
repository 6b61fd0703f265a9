"""How an HTTP/1 client connection writes responses: heads, 1xx, the mesh's own answers, and keep-alive.

Takes parsed response heads from the current exchange. Decides what depends on the client's version and connection: the
Connection field, the framing that an HTTP/1.0 client understands, and keep-alive.
"""

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import render_answer
from maesh_core.proxy.http.clients.pacing import PacedConnection
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import STREAMED
from maesh_core.proxy.http.messages.response_head import UNTIL_CLOSE, ResponseHead


class RespondingConnection(PacedConnection):
    """Writes responses. `is_keep_alive` means that the connection accepts another request after the current one."""

    __slots__ = ("_is_chunking", "is_keep_alive")

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.is_keep_alive = True
        self._is_chunking = False

    @property
    def is_draining(self) -> bool:
        """Whether this connection accepts no request after the current one."""
        return self.environment.is_draining or (self._is_eof and not self._buffer)

    @property
    def is_unchunked(self) -> bool:
        """Whether the client needs the content of chunks without their framing, as HTTP/1.0 does."""
        return self.exchange is not None and self.exchange.head.is_http_1_0

    def can_forward_unchanged(self, response: ResponseHead) -> bool:
        """Whether the bytes of a complete response can be forwarded unchanged."""
        exchange = self.exchange
        if exchange is None or not self.is_keep_alive or not response.is_plain or exchange.head.is_http_1_0:
            return False
        if self._buffer:
            return not self.environment.is_draining and not exchange.head.upgrade
        return not self.environment.is_draining and not self._is_eof  # is_draining

    def start_response(self, response: ResponseHead, changed: Headers | None, body: bytes) -> None:
        """Send a response's head and the first bytes of its body."""
        exchange = self.exchange
        if exchange is None:
            return
        is_http_1_0 = exchange.head.is_http_1_0
        is_chunked = response.framing.startswith(b"Transfer-Encoding")
        self._is_chunking = response.left == STREAMED and is_chunked and not is_http_1_0
        if response.left == UNTIL_CLOSE or exchange.request_left or (is_http_1_0 and is_chunked and response.left):
            self.is_keep_alive = False
        framing = b"" if is_http_1_0 and is_chunked else response.framing
        head = _render_head(response, changed, framing, self._render_connection(exchange))
        self.write(head + body)

    def write_informational(self, response: ResponseHead) -> None:
        """Send a 1xx response (RFC 9110 section 15.2); HTTP/1.0 has none."""
        if self.exchange is not None and not self.exchange.head.is_http_1_0:
            self.write(response.outgoing + b"\r\n")

    def write_answer(self, response: Response) -> None:
        """Send a response of the mesh. Raises ValueError, TypeError or AttributeError if it is not valid."""
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.request_left:
            self.is_keep_alive = False
        connection = self._render_connection(exchange)
        self.write(render_answer(response, connection=connection, is_head_request=exchange.is_head_request))

    def stop_reuse(self) -> None:
        """Accept no request after this one: the client's bytes cannot be trusted."""
        self.is_keep_alive = False

    def write_content(self, data: bytes) -> None:
        """Send bytes of a streamed response's body, as a chunk if its length is unknown."""
        self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunking and data else data)

    def end_content(self, trailers: bytes) -> None:
        """End a streamed response's body."""
        if self._is_chunking:
            self.write(b"0\r\n" + trailers + b"\r\n")

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""
        if self._transport is not None and data:
            self._transport.write(data)

    def _render_connection(self, exchange: Exchange) -> bytes:
        """Render the Connection field, which says whether the connection stays open."""
        if self.is_draining or (exchange.head.upgrade and self._buffer):
            self.is_keep_alive = False
        if not self.is_keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if exchange.head.is_http_1_0 else b""


def _render_head(response: ResponseHead, changed: Headers | None, framing: bytes, connection: bytes) -> bytes:
    """Render a head with its empty line; `connection` holds the Connection field, or nothing."""
    if changed is not None and (changed.is_split or framing != response.framing):
        return b"".join((response.status_line, changed.text, framing, connection, b"\r\n"))
    if framing != response.framing:
        return b"".join((response.status_line, *response.build_headers().lines, framing, connection, b"\r\n"))
    if changed is None:
        return response.outgoing + connection + b"\r\n"
    if not connection:  # often repeated
        return changed.render(response, response.outgoing)
    return b"".join((response.outgoing, changed.added, connection, b"\r\n"))
