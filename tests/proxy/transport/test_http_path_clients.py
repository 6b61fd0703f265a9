"""Which client servers and the nodes of servers see when a request goes over a path."""

import pytest

from maesh_core.model.transport import ClientEntry

from .fake_transport import FakeTransport, Receiver
from .http_sender import HERE, THERE, HttpServer, Sender
from .path_scenes import Recording, run


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

    run(scene())


def test_a_client_that_is_no_known_pod_of_this_node_is_not_named():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="strict", client_header=True) as sender:
                sender.paths.clients = {"127.0.0.1": ClientEntry(THERE, "web@n")}
                assert await sender.ask() == (200, "ok")
                assert [delivery.client for delivery in receiver.deliveries] == [""]

    run(scene())
