"""Two workers of different nodes in one process, a server, and the end of a connection."""

import asyncio
import contextlib
import socket
import struct

from maesh_relay import RelayNode, RelaySettings
from maesh_relay.transport import RelayTransport

from maesh_core.plugin import ByRequest, Delivery, RemoteServer
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

SECRET = b"s" * 32
RESET = struct.pack("ii", 1, 0)


class Recorder:
    """The sender's end of a connection: records what happens to it."""

    def __init__(self):
        self.transport, self.failure, self.lost, self.has_ended = None, None, [], False
        self.data = bytearray()

    def connection_made(self, transport):
        self.transport = transport

    def open_failed(self, failure):
        self.failure = failure

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.has_ended = True
        return True

    def connection_lost(self, error):
        self.lost.append(error)

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    @property
    def is_settled(self):
        return self.transport is not None or self.failure is not None


class Node(FakeNode):
    """A node that counts what must be judged by request, and serves it with `served` after `while_opening`."""

    def __init__(self, name):
        super().__init__(settings=ProxySettings(node=name))
        self.served = None
        self.opened = []
        self.while_opening = None

    async def open_delivery(self, delivery):
        self.opened.append(delivery)
        if self.while_opening is not None:
            self.while_opening()
        return self.served or await super().open_delivery(delivery)


class Server:
    """A server on this machine: sends back what it gets, and ends after the client has."""

    async def __aenter__(self):
        self.writers = []
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
            writer.close()


class Pair:
    """The worker of node `a`, which sends, and that of node `b`, which receives."""

    def __init__(self, *, secrets=(SECRET, SECRET)):
        self.nodes = {name: Node(name) for name in "ab"}
        settings = RelaySettings()
        self.sender, self.receiver = (
            RelayTransport(node, settings, secret) for node, secret in zip(self.nodes.values(), secrets, strict=True)
        )
        self.clients = {}

    async def __aenter__(self):
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        self.listener = await self.receiver.open_listener(sock, 0)
        self.apply()
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        self.sender.abort()
        self.receiver.abort()
        for _turn in range(3):
            await asyncio.sleep(0)

    def apply(self, *names, port=0):
        """Use these nodes, by default both."""
        nodes = {name: RelayNode(("127.0.0.1",), port or self.port) for name in names or "ab"}
        for transport in (self.sender, self.receiver):
            transport.apply_nodes(nodes, self.clients)

    def open(self, port, *, client=""):
        """Open a connection from `a` to a server on `b`; returns its end, and the opening."""
        recorder = Recorder()
        path = self.sender.find_path(RemoteServer("127.0.0.1", port, "b"), "strict")
        return recorder, path.open(Delivery("127.0.0.1", port, "shop/web:80", client), recorder)

    async def connect(self, port, *, client=""):
        """Open a connection, and wait for the outcome."""
        recorder, _ = self.open(port, client=client)
        await wait_until(lambda: recorder.is_settled)
        return recorder

    def refuse(self, verdict):
        """Let the core of the receiver decide so from now on."""
        self.nodes["b"].refusals["shop/web:80"] = verdict

    def demand_judging(self, protocol=None):
        """Let the receiver judge each request, by a protocol."""
        self.refuse(ByRequest())
        self.nodes["b"].served = protocol


async def wait_until(condition):
    """Wait until sockets have done their part."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - sockets take their time
            await asyncio.sleep(0.001)
