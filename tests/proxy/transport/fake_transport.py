"""A transport between two nodes whose path is a TCP connection: the sender's half, and the receiver.

A path's connection begins with a line of JSON, the delivery, and a line of answer: `{"status": 200}`, or another status
with a reason. The transport that a protocol gets has only the methods that a tunnel's stream has, and no socket.
"""

import asyncio
import contextlib
import json
import socket
import struct

import msgspec

from maesh_core.plugin_system.transports import Delivery, OpenFailure, PathRefusedError, Refusal

RESET = struct.pack("ii", 1, 0)


def reset(transport):
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


class StreamTransport:
    """The methods of a tunnel's stream, over a TCP transport."""

    def __init__(self, link):
        self._link = link

    def get_extra_info(self, name, default=None):
        return self._cut if name == "reset" else default

    def set_protocol(self, protocol):
        self._link.protocol = protocol

    def get_protocol(self):
        return self._link.protocol

    def abort(self):
        """End without a reset, as a socket that is closed."""
        self._link.transport.abort()

    def _cut(self):
        reset(self._link.transport)

    def __getattr__(self, name):
        return getattr(self._link.transport, name)


class SenderLink(asyncio.Protocol):
    """The sender's end: reads the answer, then passes everything on."""

    def __init__(self, delivery, protocol, opening):
        self.protocol, self._delivery, self._opening = protocol, delivery, opening
        self._buffer = b""
        self._is_open = False

    def connection_made(self, transport):
        self.transport = transport
        self._opening.has_connection = True
        transport.write(msgspec.json.encode(self._delivery) + b"\n")

    def data_received(self, data):
        if self._is_open:
            self.protocol.data_received(data)
            return
        self._buffer += data
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return
        answer = json.loads(line)
        if answer["status"] != 200:
            self.fail(OpenFailure(answer["reason"], answer["status"], answer["status"] in (502, 504)))
            self.transport.abort()
            return
        self._is_open = True
        self._opening.is_settled = True
        self.protocol.connection_made(StreamTransport(self))
        if rest:
            self.protocol.data_received(rest)

    def eof_received(self):
        return self.protocol.eof_received() if self._is_open else False

    def connection_lost(self, error):
        if self._is_open:
            self.protocol.connection_lost(error)
        else:
            self.fail(OpenFailure("the connection ended", 0, is_servers_fault=False))

    def pause_writing(self):
        if self._is_open:
            self.protocol.pause_writing()

    def resume_writing(self):
        if self._is_open:
            self.protocol.resume_writing()

    def fail(self, failure):
        self._opening.fail(failure)


class FakeOpening:
    """One path that is being opened."""

    def __init__(self, path, delivery, protocol):
        self.has_connection = self.is_settled = False
        self.protocol, self._link = protocol, SenderLink(delivery, protocol, self)
        self._task = asyncio.ensure_future(self._connect(path))

    async def _connect(self, path):
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._link, *path.receiver)
        except OSError as error:
            self.fail(OpenFailure(type(error).__name__, 0, is_servers_fault=False))

    def fail(self, failure):
        if not self.is_settled:
            self.is_settled = True
            self.protocol.open_failed(failure)

    def retire(self):
        if self.is_settled and self.has_connection:
            self._link.protocol.path_retired()

    def cancel(self):
        assert not self.is_settled
        self.is_settled = True
        self._task.cancel()
        if self.has_connection:
            self._link.transport.abort()


class FakePath:
    def __init__(self, transport, receiver):
        self._transport, self.receiver = transport, receiver

    def open(self, delivery, protocol):
        self._transport.deliveries.append(delivery)
        opening = FakeOpening(self, delivery, protocol)
        self._transport.openings.append(opening)
        return opening


class FakeTransport:
    """The sender's half: `nodes` has the receivers' addresses; None is a node that needs no path."""

    name = "fake"
    node_type = dict

    def __init__(self, **nodes):
        self.nodes = nodes
        self.deliveries = []
        self.openings = []

    def retire(self):
        """Replace the tunnel: retire the open paths, and use another tunnel for new ones."""
        for opening in self.openings:
            opening.retire()

    def apply_nodes(self, nodes, clients):
        self.nodes = dict(nodes)

    def receive(self, payload):
        self.payload = payload

    def find_path(self, server, mode):
        if server.node not in self.nodes:
            if mode == "strict":
                raise PathRefusedError(f"the server's node {server.node} has no tunnel")
            return None
        receiver = self.nodes[server.node]
        return FakePath(self, receiver) if receiver is not None else None


class Receiver:
    """The receiver: joins each path's connection with one to the server, unless `judge` refuses it."""

    def __init__(self):
        self.refusals = []
        """What the next deliveries are answered with, before anything is judged; None joins."""
        self.judge = None
        self.is_silent = False
        self.deliveries = []
        self.connections = set()
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(task := asyncio.current_task())
        self.connections.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # a cancelled task would be logged by the loop
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            self.connections.discard(writer)
            writer.close()

    async def _answer(self, reader, writer):
        delivery = msgspec.json.decode(await reader.readline(), type=Delivery)
        self.deliveries.append(delivery)
        if self.is_silent:
            await reader.read()
            return
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is None and self.judge is not None:
            refusal = await self.judge("sender", delivery)
        if refusal is None:
            try:
                streams = await asyncio.open_connection(delivery.address, delivery.port)
            except OSError:
                refusal = Refusal(502, "the server refused the connection")
        if refusal is not None:
            writer.write(json.dumps({"status": refusal.status, "reason": refusal.reason}).encode() + b"\n")
            writer.close()
            return
        writer.write(b'{"status": 200}\n')
        await join((reader, writer), streams)


async def join(one, other):
    """Copy both ways, with half-closes; a reset of one side resets the other."""
    copies = [asyncio.ensure_future(copy(one[0], other[1])), asyncio.ensure_future(copy(other[0], one[1]))]
    try:
        await asyncio.gather(*copies)
    except OSError:
        for _, writer in (one, other):
            reset(writer.transport)
    finally:
        for _, writer in (one, other):
            writer.close()
        for each in copies:
            each.cancel()
        await asyncio.gather(*copies, return_exceptions=True)


async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
