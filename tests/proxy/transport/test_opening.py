"""HTTP/2 and TLS to servers run inside a path, on both event loops."""

import asyncio
import contextlib
import ssl

import h2.config
import h2.connection
import h2.events
import pytest
import trustme
import uvloop

from maesh_core.plugin_system.transports import Delivery, OpenFailure
from maesh_core.proxy.transport.opening import open_path

from .fake_transport import FakeTransport, Receiver
from .http_sender import Sender

NAME = "cart.shop.svc"
AUTHORITY = trustme.CA()
LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
DELIVERY = Delivery("127.0.0.1", 80, "n/a:80")


@pytest.fixture(scope="module")
def root_ca(tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "root.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return str(path)


def build_context(*protocols, name=NAME):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(name).configure_cert(context)
    context.set_alpn_protocols(protocols)
    return context


class Server:
    """Speaks HTTP/2 if ALPN has chosen it, or there is no TLS; counts its connections by protocol."""

    def __init__(self, context=None):
        self.context = context
        self.chosen = []
        self._serving = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        while self._serving:  # noqa: ASYNC110 - it has to read the ends of its connections
            await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self._serving += 1
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol() if self.context else "h2"
        self.chosen.append(chosen)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await (self._serve_http2 if chosen == "h2" else self._serve_http1)(reader, writer)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._serving -= 1

    async def _serve_http1(self, reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300003\r\n\r\nold" + b"x" * 300_000)

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


async def ask_through(server, **settings):
    """Ask four times over a strict path, three of them at once."""
    async with server, Receiver() as receiver:
        transport = FakeTransport(there=receiver.address)
        async with Sender(transport, server.port, mode="strict", **settings) as sender:
            answers = await asyncio.gather(*(sender.ask() for _ in range(3)))
            answers.append(await sender.ask())
            assert len(sender.paths.collect_metrics()[0].samples) in (0, 1)
    assert not any(each.opened for each in sender.servers)
    return [(status, body[:30]) for status, body in answers], len(transport.deliveries)


@LOOPS
def test_http2_in_clear_shares_one_path(run):
    answers, count = run(asyncio.wait_for(ask_through(Server(), scheme="h2c"), 60))
    assert (answers, count) == ([(200, "new")] * 4, 1)


@LOOPS
@pytest.mark.parametrize(
    ("offered", "body", "count"), [(("h2", "http/1.1"), "new", 1), (("http/1.1",), "old" + "x" * 27, 3)]
)
def test_tls_to_a_server_runs_inside_the_path(run, root_ca, offered, body, count):
    server = Server(build_context(*offered))
    answers, paths = run(asyncio.wait_for(ask_through(server, scheme="https", tls_name=NAME, root_ca=root_ca), 60))
    assert (answers, paths) == ([(200, body)] * 4, count)
    assert set(server.chosen) == {offered[0]}


@LOOPS
@pytest.mark.parametrize(("scheme", "offered"), [("h2c", ()), ("https", ("h2", "http/1.1")), ("https", ("http/1.1",))])
def test_requests_use_another_path_when_a_tunnel_is_to_be_replaced(run, root_ca, scheme, offered):
    async def scene():
        server = Server(build_context(*offered)) if offered else Server()
        async with server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            settings = {"scheme": scheme, "tls_name": NAME, "root_ca": root_ca}
            async with Sender(transport, server.port, mode="strict", **settings) as sender:
                for count in (1, 2, 3):
                    assert (await sender.ask())[0] == 200
                    assert len(transport.deliveries) == count
                    transport.retire()
                    (target,) = sender.servers
                    assert not target.idle + target.multiplexed
            assert not any(each.opened for each in sender.servers)

    run(asyncio.wait_for(scene(), 60))


@LOOPS
def test_the_certificate_of_a_server_is_checked_inside_the_path(run, root_ca):
    for name, trusted, reason in (
        ("other.svc", root_ca, f"the upstream's certificate is not for 127.0.0.1 nor for {NAME}"[:30]),
        (NAME, "", "the upstream's certificate is not trusted"[:30]),
    ):
        server = Server(build_context("h2", name=name))
        scene = ask_through(server, scheme="https", tls_name=NAME, root_ca=trusted)
        answers, _ = run(asyncio.wait_for(scene, 60))
        assert answers == [(502, reason)] * 4


class StillPath:
    """A path that neither opens nor fails."""

    def __init__(self, *, has_connection):
        self.has_connection = has_connection
        self.is_cancelled = False

    def open(self, delivery, protocol):
        self.protocol = protocol
        return self

    def cancel(self):
        self.is_cancelled = True


async def test_a_path_without_connection_to_the_node_is_given_up_after_the_patience():
    path = StillPath(has_connection=False)
    failure = await open_path(path, DELIVERY, None, patience_s=0.001)
    assert (failure, path.is_cancelled) == (OpenFailure("it did not answer in time", 0, is_servers_fault=False), True)


async def test_a_path_with_a_connection_to_the_node_is_waited_for_and_cancelled_with_its_waiter():
    path = StillPath(has_connection=True)
    task = asyncio.ensure_future(open_path(path, DELIVERY, None, patience_s=0.001))
    await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert path.is_cancelled


async def test_a_failure_that_is_reported_at_once_is_the_outcome():
    class Failing(StillPath):
        def open(self, delivery, protocol):
            protocol.open_failed(OpenFailure("moved", 404, is_servers_fault=False))
            return super().open(delivery, protocol)

    path = Failing(has_connection=False)
    assert (await open_path(path, DELIVERY, None, patience_s=5)).status == 404
    assert not path.is_cancelled
