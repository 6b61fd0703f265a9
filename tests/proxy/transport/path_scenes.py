"""What the tests of HTTP over paths share: how a scene runs, counters of a path, and a server that keeps heads."""

import asyncio
import contextlib
import socket

import uvloop

from .http_sender import HttpServer

ENCRYPTED = ("encrypted", "")
UNREACHABLE = ("clear", "unreachable")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def run(test):
    uvloop.run(asyncio.wait_for(test, 60))


def find_closed_address():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()


class Recording(HttpServer):
    """A server that keeps the heads that it receives."""

    def __init__(self):
        super().__init__()
        self.heads = []

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.transport.abort()
