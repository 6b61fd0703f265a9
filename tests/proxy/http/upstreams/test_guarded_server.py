"""Connections to a guarded server on another node belong to one client and one service."""

import asyncio

import uvloop

from maesh_core.model.configuration import Middleware
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import Refusal
from maesh_core.proxy.http.upstreams.guarded_server import POOL_LIMIT

from ...transport.fake_transport import FakeTransport, Receiver
from ...transport.http_sender import HERE, HttpServer, Sender


class Guard:
    """Allows every client."""

    def on_request(self, exchange):
        return None


def guard(sender):
    sender.kinds = {"n/a/guard": Middleware(kind="guard")}
    sender.middlewares = {"n/a/guard": Guard()}
    return sender


async def ask_from(sender, address):
    """Send a request from an address of this machine."""
    reader, writer = await asyncio.open_connection(*sender.address, local_addr=(address, 0))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    return int(head.split()[1])


def play(scene, **settings):
    async def run():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with guard(Sender(transport, server.port, mode="strict", **settings)) as sender:
                sender.paths.clients = dict.fromkeys(("127.0.0.1", "127.0.0.2"), ClientEntry(HERE, "web@n"))
                await scene(sender, server, receiver)

    uvloop.run(asyncio.wait_for(run(), 60))


def test_each_client_has_connections_of_its_own_which_it_keeps():
    async def scene(sender, server, receiver):
        for _ in range(3):
            for address in ("127.0.0.1", "127.0.0.2"):
                assert await ask_from(sender, address) == 200
        assert [delivery.client for delivery in receiver.deliveries] == ["127.0.0.1", "127.0.0.2"]
        assert server.requests == 6
        (pool,) = sender.servers
        assert (pool.idle, pool.counters.responses, pool.under_way) == ([], 6, 0)

    play(scene)


def test_a_denied_client_does_not_disturb_others():
    async def scene(sender, server, receiver):
        assert await ask_from(sender, "127.0.0.1") == 200
        receiver.refusals = [Refusal(403, "access denied")]
        assert await ask_from(sender, "127.0.0.2") == 403
        assert await ask_from(sender, "127.0.0.1") == 200
        assert server.requests == 2

    play(scene)


def test_all_clients_share_the_health_of_the_server():
    async def scene(sender, server, receiver):
        assert await ask_from(sender, "127.0.0.1") == 200
        receiver.refusals = [Refusal(502, "refused")]
        assert await ask_from(sender, "127.0.0.2") == 502
        (pool,) = sender.servers
        assert pool.aside is not None
        assert all(each.aside is pool.aside for each in pool._pools.values())
        assert await ask_from(sender, "127.0.0.1") == 200  # over the kept connection
        assert pool.aside is None
        assert all(each.aside is None for each in pool._pools.values())

    play(scene)


def test_a_server_on_the_own_node_is_not_divided():
    async def scene(sender, server, receiver):
        for address in ("127.0.0.1", "127.0.0.2"):
            assert await ask_from(sender, address) == 200
        assert (server.connections, receiver.deliveries) == (1, [])

    play(scene, node="here")


def test_a_service_that_gains_a_guard_does_not_use_shared_connections_any_more():
    async def scene(sender, server, receiver):
        sender.kinds, sender.middlewares = {}, {}
        sender.apply()
        assert await ask_from(sender, "127.0.0.1") == 200
        guard(sender).apply()
        assert await ask_from(sender, "127.0.0.1") == 200
        assert [delivery.client for delivery in receiver.deliveries] == ["", "127.0.0.1"]
        assert not any(each.idle for each in sender.servers)

    play(scene)


def test_a_connection_that_the_server_has_closed_is_replaced_and_pools_without_connections_are_dropped():
    async def scene(sender, server, receiver):
        assert await ask_from(sender, "127.0.0.1") == 200
        for each in list(receiver.connections):
            each.transport.abort()
        (pool,) = sender.servers
        while any(each.opened for each in pool._pools.values()):  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        pool.sweep(sender.clock.now)
        assert pool._pools == {}
        assert await ask_from(sender, "127.0.0.1") == 200

    play(scene)


def test_connections_are_closed_when_the_server_is_removed():
    async def scene(sender, server, receiver):
        assert await ask_from(sender, "127.0.0.1") == 200
        (pool,) = sender.servers
        sender.ports = ()
        sender.apply()
        while pool.under_way or any(each.opened for each in pool._pools.values()):  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        assert await ask_from(sender, "127.0.0.1") == 503

    play(scene)


def test_at_the_limit_the_pool_that_was_used_longest_ago_is_removed():
    async def scene(sender, server, receiver):
        assert await ask_from(sender, "127.0.0.1") == 200
        assert await ask_from(sender, "127.0.0.2") == 200
        assert await ask_from(sender, "127.0.0.1") == 200
        (pool,) = sender.servers
        second = pool._pools["n/a:80", "127.0.0.2"]
        for number in range(POOL_LIMIT - 1):
            pool._get_pool(("n/a:80", f"10.0.{number // 256}.{number % 256}"))
        assert len(pool._pools) == POOL_LIMIT
        assert second.is_removed
        assert ("n/a:80", "127.0.0.1") in pool._pools

    play(scene)
