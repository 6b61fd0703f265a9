"""Relays interrupted at any step, through real sockets on both event loops: every count returns to zero."""

import asyncio
import contextlib
import os
import random
import socket
from typing import Any, cast

import pytest
import uvloop

from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.tcp.relay import RESET
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode, find_free_port

from .conftest import ENTRYPOINT, apply, build_section, read_counter, wait_until

STEPS = 10
"""More rounds of the loop than it takes to join two sides."""
LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
MUCH = b"x" * 300_000


async def take_steps(count):
    for _ in range(count):
        await asyncio.sleep(0)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def send(sock, data):
    """Send as much as there is room for."""
    with contextlib.suppress(OSError):
        return sock.send(data)
    return 0


class Bench:
    """A handler, and servers by name: `open` accepts, `refusing` does not, to `silent` no connect ever ends."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self.known = set()

    async def __aenter__(self):
        self.node = FakeNode(settings=ProxySettings(connect_timeout=5))
        self.handler = TcpHandler(self.node)
        self.server = self._open()
        silent = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = self._stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        named = {"open": self.server, "silent": silent}
        self._ports = {name: sock.getsockname()[1] for name, sock in named.items()} | {"refusing": find_free_port()}
        listening = self._open()
        self.address = listening.getsockname()
        self._listener = await self.handler.open_listener(listening, ENTRYPOINT)
        self.accepted = []
        return self

    def _open(self):
        sock = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=500))
        sock.setblocking(False)
        return sock

    async def __aexit__(self, *_):
        self._listener.close()
        self.handler.abort()
        self.node.close()
        for connection in self.accepted:
            connection.close()
        self._stack.close()

    def route(self, *names):
        """Lead the entrypoint to these servers."""
        apply(self.handler, build_section(*(self._ports[name] for name in names)), changed=frozenset({"a/b:1"}))
        self.known.update(cast("Any", self.handler._streams)._table.servers.values())

    def open_client(self):
        """Connect a client, in no step: the kernel does it at once where the listener has room."""
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(self.address)
        return client

    def accept(self):
        """Take the connections that have come to the open server."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.server.accept()
                connection.setblocking(False)
                self.accepted.append(connection)

    def count_under_way(self):
        return sum(server.under_way for server in self.known)

    async def check_nothing_is_left(self, descriptors):
        """Check that every connection is closed, and counted so."""
        handler, environment = self.handler, self.handler.environment
        await wait_until(lambda: not environment.relays)
        assert not environment.connecting
        assert self.count_under_way() == 0
        assert read_counter(handler, "connections") == read_counter(handler, "closed_connections")
        environment.pipes.close()
        assert environment.pipes._count == 0
        self.accept()
        while self.accepted:
            self.accepted.pop().close()
        assert set(os.listdir("/proc/self/fd")) == descriptors


def play(run, scene):
    """Run a scene on a bench; afterwards nothing may be open that was not open before its first client."""

    async def on_bench():
        async with Bench() as bench:
            descriptors = set(os.listdir("/proc/self/fd"))
            await scene(bench)
            await bench.check_nothing_is_left(descriptors)

    run(asyncio.wait_for(on_bench(), 100))


@pytest.mark.parametrize("names", [["open"], ["silent"], ["refusing", "open"], ["silent", "refusing"], []])
@pytest.mark.parametrize("end", ["reset", "close", "abort", "route", "time"])
@LOOPS
def test_a_relay_that_is_interrupted_at_any_step_leaves_nothing(run, names, end):
    async def scene(bench):
        for steps in range(STEPS):
            bench.route(*names)
            client = bench.open_client()
            send(client, MUCH)
            await take_steps(steps)
            if end == "reset":
                reset(client)
            elif end == "abort":
                bench.handler.abort()
            elif end == "route":
                bench.route("refusing")
            elif end == "time":
                for _ in names:
                    bench.node.pass_time(6)
                    await take_steps(2)
            await take_steps(STEPS)
            client.close()
            bench.accept()
            for connection in bench.accepted:
                reset(connection)
            bench.accepted.clear()
            while bench.handler.environment.relays:
                bench.node.pass_time(6)
                await take_steps(1)

    play(run, scene)


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "server"])
@LOOPS
def test_a_side_that_was_reset_is_not_held_for_ever_by_one_that_takes_nothing(run, is_client):
    async def scene(bench):
        bench.route("open")
        client = bench.open_client()
        environment = bench.handler.environment
        await wait_until(lambda: environment.relays - environment.connecting)
        bench.accept()
        (server,) = bench.accepted
        sender = client if is_client else server
        idle = 0
        while idle < 50:  # until the relay holds bytes for a side that has no room, and reads no more
            await take_steps(STEPS)
            idle = 0 if send(sender, MUCH) else idle + 1
        reset(sender)
        await wait_until(lambda: environment.resetting)
        bench.node.pass_time(59)
        assert bench.handler.environment.relays
        bench.node.pass_time(2)
        assert not bench.handler.environment.relays
        client.close()

    play(run, scene)


def test_a_port_that_there_cannot_be_is_a_server_that_takes_no_connection():
    async def scene(bench):
        bench._ports["impossible"] = 70_000
        bench.route("impossible")
        client = bench.open_client()
        await wait_until(lambda: read_counter(bench.handler, "refused_connections"))
        assert read_counter(bench.handler, "refused_connections") == 1
        assert read_counter(bench.handler, "failed_connects") == 1
        client.close()

    play(uvloop.run, scene)


async def _visit(bench, chance):
    await take_steps(chance.randrange(60))
    client = bench.open_client()
    for _ in range(chance.randrange(4)):
        send(client, MUCH[: chance.choice([1, 1000, len(MUCH)])])
        await take_steps(chance.randrange(STEPS))
    if chance.random() < 0.5:
        reset(client)
    else:
        client.close()


async def _serve(bench, chance):
    bench.accept()
    for connection in chance.sample(bench.accepted, (len(bench.accepted) + 2) // 3):
        deed = chance.random()
        if deed < 0.5:
            with contextlib.suppress(OSError):
                send(connection, connection.recv(1_000_000) + MUCH)
        else:
            bench.accepted.remove(connection)
            reset(connection) if deed < 0.75 else connection.close()
    await take_steps(chance.randrange(4))


@pytest.mark.parametrize("seed", range(12))
@LOOPS
def test_nothing_is_left_of_clients_servers_and_changes_that_interrupt_each_other_at_random(run, seed):
    async def scene(bench):
        chance = random.Random(seed)
        names = ["open", "silent", "refusing"]
        bench.route(*names)
        visits = [asyncio.ensure_future(_visit(bench, chance)) for _ in range(100)]
        while not all(each.done() for each in visits) or bench.handler.environment.relays:
            await _serve(bench, chance)
            if chance.random() < 0.2:
                bench.route(*chance.sample(names, chance.randrange(4)))
            if chance.random() < 0.1:
                bench.node.pass_time(3)
        await asyncio.gather(*visits)

    play(run, scene)
