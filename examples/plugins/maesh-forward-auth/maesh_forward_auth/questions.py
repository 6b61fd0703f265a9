"""Asks an HTTP service over connections that are kept: a GET with headers out, an answer of bounded size in.

Standard asyncio and the parser that the proxy itself has: an HTTP client library would double what a worker holds.
"""

import asyncio
import weakref
from collections.abc import Iterable

import httptools

ANSWER_LIMIT_BYTES = 65536
"""A larger answer, head and body together, is an error."""


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer:
    """What the service answered. Its methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.can_keep = False
        self._is_whole = False
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"<Answer {self.status} of {len(self.body)} bytes>"

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read it from a connection; raises ConnectionError where it ends early, ValueError for what is none."""
        size = 0
        while not self._is_whole:
            data = await reader.read(16384)
            size += len(data)
            if not data:
                raise ConnectionResetError("the connection ended before the answer")
            if size > ANSWER_LIMIT_BYTES:
                raise ValueError(f"the answer has more than {ANSWER_LIMIT_BYTES} bytes")
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                raise ValueError(f"the answer is not HTTP: {error}") from error

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field."""
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """See the end; a second message that nobody asked for ends the connection's use."""
        self.can_keep = not self._is_whole and self._parser.should_keep_alive()
        self.status = self._parser.get_status_code()
        self._is_whole = True


class Asker:
    """Asks one service. Holds `connections` connections at most, until it is closed or nobody refers to it."""

    def __init__(self, host: str, port: int, *, connections: int, timeout_s: float) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []
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
                reader, writer = self._idle.pop()
                if writer.is_closing() or reader.at_eof():
                    writer.close()
                    continue
                try:
                    return await self._exchange(head, reader, writer)
                except ConnectionError:
                    break  # it was closed while it idled: ask on a fresh one, for a GET may be sent twice
            return await self._exchange(head, *await asyncio.open_connection(self._host, self._port))

    async def _exchange(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        """Send a question and read its answer; only a connection that ended it cleanly is kept."""
        answer = Answer()
        try:
            writer.write(head)
            await answer.read(reader)
        finally:
            if answer.can_keep:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return answer


def _close_all(connections: list[_Connection]) -> None:
    for _, writer in connections:
        writer.close()
