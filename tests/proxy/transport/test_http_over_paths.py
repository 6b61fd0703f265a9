"""HTTP over paths behaves as over connections in clear; what a path refuses has the documented outcome."""

import pytest

from maesh_core.model.configuration import Middleware as ConfiguredMiddleware
from maesh_core.plugin_system.transports import Refusal

from .fake_transport import FakeTransport, Receiver
from .http_sender import HERE, THERE, Http2Server, HttpServer, Sender
from .path_scenes import ENCRYPTED, UNREACHABLE, find_closed_address, run


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
