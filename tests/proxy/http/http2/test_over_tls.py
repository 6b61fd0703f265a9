"""https servers: ALPN chooses HTTP/2 or HTTP/1.1, over real sockets, with h2 as the server's implementation."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl

import h2.config
import h2.connection
import h2.events
import pytest
import trustme
import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

NAME = "cart.shop.svc"
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
AUTHORITY = trustme.CA()
LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])


@pytest.fixture(scope="module")
def root_ca(tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "root.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return str(path)


class TlsServer:
    """A server that speaks what ALPN chooses; counts its connections by protocol.

    In HTTP/1.1 it answers once it has as many connections as it waits for: an earlier response would free a connection
    for another request.
    """

    def __init__(self, *protocols, waits_for=1):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(NAME).configure_cert(self.context)
        self.context.set_alpn_protocols(protocols)
        self.chosen = []
        self.serving = 0
        self._waits_for, self._has_all = waits_for, asyncio.Event()

    async def serve(self, reader, writer):
        self.serving += 1
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.chosen.append(chosen)
        if len(self.chosen) == self._waits_for:
            self._has_all.set()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await (self._serve_http2 if chosen == "h2" else self._serve_http1)(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.serving -= 1

    async def _serve_http1(self, reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await self._has_all.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    async def _serve_http2(self, reader, writer):
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())  # before the client has sent anything
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "3")])
                    connection.send_data(event.stream_id, b"new", end_stream=True)
            writer.write(connection.data_to_send())


async def ask_through(server, settings, *, times, request=GET):
    """Ask through a proxy in parallel, then once more; return the bodies."""
    handler = HttpHandler(settings, Clock(asyncio.get_running_loop()))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def ask():
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2]

    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server.context) as serving:
        port = serving.sockets[0].getsockname()[1]
        service = Service(scheme="https", servers=(Server(address="127.0.0.1", port=port, tls_name=NAME),))
        section = Section(routers={"a": HttpRouter(entrypoint=1, hosts=("a",), service="a")}, services={"a": service})
        handler.apply_table(handler.compile_table(section, middlewares={}, changed=None))
        listener = await handler.open_listener(listening, 1)
        address = listening.getsockname()
        assert address
        bodies = await asyncio.gather(*(ask() for _ in range(times)))
        bodies.append(await ask())
        listener.close()
        handler.abort()
        handler.environment.clock.close()
        while handler.environment.clients or handler.environment.upstreams or server.serving:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
    assert not any(each.opened for each in handler._servers.values())
    return bodies


@LOOPS
@pytest.mark.parametrize(
    ("offered", "is_on", "body", "chosen"),
    [
        (("h2", "http/1.1"), True, b"new", ["h2"]),
        (("http/1.1",), True, b"old", ["http/1.1"] * 3),
        (("h2", "http/1.1"), False, b"old", ["http/1.1"] * 3),
        ((), True, b"old", [None] * 3),
    ],
    ids=["h2", "only http/1.1", "h2 is off", "no ALPN"],
)
def test_alpn_chooses_the_protocol_and_http2_shares_one_connection(run, root_ca, offered, is_on, body, chosen):
    server = TlsServer(*offered, waits_for=len(chosen))
    settings = dataclasses.replace(CarryingSettings(root_ca=root_ca), http2=is_on)

    async def check():
        return await asyncio.wait_for(ask_through(server, settings, times=3), 60)

    assert run(check()) == [body] * 4
    assert server.chosen == chosen


def test_a_request_that_offers_an_upgrade_gets_a_connection_of_http1(root_ca):
    server = TlsServer("h2", "http/1.1")
    offer = GET.replace(b"Connection: close", b"Connection: close, upgrade\r\nUpgrade: websocket")

    async def check():
        settings = CarryingSettings(root_ca=root_ca)
        bodies = await ask_through(server, settings, times=1)
        return bodies + await ask_through(server, settings, times=1, request=offer)

    assert uvloop.run(asyncio.wait_for(check(), 60)) == [b"new", b"new", b"old", b"old"]
    assert server.chosen == ["h2", "http/1.1"]
