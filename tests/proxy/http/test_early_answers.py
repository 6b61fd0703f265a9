"""Servers that answer before they have read the request, over real sockets.

The test acts while the proxy's loop stands still. The loop then finds the client's bytes and the server's end at once,
the client's first, so its write to the server fails before it has read the answer.
"""

import asyncio
import contextlib
import socket
import ssl
import struct

import pytest
import trustme
import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.transports import UNREAD_LIMIT_BYTES, read_unread
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

NAME = "cart.shop.svc"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1000
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n%b\r\n" % (b"x" * 1000)
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
REFUSED = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
RESET = struct.pack("ii", 1, 0)
LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class Bench:
    """A proxy in front of one server, whose connections the test answers by hand."""

    def __init__(self, authority, folder, *, is_tls):
        self._context = None
        root_ca = ""
        if is_tls:
            root_ca = str(folder / "root.pem")
            authority.cert_pem.write_to_path(root_ca)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(NAME).configure_cert(self._context)
        self._settings = CarryingSettings(root_ca=root_ca)
        self._sockets = contextlib.ExitStack()

    async def __aenter__(self):
        self._server = self._sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.handler = HttpHandler(self._settings, Clock(asyncio.get_running_loop()))
        scheme = "https" if self._context else "http"
        server = Server(address="127.0.0.1", port=self._server.getsockname()[1], tls_name=NAME if self._context else "")
        services = {"a": Service(scheme=scheme, servers=(server,))}
        section = Section(routers={"a": HttpRouter(entrypoint=1, hosts=("a",), service="a")}, services=services)
        self.handler.apply_table(self.handler.compile_table(section, middlewares={}, changed=None))
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self._address = listening.getsockname()
        self._listener = await self.handler.open_listener(listening, 1)
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self._sockets.close()
        self.handler.abort()
        self.handler.environment.clock.close()
        while self.handler.environment.clients or self.handler.environment.upstreams:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not any(server.opened for server in self.handler._servers.values())

    def connect(self):
        return self._sockets.enter_context(socket.create_connection(self._address, timeout=60))

    async def accept(self, wanted):
        """Return the server's side of the proxy's connection, when it has brought these bytes."""

        def accept():
            connection = self._server.accept()[0]
            connection.settimeout(60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            while not connection.recv(65536, *([] if self._context else [socket.MSG_PEEK])).endswith(wanted):
                pass
            return connection

        return self._sockets.enter_context(await asyncio.to_thread(accept))

    async def read(self, client):
        """Return what a client gets until the end of its connection; a reset comes behind it."""
        client.setblocking(False)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await asyncio.get_running_loop().sock_recv(client, 65536):
                got += data
            return got
        return got + b"<reset>"


def play(run, scene, authority, folder, *, is_tls=False):
    async def on_bench():
        async with Bench(authority, folder, is_tls=is_tls) as bench:
            await scene(bench)

    run(asyncio.wait_for(on_bench(), 100))


@pytest.mark.parametrize("upload", [LENGTH, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@LOOPS
def test_a_server_that_answers_and_resets_within_an_upload_is_heard(run, is_tls, upload, authority, tmp_path):
    async def scene(bench):
        head, part = upload
        client = bench.connect()
        client.sendall(head + part)
        server = await bench.accept(part)
        client.sendall(part)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.sendall(REFUSAL)
        server.close()
        assert await bench.read(client) == REFUSED

    play(run, scene, authority, tmp_path, is_tls=is_tls)


@LOOPS
def test_an_early_answer_without_a_length_is_never_taken_for_complete(run, authority, tmp_path):
    async def scene(bench):
        head, part = LENGTH
        client = bench.connect()
        client.sendall(head + part)
        server = await bench.accept(part)
        client.sendall(part)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.sendall(b"HTTP/1.1 413 No\r\n\r\nbig")
        server.close()
        assert (await bench.read(client)).endswith(b"<reset>")

    play(run, scene, authority, tmp_path)


@pytest.mark.parametrize("request_", [GET, b"".join(LENGTH)], ids=["get", "post"])
@LOOPS
def test_what_a_pooled_connection_brought_before_it_was_asked_reaches_nobody(run, request_, authority, tmp_path):
    async def scene(bench):
        first = bench.connect()
        first.sendall(GET)
        server = await bench.accept(b"\r\n\r\n")
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        first.setblocking(False)
        await asyncio.get_running_loop().sock_recv(first, 100)
        client = bench.connect()
        while len(bench.handler.environment.clients) < 2:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
        client.sendall(request_)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.sendall(REFUSAL)
        server.close()
        if request_ == GET:  # it is sent once more
            server = await bench.accept(b"\r\n\r\n")
            server.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            client.setblocking(False)
            assert (await asyncio.get_running_loop().sock_recv(client, 100)).endswith(b"ok")
        else:
            assert (await bench.read(client)).startswith(b"HTTP/1.1 502 ")

    play(run, scene, authority, tmp_path)


@LOOPS
def test_a_change_of_protocol_that_comes_with_a_reset_makes_no_tunnel(run, authority, tmp_path):
    async def scene(bench):
        upgrade = LENGTH[0].replace(b"1000000", b"2000\r\nConnection: upgrade\r\nUpgrade: x")
        client = bench.connect()
        client.sendall(upgrade + LENGTH[1])
        server = await bench.accept(LENGTH[1])
        client.sendall(LENGTH[1])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.sendall(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        server.close()
        client.setblocking(False)
        assert (await asyncio.get_running_loop().sock_recv(client, 100)).startswith(b"HTTP/1.1 502 ")
        assert not bench.handler.environment.tunnels

    play(run, scene, authority, tmp_path)


def test_no_more_is_read_of_a_broken_connection_than_the_limit(tmp_path):
    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name, default=None):
            return {"socket": file}[name]

    path = tmp_path / "received"
    path.write_bytes(b"x" * (UNREAD_LIMIT_BYTES + 1))
    with path.open("rb") as file:
        assert b"".join(read_unread(Transport())) == b"x" * UNREAD_LIMIT_BYTES
        assert list(read_unread(Transport())) == [b"x"]
