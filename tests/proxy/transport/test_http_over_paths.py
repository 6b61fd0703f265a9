"""HTTP over paths behaves as over connections in clear; what a path refuses has the documented outcome."""

import asyncio
import contextlib
import socket

import pytest
import uvloop

from maesh_core.model.configuration import Middleware as ConfiguredMiddleware
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import Refusal

from .fake_transport import FakeTransport, Receiver
from .http_sender import HERE, THERE, Http2Server, HttpServer, Sender

ENCRYPTED = ("encrypted", "")
UNREACHABLE = ("clear", "unreachable")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def run(test):
    uvloop.run(asyncio.wait_for(test, 60))


def find_closed_address():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()


class Retry:
    """Asks for another attempt after each failure."""

    kept_bytes = 1000

    def on_attempt_failed(self, exchange, error):
        return exchange.attempts < 5


def retry(sender):
    sender.kinds = {"r": ConfiguredMiddleware(kind="retry")}
    sender.middlewares = {"r": Retry()}
    return sender


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_requests_of_many_clients_share_kept_connections_over_a_path(mode):
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode=mode) as sender:
                for _ in range(5):
                    assert await sender.ask() == (200, "ok")
                (delivery,) = receiver.deliveries
                assert (delivery.address, delivery.port) == ("127.0.0.1", server.port)
                assert (delivery.service, delivery.client, delivery.protocol) == ("n/a:80", "", "http")
                assert sender.count_paths() == {ENCRYPTED: 1}
                assert sender.count_sent() == {ENCRYPTED: 5}
                assert sender.count_sent("bytes") == {ENCRYPTED: 10}
                assert (server.connections, server.requests) == (1, 5)
                (edges,) = [each for each in sender.callers.collect_metrics() if each.name == "maesh_edge_paths"]
                assert edges.samples == [(("127.0.0.1", "n/a:80", "encrypted"), 5)]

    run(scene())


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_server_on_the_proxy_s_own_node_is_reached_in_clear(mode):
    async def scene():
        async with HttpServer() as server:
            transport = FakeTransport(there=find_closed_address())
            async with Sender(transport, server.port, mode=mode, node=HERE) as sender:
                assert await sender.ask() == (200, "ok")
                assert (transport.deliveries, sender.count_paths()) == ([], {("local", ""): 1})
                assert sender.count_sent() == {("local", ""): 1}

    run(scene())


def test_a_service_without_encryption_does_not_ask_the_transport():
    async def scene():
        async with HttpServer() as server, Sender(FakeTransport(), server.port, mode="off") as sender:
            assert await sender.ask() == (200, "ok")
            assert sender.count_paths() == {}

    run(scene())


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("", "encryption is required: the server is on no known node"),
        ("other", "encryption is required: the server's node other has no tunnel"),
    ],
)
def test_a_strict_service_whose_server_has_no_path_is_answered_with_503(node, reason):
    async def scene():
        async with HttpServer() as server, Sender(FakeTransport(), server.port, mode="strict", node=node) as sender:
            assert await sender.ask() == (503, reason)
            assert (sender.aside, server.connections) == ([], 0)

    run(scene())


def test_a_strict_service_is_refused_by_a_proxy_without_transport():
    async def scene():
        async with HttpServer() as server, Sender(None, server.port, mode="strict") as sender:
            assert await sender.ask() == (503, "encryption is required: this proxy has no transport")
            sender.node = HERE
            sender.apply()
            assert await sender.ask() == (200, "ok")

    run(scene())


def test_a_permissive_service_is_sent_in_clear_while_its_node_is_unreachable_and_encrypted_again_later():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=find_closed_address())
            async with Sender(transport, server.port) as sender:
                assert await sender.ask() == (200, "ok")
                assert await sender.ask() == (200, "ok")
                assert (len(transport.deliveries), sender.count_paths()) == (1, {UNREACHABLE: 1})
                assert sender.aside == []
                transport.nodes[THERE] = receiver.address
                sender.clock.now += 10  # the pause is over: the sweep retires the kept connection
                sender.handler._sweep(sender.clock.now)
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {UNREACHABLE: 1, ENCRYPTED: 1}
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {UNREACHABLE: 1, ENCRYPTED: 1}

    run(scene())


def test_a_strict_service_fails_at_once_while_its_node_is_set_aside():
    async def scene():
        async with HttpServer() as server:
            transport = FakeTransport(there=find_closed_address())
            async with Sender(transport, server.port, mode="strict") as sender:
                reason = "encryption is required: no tunnel to node there (ConnectionRefusedError)"
                for _ in range(3):
                    assert await sender.ask() == (503, reason)
                assert (len(transport.deliveries), sender.aside, server.connections) == (1, [], 0)

    run(scene())


class Keeper:
    """A middleware that asks for no other attempt."""


@pytest.mark.parametrize("middlewares", [{}, {"k": Keeper()}], ids=["without middlewares", "with one"])
def test_a_strict_service_uses_its_other_servers_while_a_node_cannot_be_reached(middlewares):
    async def scene():
        async with HttpServer() as lost, HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address, gone=find_closed_address())
            sender = Sender(transport, lost.port, server.port, mode="strict")
            sender.nodes[lost.port] = "gone"
            sender.middlewares, sender.kinds = middlewares, dict.fromkeys(middlewares, ConfiguredMiddleware(kind="k"))
            async with sender:
                for _ in range(6):
                    assert await sender.ask() == (200, "ok")
                assert (lost.connections, server.requests, sender.aside) == (0, 6, [])
                assert [delivery.port for delivery in receiver.deliveries] == [server.port]

    run(scene())


@pytest.mark.parametrize("middlewares", [{}, {"k": Keeper()}], ids=["without middlewares", "with one"])
def test_a_server_in_place_of_one_of_two_parts_is_delivered_to_its_own_part(middlewares):
    async def scene():
        async with HttpServer() as lost, HttpServer() as one, HttpServer() as two, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address, gone=find_closed_address())
            sender = Sender(transport, mode="strict")
            sender.nodes[lost.port] = "gone"
            sender.parts = {"n/a:80/one": ((lost.port, one.port), 1), "n/a:80/two": ((lost.port, two.port), 2)}
            sender.middlewares, sender.kinds = middlewares, dict.fromkeys(middlewares, ConfiguredMiddleware(kind="k"))
            async with sender:
                for _ in range(6):
                    assert await sender.ask() == (200, "ok")
                found = {(delivery.service, delivery.port) for delivery in receiver.deliveries}
                assert found == {("n/a:80/one", one.port), ("n/a:80/two", two.port)}

    run(scene())


@pytest.mark.parametrize("body", ["", "question"])
def test_a_request_that_the_node_of_a_guarded_server_refuses_is_sent_to_another_server(body):
    async def scene():
        async with Http2Server(refuses=True) as lost, Http2Server() as server, Receiver() as receiver:
            sender = Sender(FakeTransport(there=receiver.address), lost.port, server.port, mode="strict", scheme="h2c")
            sender.middlewares, sender.kinds = {"g": Keeper()}, {"g": ConfiguredMiddleware(kind="guard")}
            async with sender:
                for _ in range(4):
                    request = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                    assert await sender.ask(request.encode()) == (200, "")
                assert (lost.requests, server.requests, sender.aside) == (4, 4, [])

    run(scene())


def test_a_strict_service_is_refused_if_no_node_can_be_reached():
    async def scene():
        ports = [find_closed_address()[1] for _ in range(12)]
        transport = FakeTransport(there=find_closed_address())
        async with Sender(transport, *ports, mode="strict") as sender:
            reason = "encryption is required: no tunnel to node there (ConnectionRefusedError)"
            assert await sender.ask() == (503, reason)
            assert len(transport.deliveries) == 1

    run(scene())


def test_a_server_that_has_left_its_node_is_replaced_by_another_one():
    async def scene():
        async with HttpServer() as first, HttpServer() as second, Receiver() as receiver:
            receiver.refusals = [Refusal(404, "not a pod of this node")]
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, first.port, second.port, mode="strict") as sender:
                assert await sender.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n") == (200, "ok")
                assert (first.requests, second.requests, sender.aside) == (0, 1, [])

    run(scene())


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_node_that_does_not_answer_uses_up_half_of_the_connect_timeout(mode):
    async def scene():
        async with HttpServer() as server:
            with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
                fillers = [socket.socket() for _ in range(4)]
                for filler in fillers:
                    filler.setblocking(False)
                    filler.connect_ex(full.getsockname())
                transport = FakeTransport(there=full.getsockname())
                async with Sender(transport, server.port, mode=mode, connect_timeout=3) as sender:
                    reason = "encryption is required: no tunnel to node there (it did not answer in time)"
                    assert await sender.ask() == ((200, "ok") if mode == "permissive" else (503, reason))
                    assert sender.aside == []
                for filler in fillers:
                    filler.close()

    run(scene())


def test_a_server_that_is_silent_behind_its_node_is_set_aside_and_not_the_node():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.is_silent = True
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, connect_timeout=3) as sender:
                assert await sender.ask() == (504, "connecting to the upstream timed out")
                assert len(sender.aside) == 1
                receiver.is_silent = False
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {ENCRYPTED: 1}

    run(scene())


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_denial_is_answered_with_403_and_never_retried(mode):
    async def scene():
        async with HttpServer() as server, HttpServer() as other, Receiver() as receiver:
            receiver.refusals = [Refusal(403, "access denied")]
            transport = FakeTransport(there=receiver.address)
            async with retry(Sender(transport, server.port, other.port, mode=mode)) as sender:
                assert await sender.ask() == (403, "access denied")
                assert (len(transport.deliveries), sender.aside) == (1, [])
                assert await sender.ask() == (200, "ok")

    run(scene())


@pytest.mark.parametrize(
    ("status", "aside", "answer"),
    [
        (404, 0, (502, "moved")),
        (502, 1, (502, "cannot connect to the upstream")),
        (504, 1, (504, "connecting to the upstream timed out")),
    ],
)
def test_a_refusal_about_the_server_is_a_failed_connect(status, aside, answer):
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.refusals = [Refusal(status, "moved")]
            async with Sender(FakeTransport(there=receiver.address), server.port) as sender:
                assert await sender.ask() == answer
                assert len(sender.aside) == aside
                assert sender.count_paths() == {}

    run(scene())


@pytest.mark.parametrize("status", [404, 502, 504])
def test_a_request_that_a_node_could_not_deliver_is_retried_at_another_server(status):
    async def scene():
        async with HttpServer() as server, HttpServer() as other, Receiver() as receiver:
            receiver.refusals = [Refusal(status, "moved")]
            transport = FakeTransport(there=receiver.address)
            async with retry(Sender(transport, server.port, other.port, mode="strict")) as sender:
                assert await sender.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") == (200, "ok")
                assert {delivery.port for delivery in transport.deliveries} == {server.port, other.port}
                assert server.requests + other.requests == 1

    run(scene())


def test_a_node_that_is_draining_is_set_aside_and_not_the_server():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            receiver.refusals = [Refusal(503, "draining")]
            async with Sender(FakeTransport(there=receiver.address), server.port, mode="strict") as sender:
                assert await sender.ask() == (503, "encryption is required: no tunnel to node there (draining)")
                assert sender.aside == []
                sender.clock.now += 2
                assert await sender.ask() == (200, "ok")

    run(scene())


def test_a_transport_that_raises_is_a_path_that_cannot_be_opened(caplog):
    class Broken(FakeTransport):
        def find_path(self, server, mode):
            return self

        def open(self, delivery, protocol):
            raise RuntimeError("no")

    async def scene():
        async with HttpServer() as server, Sender(Broken(), server.port) as sender:
            assert await sender.ask() == (200, "ok")
            assert sender.count_paths() == {UNREACHABLE: 1}

    run(scene())
    assert "a transport failed to open a path" in caplog.text


def test_kept_connections_are_replaced_when_a_node_starts_and_stops_to_take_part():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport()
            async with Sender(transport, server.port) as sender:
                assert await sender.ask() == (200, "ok")
                sender.paths.apply_nodes({THERE: receiver.address}, {})
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {("clear", "not offered"): 1, ENCRYPTED: 1}
                sender.paths.apply_nodes({}, {})
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {("clear", "not offered"): 2, ENCRYPTED: 1}

    run(scene())


class GatedServer:
    """A server that answers when its gate is open."""

    def __init__(self):
        self.gate, self.asked = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            await self.gate.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


LONGER_GET = GET.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n")


def test_a_busy_connection_in_clear_does_not_return_to_the_pool_of_a_node_that_takes_part_now():
    async def scene():
        async with GatedServer() as gated, Receiver() as receiver, Sender(FakeTransport(), gated.port) as sender:
            busy = asyncio.ensure_future(sender.ask(LONGER_GET))
            await gated.asked.wait()
            sender.paths.apply_nodes({THERE: receiver.address}, {})
            gated.gate.set()
            assert await busy == (200, "ok")
            (server,) = sender.servers
            while server.opened:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0)
            assert server.idle == []
            assert await sender.ask(LONGER_GET) == (200, "ok")
            assert sender.count_paths() == {("clear", "not offered"): 1, ENCRYPTED: 1}

    run(scene())


def test_a_kept_connection_closes_when_its_tunnel_is_to_be_replaced():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="strict") as sender:
                assert await sender.ask() == (200, "ok")
                transport.retire()
                (target,) = sender.servers
                assert target.idle == []
                assert await sender.ask() == (200, "ok")
                assert (server.connections, len(target.idle), target.opened) == (2, 1, 1)

    run(scene())


def test_a_busy_connection_ends_with_its_response_when_its_tunnel_is_to_be_replaced():
    async def scene():
        async with GatedServer() as gated, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, gated.port, mode="strict") as sender:
                busy = asyncio.ensure_future(sender.ask(LONGER_GET))
                await gated.asked.wait()
                transport.retire()
                gated.gate.set()
                assert await busy == (200, "ok")
                (server,) = sender.servers
                while server.opened:  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0)
                assert server.idle == []
                assert await sender.ask(LONGER_GET) == (200, "ok")
                assert sender.count_paths() == {ENCRYPTED: 2}

    run(scene())


def test_an_upgraded_connection_goes_on_over_a_path_and_is_half_closed():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        writer.write(b"got " + await reader.read())
        writer.close()

    async def scene():
        serving = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, serving.sockets[0].getsockname()[1], mode="strict") as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                writer.write(b"x" * 300_000)
                writer.write_eof()
                assert await reader.read() == b"got " + b"x" * 300_000
                writer.close()
        serving.close()

    run(scene())


def test_a_body_that_is_cut_on_the_path_does_not_look_complete():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await writer.drain()
        await reader.read()
        writer.close()

    async def scene():
        serving = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, serving.sockets[0].getsockname()[1]) as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(GET)
                await reader.readuntil(b"abc")
                for each in list(receiver.connections):
                    each.transport.abort()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.transport.abort()
        serving.close()

    run(scene())


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


@pytest.mark.parametrize(("transport", "mode"), [(None, "off"), (FakeTransport(), "permissive")])
def test_servers_get_the_account_of_the_client_and_never_what_a_client_claims(transport, mode):
    claim = b"GET / HTTP/1.1\r\nHost: a\r\nX-Maesh-Client: shop/admin\r\n\r\n"

    async def scene():
        async with Recording() as server, Sender(transport, server.port, mode=mode, client_header=True) as sender:
            for _ in range(2):
                assert await sender.ask(claim) == (200, "ok")
            sender.paths.clients = {"127.0.0.1": ClientEntry("", "web@shop")}
            assert await sender.ask(claim) == (200, "ok")
        fields = [head.count(b"X-Maesh-Client") for head in server.heads]
        assert fields == [0, 0, 1]
        assert b"X-Maesh-Client: shop/web\r\n" in server.heads[2]

    run(scene())


def test_connections_over_a_path_belong_to_one_client_if_servers_get_its_account():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="strict", client_header=True) as sender:
                sender.paths.clients = {"127.0.0.1": ClientEntry(HERE, "web@n")}
                assert await sender.ask() == (200, "ok")
                (delivery,) = receiver.deliveries
                assert delivery.client == "127.0.0.1"


def test_a_client_that_is_no_known_pod_of_this_node_is_not_named():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="strict", client_header=True) as sender:
                sender.paths.clients = {"127.0.0.1": ClientEntry(THERE, "web@n")}
                assert await sender.ask() == (200, "ok")
                assert [delivery.client for delivery in receiver.deliveries] == [""]

    run(scene())


class Holding(Recording):
    """A server that answers no request, and upgrades those that offer it."""

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if b"Upgrade" in self.heads[-1]:
                writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
            await reader.read()
        writer.transport.abort()


@pytest.mark.parametrize("fields", [b"", b"Connection: upgrade\r\nUpgrade: chat\r\n"], ids=["request", "upgrade"])
def test_what_is_under_way_in_clear_ends_a_while_after_the_service_has_become_strict(fields):
    async def scene():
        async with Holding() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="off") as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
                if fields:
                    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                while not server.heads:  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0)
                sender.mode = "strict"
                sender.apply()
                environment, now = sender.handler.environment, sender.clock.now
                sender.handler._sweep(now + 29)
                assert environment.tunnels if fields else environment.upstreams
                sender.handler._sweep(now + 31)
                if fields:
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                else:
                    assert b" 502 " in await reader.readuntil(b"\r\n\r\n")
                writer.transport.abort()

    run(scene())
