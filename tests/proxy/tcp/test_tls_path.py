"""TCP services whose servers get TLS: clients in clear, servers with real certificates, and all kinds of failures."""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest

from maesh_core.model.configuration import Section, Server, Service, StreamRouter
from maesh_core.model.traffic_record import CUT, IDLE, NO_SERVER_ACCEPTED
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.transport.paths import Paths
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode, find_free_port

from ..transport.fake_transport import FakeTransport, Receiver
from .conftest import ENTRYPOINT, ask, echo_whole, read_counter, read_until_closed, wait_until
from .tls_server import AUTHORITY, NAME, OTHER_AUTHORITY, build_self_signed_context, build_server_context

MUCH = b"x" * 3_000_000
SERVICE = "a/b:1"


class Bench:
    """A handler that trusts the authority of the tests, with a transport to the node `there`."""

    def __init__(self, root_ca, *, is_verifying=True, **settings):
        self.node = FakeNode(settings=ProxySettings(node="here", **settings))
        self.transport = FakeTransport()
        self.paths = Paths("here", self.node.clock, self.transport, random_share=lambda: 0.5)
        tls = UpstreamTls(root_ca=str(root_ca), is_verifying=is_verifying)
        self.handler = TcpHandler(self.node, self.paths, tls)

    async def __aenter__(self):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.address = sock.getsockname()
        self._listener = await self.handler.open_listener(sock, ENTRYPOINT)
        self.receiver = await Receiver().__aenter__()
        self.transport.nodes["there"] = self.receiver.address
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self.handler.abort()
        await wait_until(self.handler.is_drained)
        await self.receiver.__aexit__()
        self.node.close()

    def route(self, *ports, encryption="off", node="", outside=True, tls_name=NAME, scheme="tls"):
        name = NAME if outside else ""
        servers = tuple(
            Server(address="127.0.0.1", port=port, node=node, tls_name=tls_name, name=name) for port in ports
        )
        section = Section(
            routers={SERVICE: StreamRouter(entrypoint=ENTRYPOINT, service=SERVICE)},
            services={SERVICE: Service(servers=servers, scheme=scheme, encryption=encryption)},
        )
        self.handler.apply_table(self.handler.compile_table(section, middlewares={}, changed=None))

    @property
    def failed_handshakes(self):
        (family,) = [each for each in self.handler.collect_metrics() if each.name == "maesh_tcp_failed_handshakes"]
        samples: Any = family.samples
        return {labels[1]: int(count) for labels, count in samples}

    async def find_record(self):
        await wait_until(lambda: len(self.node.records) == 1)
        return self.node.records[0]


@pytest.fixture(scope="session")
def root_ca(tmp_path_factory):
    path = tmp_path_factory.mktemp("trust") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def bench(root_ca):
    async with Bench(root_ca) as bench:
        yield bench


@pytest.fixture
async def start_tls_server():
    """Start a server from a context and a coroutine function on reader and writer; returns its port."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(serve=echo_whole, context=None):
            async def serve_and_close(reader, writer):
                with contextlib.suppress(ConnectionError):
                    await serve(reader, writer)
                writer.close()

            server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0, ssl=context or build_server_context())
            stack.callback(server.close)
            return server.sockets[0].getsockname()[1]

        yield start


async def echo_line(reader, writer):
    """Answer one line; asyncio's TLS cannot end only one direction."""
    writer.write(b"got " + await reader.readline())
    await writer.drain()


async def exchange_line(address, line):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(line)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("line", [b"hi\n", MUCH + b"\n"])
async def test_a_client_in_clear_reaches_a_server_that_speaks_tls(bench, start_tls_server, line):
    asked = []
    context = build_server_context()
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def serve(reader, writer):
        writer.write(b"got " + await reader.readexactly(len(line)))
        await writer.drain()

    bench.route(await start_tls_server(serve, context))
    assert await exchange_line(bench.address, line) == b"got " + line
    record = await bench.find_record()
    assert asked == [NAME]
    assert (record.reason, record.received_bytes, record.sent_bytes) == ("", len(line), len(line) + 4)
    assert record.server.startswith(f"{NAME}:")
    assert read_counter(bench.handler, "failed_connects") == 0
    assert bench.failed_handshakes == {}


async def test_a_server_may_speak_first(bench, start_tls_server):
    async def serve(reader, writer):
        writer.write(b"220 ready\r\n")
        assert await reader.readline() == b"QUIT\r\n"
        writer.write(b"221 bye\r\n")
        await writer.drain()

    bench.route(await start_tls_server(serve))
    reader, writer = await asyncio.open_connection(*bench.address)
    assert await reader.readline() == b"220 ready\r\n"
    writer.write(b"QUIT\r\n")
    assert await reader.read() == b"221 bye\r\n"
    writer.close()


async def refuse_tls(reader, writer):
    await reader.read(10)


async def speak_clear(reader, writer):
    writer.write(b"220 ready\r\n")
    await reader.read()


@pytest.mark.parametrize(
    ("context", "reason", "text"),
    [
        (build_server_context("other.example.com"), "certificate", f"the server's certificate is not for {NAME}"),
        (build_server_context(is_expired=True), "certificate", "certificate has expired"),
        (build_server_context(authority=OTHER_AUTHORITY), "certificate", "the server's certificate is not trusted: "),
        (build_self_signed_context(), "certificate", "the server's certificate is not trusted: "),
        (refuse_tls, "closed", "the server has closed the connection"),
        (speak_clear, "handshake", "the TLS handshake with the server failed: "),
    ],
    ids=["wrong name", "expired", "unknown authority", "self-signed", "closes in the handshake", "no TLS"],
)
async def test_a_failed_handshake_is_counted_with_its_reason_and_nothing_is_sent(
    bench, start_server, start_tls_server, context, reason, text
):
    received = []

    async def note(reader, writer):
        received.append(await reader.read())

    if isinstance(context, ssl.SSLContext):
        bench.route(await start_tls_server(note, context))
    else:
        bench.route(await start_server(context))
    assert await read_until_closed(bench.address) == b""
    record = await bench.find_record()
    assert text in record.reason
    assert bench.failed_handshakes == {reason: 1}
    assert read_counter(bench.handler, "failed_connects") == 1
    assert read_counter(bench.handler, "refused_connections") == 1
    assert b"".join(received) == b""


async def test_a_handshake_that_takes_too_long_is_given_up_with_the_connect_time_out(bench, start_server):
    arrived = asyncio.Event()

    async def wait(reader, writer):
        arrived.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                pass

    bench.route(await start_server(wait))
    client = asyncio.create_task(read_until_closed(bench.address))
    await arrived.wait()
    (relay,) = bench.handler.environment.relays
    await wait_until(lambda: relay._tunnel.is_in_handshake)
    bench.node.pass_time(bench.node.settings.connect_timeout)
    assert not client.done()
    bench.node.pass_time(1)
    assert await client == b""
    record = await bench.find_record()
    assert record.reason == "the TLS handshake with the server failed: it took too long"
    assert bench.failed_handshakes == {"timeout": 1}


async def test_a_handshake_goes_on_when_the_route_changes(bench, start_server, start_tls_server):
    tls_port, arrived, gate = await start_tls_server(echo_line), asyncio.Event(), asyncio.Event()

    async def forward(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def hold_back(reader, writer):
        hello = await reader.read(65536)
        arrived.set()
        await gate.wait()
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", tls_port)
        server_writer.write(hello)
        await asyncio.gather(forward(reader, server_writer), forward(server_reader, writer))

    port = await start_server(hold_back)
    bench.route(port)
    client = asyncio.create_task(exchange_line(bench.address, b"hi\n"))
    await arrived.wait()
    bench.route(port, find_free_port())
    gate.set()
    assert await client == b"got hi\n"
    assert (bench.failed_handshakes, read_counter(bench.handler, "failed_connects")) == ({}, 0)


async def test_the_next_server_is_tried_and_the_failed_one_set_aside(bench, start_tls_server):
    bad = await start_tls_server(echo_line, build_server_context("other.example.com"))
    good = await start_tls_server(echo_line)
    bench.route(bad, good)
    for _ in range(3):
        assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
    assert bench.failed_handshakes == {"certificate": 1}
    assert read_counter(bench.handler, "refused_connections") == 0


async def test_a_server_that_refuses_the_connection_is_no_failed_handshake(bench):
    bench.route(find_free_port())
    assert await read_until_closed(bench.address) == b""
    record = await bench.find_record()
    assert record.reason == NO_SERVER_ACCEPTED
    assert bench.failed_handshakes == {}


async def test_a_server_that_leaves_without_saying_so_resets_the_client_after_its_bytes(bench, start_tls_server):
    async def serve(reader, writer):
        writer.write(b"part")
        await reader.readline()
        writer.transport.abort()

    bench.route(await start_tls_server(serve))
    reader, writer = await asyncio.open_connection(*bench.address)
    assert await reader.readexactly(4) == b"part"
    writer.write(b"go\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    record = await bench.find_record()
    assert record.reason == CUT
    writer.close()


async def test_a_reset_of_the_client_resets_the_server(bench, start_tls_server):
    lost = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        writer.write(b"hi")
        try:
            lost.set_result(await reader.read())
        except ConnectionError as error:
            lost.set_result(error)

    bench.route(await start_tls_server(serve))
    reader, writer = await asyncio.open_connection(*bench.address)
    assert await reader.readexactly(2) == b"hi"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    assert isinstance(await lost, ConnectionError)


def serve_half_closes(listener, context, received):
    """Serve one client in a thread: read up to its end, then answer and end, as asyncio's TLS cannot."""
    raw, _ = listener.accept()
    raw.settimeout(60)
    with raw, context.wrap_socket(raw, server_side=True) as tls:
        while data := tls.recv(65536):
            received.append(len(data))
        tls.sendall(b"got %d " % sum(received) + MUCH)
        with contextlib.suppress(OSError):
            tls.unwrap()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_end_of_the_client_reaches_the_server_which_still_answers(bench, version):
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bench.route(listener.getsockname()[1])
        serving = asyncio.create_task(
            asyncio.to_thread(serve_half_closes, listener, build_server_context(version=version), received)
        )
        assert await ask(bench.address, MUCH) == b"got %d " % len(MUCH) + MUCH
        await serving
    record = await bench.find_record()
    assert record.reason == ""


async def test_a_client_that_reads_slowly_pauses_the_server(bench, start_tls_server):
    async def serve(reader, writer):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    bench.route(await start_tls_server(serve))
    client = socket.create_connection(bench.address)
    await wait_until(lambda: any(each._tunnel._unsent for each in bench.handler.environment.relays))
    (relay,) = bench.handler.environment.relays
    assert len(relay._tunnel._unsent) <= 512 * 1024
    client.close()
    await wait_until(bench.handler.is_drained)


async def test_a_silent_connection_ends_after_the_idle_limit(root_ca, start_tls_server):
    async with Bench(root_ca, tunnel_timeout=30) as bench:
        bench.route(await start_tls_server(echo_line))
        client = asyncio.create_task(read_until_closed(bench.address))
        await wait_until(lambda: read_counter(bench.handler, "server_connections") == 1)
        bench.node.pass_time(30)
        assert not client.done()
        bench.node.pass_time(1)
        assert await client == b""
        record = await bench.find_record()
        assert record.reason == IDLE


@pytest.mark.parametrize(("tls_name", "is_accepted"), [("db.shop.svc", False), (NAME, True)])
async def test_a_pod_needs_its_address_or_its_name_in_its_certificate(bench, start_tls_server, tls_name, is_accepted):
    bench.route(await start_tls_server(echo_line), outside=False, tls_name=tls_name)
    answer = await exchange_line(bench.address, b"hi\n") if is_accepted else await read_until_closed(bench.address)
    assert answer == (b"got hi\n" if is_accepted else b"")
    record = await bench.find_record()
    assert record.reason == ("" if is_accepted else "the server's certificate is not for 127.0.0.1 nor for db.shop.svc")


async def test_an_address_in_the_certificate_is_enough_for_a_pod_but_not_for_an_outside_server(bench, start_tls_server):
    port = await start_tls_server(echo_line, build_server_context("127.0.0.1"))
    bench.route(port, outside=False, tls_name="")
    assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
    bench.route(port)
    assert await read_until_closed(bench.address) == b""
    assert bench.failed_handshakes == {"certificate": 1}


async def test_verification_can_only_be_disabled_for_servers_of_the_mesh(root_ca, start_tls_server):
    async with Bench(root_ca, is_verifying=False) as bench:
        port = await start_tls_server(echo_line, build_server_context("other.example.com"))
        bench.route(port, outside=False)
        assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
        bench.route(port)
        assert await read_until_closed(bench.address) == b""


async def test_a_name_that_tls_cannot_ask_for_is_contained(bench, start_tls_server):
    bench.route(await start_tls_server(), tls_name=".example.com")
    assert await read_until_closed(bench.address) == b""
    assert read_counter(bench.handler, "refused_connections") == 1


@pytest.mark.parametrize("encryption", ["permissive", "strict"])
async def test_tls_to_a_pod_of_another_node_runs_inside_the_path(bench, start_tls_server, encryption):
    bench.route(await start_tls_server(echo_line), encryption=encryption, node="there", outside=False)
    assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
    assert len(bench.receiver.deliveries) == 1


async def test_a_node_that_is_not_reached_is_replaced_by_a_socket_with_tls(bench, start_tls_server):
    bench.transport.nodes["there"] = ("127.0.0.1", find_free_port())
    bench.route(await start_tls_server(echo_line), encryption="permissive", node="there", outside=False)
    assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
    bench.route(await start_tls_server(echo_line), encryption="strict", node="there", outside=False)
    assert await read_until_closed(bench.address) == b""


async def test_a_strict_service_reaches_an_outside_server_by_tls_only(bench, start_server, start_tls_server):
    bench.route(await start_tls_server(echo_line), encryption="strict")
    assert await exchange_line(bench.address, b"hi\n") == b"got hi\n"
    bench.route(await start_server(echo_line), encryption="strict", scheme="http")
    assert await read_until_closed(bench.address) == b""


async def test_a_server_in_clear_and_one_with_tls_at_the_same_address_are_two_servers(bench, start_server):
    """So a client that is being connected in clear never reaches a service that has changed to TLS."""
    port = await start_server(echo_line)
    bench.route(port, scheme="http")
    (in_clear,) = bench.handler._streams._table.servers.values()
    bench.route(port)
    (encrypted,) = bench.handler._streams._table.servers.values()
    assert (in_clear.uses_tls, encrypted.uses_tls) == (False, True)
    assert not bench.handler._streams.routes[ENTRYPOINT].has_server(in_clear)
