"""Serves HTTP/1.1 on listening sockets: one request after the other on each connection, each answered from memory.

Takes what answers a request, at once or later, and what refuses one. A response may be a stream, whose parts are sent
as they come and as the client takes them; it ends when the client leaves or ends its side. Every size, wait and number
of clients is bounded, for anybody may connect. A protected server uses TLS, and refuses requests without it except
those that may be answered in clear. Clients count from before their handshake.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import msgspec

from maesh_core.plain_http.connection_places import ConnectionPlaces
from maesh_core.plain_http.messages import BodyStream, Request, RequestLimits, RequestReader, Response

if TYPE_CHECKING:
    import ssl  # imported only by those who serve TLS

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel takes less where `net.core.somaxconn` says so."""
ACCEPT_BATCH = 16
"""Connections that are accepted in one turn of the event loop. Each is counted, or closed again, within the next three
turns, and has a descriptor until then: so the limit of clients bounds descriptors only together with this one."""
QUEUE_LIMIT = 16
"""A connection on which more requests wait is not read from until they are answered."""
PARSED_BYTES = 1024
"""So much is parsed before `QUEUE_LIMIT` is checked again: at most 40 requests. The rest of a read waits as bytes."""

_HANDSHAKE = 0x16
"""The first byte of a TLS connection (RFC 8446 section 5.1), with which no request begins."""

logger = logging.getLogger(__name__)

Respond = Callable[[Request], Response | Awaitable[Response]]
Refuse = Callable[[int, str], Response]
"""Takes a status, 400 or more, and why."""
NEEDS_TLS = "this needs TLS"
"""Why a request in clear is refused."""


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long clients may take, in seconds, and how many there may be.

    `request_s` counts from the end of the request before, idle time included. `linger_s` is how long input is read past
    after an answer to what was not read to its end: closing with unread input resets the connection and the answer.
    `handshake_s` is the time for the first byte where TLS is expected, and for a TLS handshake. `address_clients`
    is the limit of clients with one address, not on loopback, that have shown no certificate; 0 is no limit.
    """

    request_s: float = 60.0
    send_s: float = 60.0
    linger_s: float = 1.0
    handshake_s: float = 5.0
    clients: int = 256
    address_clients: int = 0
    requests: RequestLimits = RequestLimits()


class HttpServer:
    """Serves from `listen` to `close`, in one event loop.

    At a limit, the connection that waits for no answer and has been silent for longest is closed for a new one; without
    such a one, that which has not taken its answers for longest.

    `cancels_at_end`: a client that ends its side while it waits for an answer is gone, and the answer is cancelled.

    `context` is for the TLS handshakes of further connections, and may be replaced at any time. With a context, or with
    `is_protected`, requests without TLS get 426 (RFC 9110 section 15.5.22), unless `may_be_clear` allows them.
    """

    def __init__(self, respond: Respond, refuse: Refuse, limits: ServerLimits, *, cancels_at_end: bool = False) -> None:
        self.respond = respond
        self.refuse = refuse
        self.limits = limits
        self.cancels_at_end = cancels_at_end
        self.context: ssl.SSLContext | None = None
        self.is_protected = False
        """Whether TLS is expected also as long as there is no context; such a handshake fails."""
        self.may_be_clear: Callable[[Request], bool] = lambda request: False
        self.is_closing = False
        self.places: ConnectionPlaces[_Connection] = ConnectionPlaces(
            limit=limits.clients, address_limit=limits.address_clients
        )
        self._servers: list[asyncio.Server] = []
        self._left = asyncio.Event()

    def __repr__(self) -> str:
        return f"<HttpServer {self.places!r}>"

    async def listen(self, *sockets: socket.socket) -> None:
        """Serve on bound sockets, which this now owns."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            # asyncio takes the backlog for the number to accept in one turn, too
            self._servers.append(await loop.create_server(lambda: _Connection(self), sock=sock, backlog=ACCEPT_BATCH))
            sock.listen(BACKLOG)

    @property
    def port(self) -> int | None:
        """The port that is listened on; None where none is."""
        for server in self._servers:
            for sock in server.sockets:
                return int(sock.getsockname()[1])
        return None

    async def close(self, *, grace_s: float = 0.0) -> None:
        """Stop listening, and close idle connections; the others have `grace_s` to be answered, then they are cut."""
        self.is_closing = True
        for server in self._servers:
            server.close()
        for client in list(self.places.idle):
            client.end()
        self._left.clear()
        if grace_s > 0 and self.places.all:
            waiting = asyncio.create_task(self._left.wait())
            await asyncio.wait([waiting], timeout=grace_s)
            waiting.cancel()
        answering = [client.cut() for client in list(self.places.all)]
        await asyncio.gather(*(each for each in answering if each is not None), return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted close in the next round of the loop

    def forget(self, client: "_Connection") -> None:
        """Count out a client that has left."""
        self.places.forget(client)
        if not self.places.all:
            self._left.set()


class _Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._places = server.places
        self.address = ""
        self._transport: asyncio.Transport
        self._received = RequestReader(server.limits.requests)
        self._answering: asyncio.Task[Response] | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._securing: asyncio.Task[None] | None = None
        self._early = b""
        self._unparsed = memoryview(b"")
        self._has_room = asyncio.Event()
        self._request = Request()
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = self._is_ended = self._is_at_end = False
        self._is_undecided = self._needs_tls = False

    def __repr__(self) -> str:
        return f"<_Connection {'ended' if self._is_ended else 'open'} answering={self._is_busy}>"

    @property
    def _is_busy(self) -> bool:
        return self._answering is not None or self._streaming is not None

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("",)
        self.address = peer[0]
        self._received = RequestReader(self._server.limits.requests, remote=self.address)
        self._needs_tls = self._server.is_protected or self._server.context is not None
        if self._server.is_closing or not self._places.admit(self):
            self.cut()
        elif self._needs_tls:
            self._is_undecided = True
            self._places.note_idle(self)
            self._start_timer(self._server.limits.handshake_s)
        else:
            self._wait()

    def _decide(self, data: bytes) -> None:
        """Choose by the first byte: a TLS handshake, or requests in clear."""
        self._is_undecided = False
        self._stop_timer()
        context = self._server.context
        if data[0] != _HANDSHAKE:
            self._wait()
            self.data_received(data)
        elif context is None:
            self.cut()
        else:
            self._places.note_idle(self)
            from maesh_core.plain_http.tls_handshake import start_handshake  # it imports ssl, which takes 5 MB

            handshake_s = self._server.limits.handshake_s
            handshake = start_handshake(self._transport, self, context, data, limit_s=handshake_s)
            self._securing = asyncio.ensure_future(self._secure(handshake))

    async def _secure(self, handshake: Awaitable[asyncio.Transport]) -> None:
        """Wait for the TLS handshake, then begin to wait for a request."""
        try:
            transport = await handshake
        except BaseException as error:  # asyncio reports no end of a connection whose handshake has not ended
            self._securing = None
            self.cut()
            self.connection_lost(None)
            if not isinstance(error, OSError):  # ssl.SSLError and the end of the time are such
                raise
            return
        self._securing = None
        if self._is_ended:
            return
        self._transport = transport
        certificate = transport.get_extra_info("peercert")
        self._received.note_tls(certificate)
        if certificate:
            self._places.note_proven(self)
        self._wait()
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Read requests, and answer them."""
        if self._is_ended or self._is_at_end:
            return
        if self._is_undecided:
            self._decide(data)
            return
        if self._securing is not None:  # what came with the end of the handshake
            self._early += data
            return
        if self in self._places.idle:
            self._places.note_idle(self)
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()
        if self._unparsed or len(self._received.requests) > QUEUE_LIMIT:
            self._transport.pause_reading()
        self._proceed()

    def _parse(self) -> None:
        """Make requests of what has come, until the queue is full."""
        while self._unparsed and len(self._received.requests) <= QUEUE_LIMIT:
            part, self._unparsed = self._unparsed[:PARSED_BYTES], self._unparsed[PARSED_BYTES:]
            self._received.feed(part)

    def eof_received(self) -> bool:
        """See the end of what the client sends: it may still read what it has asked for."""
        if self._streaming is not None or (self._answering is not None and self._server.cancels_at_end):
            return False
        self._is_at_end = True
        if not self._transport.can_write_eof():  # TLS has no half-closed connections here
            return False
        return self._answering is not None or bool(self._received.requests or self._unparsed)

    def pause_writing(self) -> None:
        """Answer no more until the client has taken what there is."""
        self._is_full = True
        self._places.note_stalled(self)
        self._has_room.clear()
        if self._streaming is not None:
            self._start_timer(self._server.limits.send_s)

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        self._has_room.set()
        if self._streaming is not None:
            self._places.stalled.pop(self, None)
            self._stop_timer()
        elif not self._is_ended:
            self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._is_ended = True
        self._stop_timer()
        self._cancel()
        self._received.release()
        self._unparsed = memoryview(b"")
        self._server.forget(self)

    # --- one request after the other

    def _proceed(self) -> None:
        """Answer what waits, as far as that goes at once."""
        requests = self._received.requests
        while not (self._is_busy or self._is_full or self._is_ended):
            if not requests:
                self._parse()
                if not requests:
                    break
            self._places.idle.pop(self, None)
            self._stop_timer()
            self._request = requests.popleft()
            response = self._respond(self._request)
            if isinstance(response, Response):
                self._send(response)
            else:
                self._answering = asyncio.ensure_future(_await(response))
                self._answering.add_done_callback(self._on_answered)
        if self._is_ended or self._is_busy:
            return
        if self._is_full:
            self._start_timer(self._server.limits.send_s)
        elif self._is_at_end:
            self.end()
        elif self not in self._places.idle:
            self._wait()

    def _respond(self, request: Request) -> Response | Awaitable[Response]:
        if request.refusal:
            return self._server.refuse(request.refusal, request.reason)
        if self._needs_tls and not request.is_encrypted and not self._server.may_be_clear(request):
            refusal = self._server.refuse(426, NEEDS_TLS)
            fields = (*refusal.fields, (b"Upgrade", b"TLS/1.2, HTTP/1.1"))
            return msgspec.structs.replace(refusal, fields=fields, is_last=True)
        try:
            return self._server.respond(request)
        except Exception as error:  # one request's edge
            return self._fail(error)

    def _on_answered(self, answering: "asyncio.Task[Response]") -> None:
        self._answering = None
        if answering.cancelled():
            return
        error = answering.exception()
        if self._is_ended:
            if error is None:
                _close(answering.result().stream)
            return
        if error is not None and not isinstance(error, Exception):
            raise error
        self._send(answering.result() if error is None else self._fail(error))
        if not self._is_ended:
            self._proceed()

    def _fail(self, error: Exception) -> Response:
        logger.error("%s failed", self._request.target.decode("ascii", "replace"), exc_info=error)
        return self._server.refuse(500, "an error of the server; its log says which")

    def _send(self, response: Response) -> None:
        request = self._request
        is_last = request.is_last or response.is_last or self._server.is_closing
        if response.stream is not None and request.method != b"HEAD":
            self._start_stream(response, response.stream, is_last=is_last)
            return
        _close(response.stream)
        self._transport.write(response.render(is_head=request.method == b"HEAD", is_last=is_last))
        if request.is_unread:
            self._is_ended = True
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._places.note_idle(self)
            self._start_timer(self._server.limits.linger_s)
        elif is_last:
            self.end()

    # --- a stream

    def _start_stream(self, response: Response, stream: BodyStream, *, is_last: bool) -> None:
        is_chunked = self._request.can_chunk
        is_last = is_last or not is_chunked
        self._has_room.set()
        self._streaming = asyncio.ensure_future(self._stream(stream, is_chunked=is_chunked))
        self._transport.write(response.render_stream_head(is_chunked=is_chunked, is_last=is_last))

        def on_streamed(streaming: "asyncio.Task[None]") -> None:
            self._streaming = None
            stream.close()
            self._end_stream(streaming, is_last=is_last)

        self._streaming.add_done_callback(on_streamed)

    async def _stream(self, stream: BodyStream, *, is_chunked: bool) -> None:
        while True:
            try:
                part = await stream.__anext__()
            except StopAsyncIteration:
                break
            await self._has_room.wait()
            if part:  # an empty chunk would end the body
                self._transport.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
        if is_chunked:
            self._transport.write(b"0\r\n\r\n")

    def _end_stream(self, streaming: "asyncio.Task[None]", *, is_last: bool) -> None:
        """Go on with the next request, or cut the connection if the stream failed, so that its end does not look whole.

        A failure of a stream is logged, as that of any answer.
        """
        error = None if streaming.cancelled() else streaming.exception()
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            logger.error("%s failed", self._request.target.decode("ascii", "replace"), exc_info=error)
        if self._is_ended or streaming.cancelled():
            return
        if error is not None:
            self.cut()
        elif is_last or self._server.is_closing:
            self.end()
        else:
            self._proceed()

    # --- waits and ends

    def _wait(self) -> None:
        self._places.note_idle(self)
        self._transport.resume_reading()
        self._start_timer(self._server.limits.request_s)

    def end(self) -> None:
        """Close once the client has taken what there is, or has had the time for it."""
        if self._is_ended:
            return
        self._is_ended = True
        self._places.note_stalled(self)
        self._transport.close()
        self._start_timer(self._server.limits.send_s)

    def cut(self) -> "asyncio.Task[Response] | asyncio.Task[None] | None":
        """Close at once; return the task of the answer or of the handshake, which is cancelled."""
        self._is_ended = True
        self._transport.abort()
        return self._cancel()

    def _cancel(self) -> "asyncio.Task[Response] | asyncio.Task[None] | None":
        busy = self._answering or self._streaming or self._securing
        if busy is not None:
            busy.cancel()
        return busy

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _await(response: Awaitable[Response]) -> Response:
    return await response


def _close(stream: BodyStream | None) -> None:
    """Close a stream of which nothing is sent."""
    if stream is not None:
        stream.close()
