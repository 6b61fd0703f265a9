"""A UDP handler with real sockets: a service, its servers, and clients, all of them the test's own."""

import asyncio
import select
import socket

import pytest
from maesh_udp import UdpSettings
from maesh_udp.proxy import UdpHandler

from maesh_core.plugin import Section, Server, Service, StreamRouter
from maesh_testing import FakeNode

ENTRYPOINT, KEY = 15000, "test/dns:53"


def open_socket(address="127.0.0.1", family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setblocking(False)
    return sock


class World:
    """A handler, and what stands around it. Sockets block nobody: whoever waits lets the loop run."""

    def __init__(self, **settings):
        self.node = FakeNode()
        self.handler = UdpHandler(UdpSettings(**settings), self.node)
        self.sockets, self.listeners = [], []
        self.servers = {}

    def open(self, address="127.0.0.1", family=socket.AF_INET):
        self.sockets.append(open_socket(address, family))
        return self.sockets[-1]

    async def listen(self, address="127.0.0.1", family=socket.AF_INET):
        """Open the entrypoint; return its port, and the listener."""
        sock = open_socket(address, family)
        port = sock.getsockname()[1]
        self.listeners.append(await self.handler.open_listener(sock, ENTRYPOINT))
        return port

    def serve(self, *names, weights=None, middlewares=None, key=KEY):
        """Route the entrypoint to servers of these names, opening those that are new."""
        for name in names:
            if name not in self.servers:
                self.servers[name] = self.open()
        self.route([self.servers[name].getsockname() for name in names], weights, middlewares, key=key)

    def route(self, addresses, weights=None, middlewares=None, *, key=KEY, encryption="off"):
        servers = tuple(
            Server(address=host, port=port, weight=weight, node="other")
            for (host, port, *_), weight in zip(addresses, weights or [1] * len(addresses), strict=True)
        )
        names = tuple(f"{key}/{index}" for index in range(len(middlewares or ())))
        section = Section(
            routers={key: StreamRouter(entrypoint=ENTRYPOINT, service=key, middlewares=names)},
            services={key: Service(servers=servers, encryption=encryption)},
        )
        instances = dict(zip(names, middlewares or (), strict=True))
        self.handler.apply_table(self.handler.compile_table(section, middlewares=instances, changed=None))

    async def receive(self, sock):
        """Wait for a datagram; the test's own time-out ends what never comes."""
        while not select.select([sock], [], [], 0)[0]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return sock.recvfrom(70_000)

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0.0005)

    def is_silent(self, sock):
        return not select.select([sock], [], [], 0)[0]

    def count(self, name):
        (family,) = [each for each in self.handler.collect_metrics() if each.name == f"maesh_udp_{name}"]
        return sum(value for _, value in family.samples)

    def close(self):
        for listener in self.listeners:
            listener.close()
        self.handler.abort()
        assert not self.handler.sessions
        assert all(listener._sock.fileno() == -1 for listener in self.listeners)
        self.node.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def world_type():
    """Return what makes a world, for tests that choose the event loop."""
    return World


@pytest.fixture
async def build_world():
    worlds = []

    def build(**settings):
        worlds.append(World(**settings))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


@pytest.fixture
async def world(build_world):
    return build_world()
