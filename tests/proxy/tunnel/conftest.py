"""Two nodes with tunnels over real TLS on the loopback interface, and a pod."""

import asyncio
import contextlib
import socket

import pytest

from maesh_core.plugin_system.transports import Delivery, Peer
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

from .node_certificates import Authority, build_identity


class Rules:
    """Rules that allow everything, unless a test says otherwise."""

    def __init__(self):
        self.deliveries = []
        self.refusal = None
        self.error = None
        self.identities = {build_identity("a"): "a", build_identity("b"): "b"}
        self.gate = None
        self.again = None
        """What `judge_again` answers."""

    def find_identity(self, certificate, address):
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        return self.identities.get(uris[0]) if len(uris) == 1 else None

    async def judge(self, node, delivery):
        self.deliveries.append((node, delivery))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.refusal

    def judge_again(self, node, delivery):
        if self.error is not None:
            raise self.error
        return self.again


class Recorder:
    """A protocol that records what its transport does."""

    def __init__(self):
        self.transport = None
        self.failure = None
        self.data = bytearray()
        self.has_ended = False
        self.keeps_open = False
        self.lost = []
        self.paused = 0
        self.resumed = 0
        self.seen = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.seen.set()

    def open_failed(self, failure):
        assert self.failure is None
        assert self.transport is None
        self.failure = failure
        self.seen.set()

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data

    def eof_received(self):
        self.has_ended = True
        return self.keeps_open

    def connection_lost(self, error):
        self.lost.append(error)

    def pause_writing(self):
        self.paused += 1

    def resume_writing(self):
        self.resumed += 1


class TunnelNode:
    """A node with an engine."""

    def __init__(self, name, **settings):
        self.name = name
        self.node = FakeNode(settings=ProxySettings(**settings))
        self.rules = Rules()
        self.tunnels = self.node.build_tunnels(self.rules)
        self.listener = None
        self.port = 0

    async def listen(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        sock.listen(512)
        self.port = sock.getsockname()[1]
        self.listener = await self.tunnels.open_listener(sock, 15008)

    @property
    def peer(self):
        return Peer(self.name, ("127.0.0.1",), self.port, build_identity(self.name))

    def count(self, name, **labels):
        (family,) = [each for each in self.tunnels.collect_metrics() if each.name == f"maesh_{name}"]
        wanted = [labels.get(label) for label in family.labels]
        return sum(
            value
            for sample, value in family.samples
            if all(w is None or w == s for w, s in zip(wanted, sample, strict=True))
        )

    async def close(self):
        self.tunnels.abort()
        if self.listener is not None:
            self.listener.close()
        await asyncio.sleep(0)
        self.node.close()


async def wait_until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - sockets take their time
            await asyncio.sleep(0.001)


class Pod:
    """A server: `serve` gets each connection as a socket without blocking."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(4096)
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self.accepted = []

    async def accept(self):
        async with asyncio.timeout(60):
            client, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        self.accepted.append(client)
        return client

    def close(self):
        for each in (self.sock, *self.accepted):
            with contextlib.suppress(OSError):
                each.close()


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture
async def sender(authority):
    node = TunnelNode("a", connect_timeout=5)
    node.tunnels.use(*authority.build_contexts("a"))
    yield node
    await node.close()


@pytest.fixture
async def receiver(authority):
    node = TunnelNode("b", connect_timeout=5)
    node.tunnels.use(*authority.build_contexts("b"))
    await node.listen()
    yield node
    await node.close()


@pytest.fixture
async def pod():
    pod = Pod()
    yield pod
    pod.close()


def build_delivery(port, **others):
    return Delivery(address="127.0.0.1", port=port, service="ns/web:80", **others)


@pytest.fixture
def open_stream(sender, receiver, pod):
    """Open a stream to the pod; return its protocol, and the pod's socket."""

    async def open_one():
        protocol = Recorder()
        sender.tunnels.open(receiver.peer, build_delivery(pod.port), protocol)
        accepted = await pod.accept()
        await wait_until(protocol.seen.is_set)
        assert protocol.failure is None, protocol.failure
        return protocol, accepted

    return open_one
