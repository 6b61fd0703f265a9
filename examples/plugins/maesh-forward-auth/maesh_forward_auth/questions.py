"""Asks an HTTP service over connections that are kept: a GET with headers out, an answer of bounded size in.

Plain asyncio and the parser that the proxy itself has: an HTTP client library would double what a worker holds. A
connection carries one question at a time; one on which anything comes that was not asked for is closed, so no answer
can be taken for another's.
"""

import asyncio
import weakref
from collections.abc import Iterable
from typing import cast

import httptools

ANSWER_LIMIT_BYTES = 65536
"""A larger answer, head and body together, is an error."""


class Answer:
    """What the service answered. Its methods are httptools' callbacks; interim answers (1xx) are passed over."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.is_whole = False
        self.can_keep = False
        self._has_head = False
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {len(self.body)} bytes>"

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ValueError for what is no answer."""
        self._size += len(data)
        if self._size > ANSWER_LIMIT_BYTES:
            raise ValueError(f"the answer has more than {ANSWER_LIMIT_BYTES} bytes")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ValueError(f"the answer is not HTTP: {error}") from error

    def end(self) -> None:
        """Take the connection's end: an answer that says nothing of its length has it here (RFC 9112 section 6.3)."""
        names = {name.lower() for name, _ in self.headers}
        self.is_whole = self.is_whole or (self._has_head and not names & {b"content-length", b"transfer-encoding"})
        self.can_keep = False

    def on_message_begin(self) -> None:
        """See a message begin; behind a whole answer it is one that nobody asked for."""
        self.can_keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field."""
        if not self.is_whole:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """See the end of a head."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
        elif not self.is_whole:
            self.status, self._has_head = status, True

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if not self.is_whole:
            self.body += data

    def on_message_complete(self) -> None:
        """See the end of a message."""
        if self._has_head and not self.is_whole:
            self.is_whole = True
            self.can_keep = self._parser.should_keep_alive()


class Connection(asyncio.Protocol):
    """One connection to the service."""

    def __init__(self) -> None:
        self.is_lost = False
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    def ask(self, head: bytes) -> "asyncio.Future[Answer]":
        """Send a question; return its answer, or raise ConnectionError or ValueError."""
        self._answer = Answer()
        self._waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or self.is_lost:
            self._waiter.set_exception(ConnectionResetError("the connection is closed"))
        else:
            self._transport.write(head)
        return self._waiter

    def close(self) -> None:
        """Close at once."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the answer; nothing else is welcome."""
        if self._waiter is None or self._waiter.done():
            self.close()
            return
        try:
            self._answer.feed(data)
        except ValueError as error:
            self._waiter.set_exception(error)
            return
        if self._answer.is_whole:
            self._waiter.set_result(self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer where its length is the connection's, or tell that there is none."""
        self.is_lost = True
        if self._waiter is not None and not self._waiter.done():
            if exc is None:
                self._answer.end()
            if self._answer.is_whole:
                self._waiter.set_result(self._answer)
            else:
                self._waiter.set_exception(ConnectionResetError("the connection ended before the answer"))


class Asker:
    """Asks one service. Holds `connections` connections at most, until it is closed or nobody refers to it."""

    def __init__(self, host: str, port: int, *, connections: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._free = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self.close = weakref.finalize(self, _close_all, self._idle)
        shown = f"[{host}]" if ":" in host else host
        self._authority = f"{shown}:{port}".encode()

    def __repr__(self) -> str:
        return f"<Asker {self._authority.decode()}, {len(self._idle)} idle>"

    async def ask(self, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        """Ask; raises TimeoutError, OSError or ValueError where there is no answer."""
        fields = b"".join(b"%b: %b\r\n" % field for field in headers)
        head = b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, self._authority, fields)
        async with asyncio.timeout(self._timeout_s), self._free:
            while self._idle:
                kept = self._idle.pop()
                if not kept.is_lost:
                    try:
                        return await self._ask_on(kept, head)
                    except ConnectionError:
                        break  # it was closed while it idled: ask on a fresh one, for a GET may be sent twice
            loop = asyncio.get_running_loop()
            _, fresh = await loop.create_connection(Connection, self._host, self._port)
            return await self._ask_on(fresh, head)

    async def _ask_on(self, connection: Connection, head: bytes) -> Answer:
        """Ask on a connection; it is kept only if it ended the answer cleanly."""
        is_clean = False
        try:
            answer = await connection.ask(head)
            is_clean = answer.can_keep
        finally:
            if is_clean:
                self._idle.append(connection)
            else:
                connection.close()
        return answer


def _close_all(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
