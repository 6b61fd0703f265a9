"""TCP connections over the paths of a transport: bytes, half-closes and resets are forwarded as over sockets."""

import asyncio
import contextlib
import socket
from typing import Any, cast

import pytest

from maesh_core.model.configuration import Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import OpenFailure, Refusal
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.tcp.relay import RESET
from maesh_core.proxy.transport.paths import Paths
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode, find_free_port

from ..transport.fake_transport import FakeTransport, Receiver
from .conftest import ENTRYPOINT, echo_whole, read_counter, read_until_closed, wait_until

MUCH = b"x" * 3_000_000


class Bench:
    """A handler with paths, whose clock stands still until it is moved."""

    def __init__(self):
        self.transport = FakeTransport()
        self.node = FakeNode(settings=ProxySettings(connect_timeout=5, node="here"))
        self.paths = Paths("here", self.node.clock, self.transport, guard_kinds=("guard",), random_share=lambda: 0.5)
        self.node.guard_kinds = self.paths.remote_guard_kinds
        self.handler = TcpHandler(self.node, self.paths)

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

    def route(self, *ports, node="there", mode="permissive", kinds=()):
        servers = tuple(Server(address="127.0.0.1", port=port, node=node) for port in ports)
        section = Section(
            routers={"a/b:1": StreamRouter(entrypoint=ENTRYPOINT, service="a/b:1", middlewares=kinds)},
            services={"a/b:1": Service(servers=servers, encryption=mode)},
            middlewares={kind: Middleware(kind=kind) for kind in kinds},
        )
        middlewares: Any = {kind: Allow() for kind in kinds}
        self.handler.apply_table(self.handler.compile_table(section, middlewares=middlewares, changed=None))

    @property
    def aside(self):
        return [each for each in cast("Any", self.handler._streams)._table.servers.values() if each.aside is not None]

    def read_samples(self, name):
        (family,) = [each for each in self.paths.collect_metrics() if each.name == f"maesh_transport_{name}"]
        samples: Any = family.samples
        return {labels[1:]: int(count) for labels, count in samples}

    @property
    def reason(self):
        (record,) = self.node.records
        return record.reason


class Allow:
    def on_connect(self, connection):
        return True


@pytest.fixture
async def bench():
    async with Bench() as bench:
        yield bench


async def ask(address, request):
    """Send a request and our end; read up to the server's end."""
    reader, writer = await asyncio.open_connection(*address)

    async def send():
        writer.write(request)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    answer = await reader.read()
    await sending
    writer.close()
    return answer


@pytest.mark.parametrize("mode", ["permissive", "strict"])
@pytest.mark.parametrize("request_bytes", [b"hi", MUCH])
async def test_bytes_and_half_closes_are_forwarded_both_ways(bench, start_server, mode, request_bytes):
    port = await start_server(echo_whole)
    bench.route(port, mode=mode)
    assert await ask(bench.address, request_bytes) == b"got " + request_bytes
    await wait_until(bench.handler.is_drained)
    (delivery,) = bench.receiver.deliveries
    assert (delivery.address, delivery.port, delivery.service) == ("127.0.0.1", port, "a/b:1")
    assert (delivery.client, delivery.protocol) == ("", "tcp")
    assert bench.read_samples("connections") == {("encrypted", ""): 1}
    assert bench.read_samples("bytes") == {("encrypted", ""): 2 * len(request_bytes) + 4}
    assert read_counter(bench.handler, "received_bytes") == len(request_bytes)
    assert read_counter(bench.handler, "sent_bytes") == len(request_bytes) + 4
    assert bench.reason == ""


async def test_a_server_that_ends_first_still_receives_the_rest_of_the_client(bench, start_server):
    received = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        writer.write(MUCH)
        writer.write_eof()
        received.set_result(await reader.read())

    bench.route(await start_server(serve))
    reader, writer = await asyncio.open_connection(*bench.address)
    assert await reader.read() == MUCH
    writer.write(MUCH)
    writer.write_eof()
    assert await received == MUCH
    await wait_until(bench.handler.is_drained)
    writer.close()


async def test_a_client_that_reads_slowly_pauses_the_server(bench, start_server):
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(MUCH)
                await writer.drain()
                sent += len(MUCH)

    bench.route(await start_server(serve))
    client = socket.create_connection(bench.address)
    client.setblocking(False)
    await wait_until(lambda: any(relay._tunnel and relay._tunnel._unsent for relay in bench.handler.environment.relays))
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.3)
    (relay,) = bench.handler.environment.relays
    assert 0 < len(relay._tunnel._unsent) <= 512 * 1024
    client.close()
    await wait_until(bench.handler.is_drained)


async def test_a_server_that_reads_slowly_pauses_the_client(bench, start_server):
    gate = asyncio.Event()

    async def serve(reader, writer):
        await gate.wait()
        writer.write(b"%d" % len(await reader.read()))

    bench.route(await start_server(serve))
    _, writer = await asyncio.open_connection(*bench.address)
    writer.write(b"x" * 50_000_000)
    before = -1
    while (left := writer.transport.get_write_buffer_size()) != before:
        before = left
        await asyncio.sleep(0.3)
    assert left > 20_000_000
    gate.set()
    writer.transport.abort()
    await wait_until(bench.handler.is_drained)


async def test_a_reset_of_the_client_resets_the_server(bench, start_server):
    lost = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        await reader.readexactly(2)
        writer.write(b"ok")
        try:
            lost.set_result(await reader.read())
        except ConnectionResetError as error:
            lost.set_result(error)

    bench.route(await start_server(serve))
    client = socket.create_connection(bench.address)
    client.send(b"hi")
    client.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(client, 10) == b"ok"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    assert isinstance(await lost, ConnectionResetError)


async def test_a_reset_of_the_server_resets_the_client_after_the_bytes_before_it(bench, start_server):
    async def serve(reader, writer):
        writer.write(b"part")
        await reader.readexactly(2)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    bench.route(await start_server(serve))
    reader, writer = await asyncio.open_connection(*bench.address)
    assert await reader.readexactly(4) == b"part"
    writer.write(b"hi")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.transport.abort()
    await wait_until(bench.handler.is_drained)
    assert bench.reason == "the connection was reset"


async def test_a_denied_client_is_reset_with_the_reason_of_the_node(bench, start_server):
    bench.route(await start_server(echo_whole), await start_server(echo_whole), mode="strict")
    bench.receiver.refusals = [Refusal(403, "access denied there")]
    assert await read_until_closed(bench.address) == b""
    assert (bench.reason, len(bench.transport.deliveries), bench.aside) == ("access denied there", 1, [])
    assert read_counter(bench.handler, "denied_connections") == 1


@pytest.mark.parametrize(("status", "aside"), [(404, 0), (502, 1), (504, 1)])
async def test_a_server_that_the_node_cannot_reach_is_replaced_by_the_next_one(bench, start_server, status, aside):
    bench.route(await start_server(echo_whole), await start_server(echo_whole), mode="strict")
    bench.receiver.refusals = [Refusal(status, "moved")]
    assert await ask(bench.address, b"hi") == b"got hi"
    assert (len(bench.transport.deliveries), len(bench.aside)) == (2, aside)
    assert read_counter(bench.handler, "failed_connects") == 1


async def test_a_permissive_client_goes_in_clear_while_the_node_is_unreachable(bench, start_server):
    bench.transport.nodes["there"] = ("127.0.0.1", find_free_port())
    bench.route(await start_server(echo_whole))
    for _ in range(3):
        assert await ask(bench.address, b"hi") == b"got hi"
    assert (len(bench.transport.deliveries), bench.aside) == (1, [])
    assert bench.read_samples("connections") == {("clear", "unreachable"): 3}
    bench.transport.nodes["there"] = bench.receiver.address
    bench.node.pass_time(2)
    assert await ask(bench.address, b"hi") == b"got hi"
    assert bench.read_samples("connections") == {("clear", "unreachable"): 3, ("encrypted", ""): 1}


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("", "encryption is required: the server is on no known node"),
        ("other", "encryption is required: the server's node other has no tunnel"),
        ("there", "encryption is required: no tunnel to node there (ConnectionRefusedError)"),
    ],
)
async def test_a_strict_client_without_path_is_reset_with_the_reason(bench, start_server, node, reason):
    bench.transport.nodes["there"] = ("127.0.0.1", find_free_port())
    bench.route(await start_server(echo_whole), node=node, mode="strict")
    assert await read_until_closed(bench.address) == b""
    assert (bench.reason, bench.aside) == (reason, [])
    assert read_counter(bench.handler, "refused_connections") == 1


@pytest.mark.parametrize("mode", ["permissive", "strict"])
async def test_a_node_that_does_not_answer_is_given_up_after_half_of_the_connect_timeout(bench, start_server, mode):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        bench.transport.nodes["there"] = full.getsockname()
        bench.route(await start_server(echo_whole), mode=mode)
        asking = asyncio.ensure_future(
            ask(bench.address, b"hi") if mode == "permissive" else read_until_closed(bench.address)
        )
        await wait_until(lambda: bench.handler.environment.connecting)
        bench.node.pass_time(2.4)
        assert bench.handler.environment.connecting
        bench.node.pass_time(0.2)
        assert await asking == (b"got hi" if mode == "permissive" else b"")
        assert bench.aside == []


async def test_a_server_that_does_not_answer_behind_its_node_is_set_aside(bench, start_server):
    bench.receiver.is_silent = True
    bench.route(await start_server(echo_whole))
    asking = asyncio.ensure_future(read_until_closed(bench.address))
    await wait_until(lambda: bench.receiver.deliveries)
    bench.node.pass_time(3)
    assert bench.handler.environment.connecting
    bench.node.pass_time(3)
    assert await asking == b""
    assert (bench.reason, len(bench.aside)) == ("no server accepted the connection", 1)


async def test_only_a_service_with_a_guard_names_its_client(bench, start_server):
    port = await start_server(echo_whole)
    bench.paths.clients = {"127.0.0.1": ClientEntry("here", "web@n")}
    for kinds, client in (((), ""), (("other",), ""), (("guard",), "127.0.0.1")):
        bench.route(port, kinds=kinds)
        assert await ask(bench.address, b"hi") == b"got hi"
        assert bench.receiver.deliveries.pop().client == client


async def test_a_path_that_is_being_opened_is_opened_again_when_the_route_changes(bench, start_server):
    port = await start_server(echo_whole)
    bench.paths.clients = {"127.0.0.1": ClientEntry("here", "web@n")}
    bench.receiver.is_silent = True
    bench.route(port)
    asking = asyncio.ensure_future(ask(bench.address, b"hi"))
    await wait_until(lambda: bench.receiver.deliveries)
    bench.receiver.is_silent = False
    bench.route(port, kinds=("guard",))
    assert await asking == b"got hi"
    assert [each.client for each in bench.receiver.deliveries] == ["", "127.0.0.1"]


@pytest.mark.parametrize("mode", ["permissive", "strict"])
async def test_a_path_that_fails_at_once_is_handled_in_a_later_turn(bench, start_server, mode):
    class Failing(FakeTransport):
        def find_path(self, server, mode):
            return self

        def open(self, delivery, protocol):
            protocol.open_failed(OpenFailure("full", 503, is_servers_fault=False))
            return self

    bench.paths.transport = Failing()
    bench.route(await start_server(echo_whole), mode=mode)
    if mode == "permissive":
        assert await ask(bench.address, b"hi") == b"got hi"
    else:
        assert await read_until_closed(bench.address) == b""
        assert bench.reason == "encryption is required: no tunnel to node there (full)"


async def test_a_client_that_leaves_while_its_path_is_opened_leaves_nothing(bench, start_server):
    bench.receiver.is_silent = True
    bench.route(await start_server(echo_whole))
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.receiver.deliveries)
    writer.transport.abort()
    bench.handler.abort()
    await wait_until(lambda: bench.handler.is_drained() and not bench.receiver.connections)


@pytest.mark.parametrize(
    ("before", "node", "is_ended"), [("off", "there", True), ("off", "", True), ("off", "here", False)]
)
async def test_a_connection_in_clear_ends_a_while_after_its_service_has_become_strict(
    bench, start_server, before, node, is_ended
):
    port = await start_server(echo_whole)
    bench.route(port, mode=before, node=node)
    reader, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    bench.route(port, mode="strict", node=node)
    bench.node.pass_time(29)
    assert len(bench.handler.environment.relays) == 1
    bench.node.pass_time(1)
    assert len(bench.handler.environment.relays) == (0 if is_ended else 1)
    if is_ended:
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert bench.reason == "encryption is required: the connection was opened in clear"
    writer.transport.abort()


async def test_a_connection_in_clear_to_a_server_that_has_left_ends_too(bench, start_server):
    gone, other = await start_server(echo_whole), await start_server(echo_whole)
    bench.route(gone, mode="off")
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    bench.route(other, mode="off")
    bench.node.pass_time(60)
    assert len(bench.handler.environment.relays) == 1
    bench.route(other, mode="strict")
    bench.node.pass_time(30)
    assert not bench.handler.environment.relays
    writer.transport.abort()


async def test_a_connection_to_a_server_of_this_node_that_has_left_goes_on(bench, start_server):
    gone, other = await start_server(echo_whole), await start_server(echo_whole)
    bench.route(gone, mode="permissive", node="here")
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    bench.route(other, mode="strict")
    bench.node.pass_time(60)
    assert len(bench.handler.environment.relays) == 1
    writer.transport.abort()


async def test_a_connection_in_clear_goes_on_if_its_service_is_strict_only_for_a_while(bench, start_server):
    port = await start_server(echo_whole)
    bench.route(port, mode="off")
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    bench.route(port, mode="strict")
    assert len(bench.handler.environment.exposed) == 1
    bench.route(port, mode="permissive")
    bench.node.pass_time(60)
    assert len(bench.handler.environment.relays) == 1
    writer.transport.abort()


class CountedStreams:
    """Routes that count how often an update examines how a server was reached."""

    def __init__(self, streams):
        self._streams, self.examined = streams, 0

    def __getattr__(self, name):
        return getattr(self._streams, name)

    def must_encrypt(self, connection):
        self.examined += 1
        return self._streams.must_encrypt(connection)


async def test_an_update_without_strict_services_does_not_examine_how_servers_were_reached(bench, start_server):
    counted: Any = CountedStreams(bench.handler._streams)
    bench.handler._streams = counted
    port = await start_server(echo_whole)
    bench.route(port, mode="off")
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    for mode in ("off", "permissive"):
        bench.route(port, mode=mode)
    assert counted.examined == 0
    bench.route(port, mode="strict")
    assert counted.examined == 1
    writer.transport.abort()


async def test_a_connection_over_a_path_goes_on_when_its_service_becomes_strict(bench, start_server):
    port = await start_server(echo_whole)
    bench.route(port)
    _, writer = await asyncio.open_connection(*bench.address)
    await wait_until(lambda: bench.handler.environment.relays and not bench.handler.environment.connecting)
    bench.route(port, mode="strict")
    bench.node.pass_time(60)
    assert len(bench.handler.environment.relays) == 1
    writer.transport.abort()
