"""Sessions interrupted at random, through real sockets on both event loops: every count returns to zero."""

import asyncio
import contextlib
import os
import random
import socket

import pytest
import uvloop

LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])


async def take_steps(count):
    for _ in range(count):
        await asyncio.sleep(0)


class Judge:
    """A middleware that admits some clients, and changes its mind about some."""

    def __init__(self, chance):
        self._chance = chance

    def on_connect(self, connection):
        return self._chance.random() < 0.9

    def is_still_allowed(self, connection):
        return self._chance.random() < 0.9


def answer(server, chance):
    """Answer some of what has come to a server."""
    with contextlib.suppress(OSError):
        while chance.random() < 0.9:
            data, peer = server.recvfrom(2000)
            if chance.random() < 0.7:
                server.sendto(data, peer)


def check_nothing_is_left(world, descriptors, known):
    assert not world.handler.sessions
    assert not any(listener.sessions or listener._alive for listener in world.listeners)
    assert [server.under_way for server in known] == [0] * len(known)
    assert world.count("sessions") == world.count("closed_sessions")
    assert set(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("seed", range(8))
@LOOPS
def test_interrupted_sessions_leave_nothing_behind(run, seed, world_type):
    async def scene():
        chance = random.Random(seed)
        world = world_type(session_limit=chance.choice([5, 1000]), session_timeout=30.0)
        servers = [world.open() for _ in range(3)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            addresses = [*(server.getsockname() for server in servers), closed.getsockname()]  # ICMP answers
        clients, known = [world.open() for _ in range(20)], set()
        port = await world.listen()
        middlewares = [Judge(chance)] if seed % 2 else None
        descriptors = set(os.listdir("/proc/self/fd"))
        for _ in range(150):
            for client in chance.sample(clients, chance.randrange(8)):
                with contextlib.suppress(OSError):
                    client.sendto(b"x" * chance.choice([1, 1400]), ("127.0.0.1", port))
            await take_steps(chance.randrange(4))
            for server in servers:
                answer(server, chance)
            if chance.random() < 0.2:
                world.route(chance.sample(addresses, chance.randrange(5)), middlewares=middlewares)
                known.update(world.handler._streams._table.servers.values())
            if chance.random() < 0.1:
                world.node.pass_time(chance.choice([1.5, 31.0]))
            if chance.random() < 0.02:
                world.handler.abort()
        assert world.count("sessions")
        end = chance.choice(["time", "abort"])
        if end == "abort":
            world.handler.abort()
        while world.handler.sessions:
            await take_steps(2)
            world.node.pass_time(31.0)
        check_nothing_is_left(world, descriptors, known)
        world.close()

    run(scene())


@LOOPS
def test_a_closing_listener_keeps_its_socket_until_its_sessions_have_ended(run, world_type):
    async def scene():
        before = set(os.listdir("/proc/self/fd"))
        world = world_type(session_timeout=30.0)
        world.serve("a")
        port = await world.listen()
        clients = [world.open() for _ in range(5)]
        for client in clients:
            client.sendto(b"x", ("127.0.0.1", port))
        while len(world.handler.sessions) < 5:
            await take_steps(1)
        world.listeners[0].close()
        assert len(world.handler.sessions) == 5
        world.node.pass_time(2.5)
        assert world.handler.is_drained()
        known = world.handler._streams._table.servers.values()
        assert [server.under_way for server in known] == [0]
        world.close()
        assert set(os.listdir("/proc/self/fd")) == before

    run(scene())


def test_a_server_with_an_impossible_port_gets_no_session(world_type):
    async def scene():
        world = world_type()
        world.route([("127.0.0.1", 70_000)])
        port, client = await world.listen(), world.open()
        client.sendto(b"x", ("127.0.0.1", port))
        while not world.count("refused_sessions"):
            await take_steps(1)
        assert world.count("sessions") == 0
        world.close()

    uvloop.run(asyncio.wait_for(scene(), 100))
