"""A connection read and written through its descriptor does for its protocol what an event loop's transport does."""

import asyncio
import contextlib
import socket
import struct

import pytest

from maesh_core.proxy.http.clients.descriptor_transport import READ_BYTES
from maesh_core.proxy.http.clients.newcomers import Newcomer, Newcomers
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.transports import limit_write_buffer, reset
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

LARGE = bytes(range(256)) * 2**16  # 16 MiB: more than the buffers of both sockets hold


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    can_change_transport = False

    def __init__(self, *, keeps_open=False):
        self.keeps_open = keeps_open
        self.received = bytearray()
        self.told = []
        self.is_calling = False

    def connection_made(self, transport):
        self.transport = transport
        limit_write_buffer(transport)

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.told.append("end")
        return self.keeps_open

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exc):
        assert not self.is_calling, "told of its end while it called"
        self.told.append("lost" if exc is None else "broken")

    def call(self, method, *arguments):
        self.is_calling = True
        getattr(self.transport, method)(*arguments)
        self.is_calling = False


async def until(is_so):
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


@pytest.fixture(params=["descriptor", "loop"])
async def connect(request):
    """Return what connects a protocol to a socket, over either kind of transport, and returns that socket."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    newcomers = Newcomers(Environment(CarryingSettings(), clock))
    listening = socket.create_server(("127.0.0.1", 0))
    cleanup = contextlib.ExitStack()
    protocols = []

    async def open_pair(protocol):
        peer = cleanup.enter_context(contextlib.closing(socket.create_connection(listening.getsockname())))
        peer.setblocking(False)
        accepted, address = listening.accept()
        accepted.setblocking(False)
        protocols.append(protocol)
        if request.param == "loop":
            await loop.connect_accepted_socket(lambda: protocol, accepted)
        else:
            newcomers.add(Newcomer(accepted.detach(), address[0], lambda: protocol))
            newcomers.take_turn()
            newcomers.take_turn()
            newcomers.take_turn()
        return peer

    yield open_pair
    cleanup.close()
    await until(lambda: all({"lost", "broken"} & set(protocol.told) for protocol in protocols))
    assert all(len({"lost", "broken"} & set(protocol.told)) == 1 for protocol in protocols)
    newcomers.close()
    clock.close()
    listening.close()


async def receive_all(peer):
    loop, received = asyncio.get_running_loop(), bytearray()
    while data := await loop.sock_recv(peer, 1 << 20):
        received += data
    return bytes(received)


async def test_bytes_go_both_ways_and_the_peers_end_ends_both(connect):
    protocol, loop = Recorder(), asyncio.get_running_loop()
    peer = await connect(protocol)
    await loop.sock_sendall(peer, b"question")
    await until(lambda: protocol.received == b"question")
    protocol.call("write", b"answer")
    assert await loop.sock_recv(peer, 100) == b"answer"
    peer.shutdown(socket.SHUT_WR)
    assert await receive_all(peer) == b""
    await until(lambda: protocol.told == ["end", "lost"])


async def test_a_protocol_may_keep_its_half_open(connect):
    protocol = Recorder(keeps_open=True)
    peer = await connect(protocol)
    peer.shutdown(socket.SHUT_WR)
    await until(lambda: protocol.told == ["end"])
    protocol.call("write", b"late answer")
    protocol.call("close")
    protocol.call("write", b"nothing more")
    assert protocol.transport.is_closing()
    assert await receive_all(peer) == b"late answer"
    await until(lambda: protocol.told == ["end", "lost"])


async def test_a_peer_that_reads_slowly_pauses_its_protocol_and_gets_every_byte(connect):
    protocol, loop, received = Recorder(), asyncio.get_running_loop(), bytearray()
    peer = await connect(protocol)
    protocol.call("write", LARGE)
    assert protocol.told == ["pause"]
    assert protocol.transport.get_write_buffer_size() > 0
    while len(received) < len(LARGE):
        received += await loop.sock_recv(peer, 100_000)
    assert received == LARGE
    await until(lambda: protocol.told == ["pause", "resume"])
    assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("ending", ["close", "write_eof"])
async def test_what_is_not_sent_yet_is_sent_before_the_end(connect, ending):
    protocol, loop = Recorder(), asyncio.get_running_loop()
    peer = await connect(protocol)
    assert protocol.transport.can_write_eof()
    protocol.call("write", LARGE)
    protocol.call("write", b"the last bytes")
    protocol.call(ending)
    assert await receive_all(peer) == LARGE + b"the last bytes"
    if ending == "write_eof":
        await loop.sock_sendall(peer, b"still read")
        await until(lambda: protocol.received == b"still read")


async def test_an_abort_ends_at_once(connect):
    protocol = Recorder()
    peer = await connect(protocol)
    protocol.call("write", LARGE)
    protocol.call("abort")
    assert protocol.transport.is_closing()
    await until(lambda: "lost" in protocol.told)
    assert len(await receive_all(peer)) < len(LARGE)


async def test_a_reset_reaches_the_peer(connect):
    protocol = Recorder()
    peer = await connect(protocol)
    reset(protocol.transport)
    with pytest.raises(ConnectionResetError):
        await receive_all(peer)


async def test_a_peers_reset_breaks_the_connection(connect):
    protocol = Recorder()
    peer = await connect(protocol)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await until(lambda: protocol.told == ["broken"])


async def test_nothing_is_read_while_reading_is_paused(connect):
    protocol, loop = Recorder(), asyncio.get_running_loop()
    peer = await connect(protocol)
    protocol.call("pause_reading")
    await loop.sock_sendall(peer, b"question")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not protocol.received
    protocol.call("resume_reading")
    await until(lambda: protocol.received == b"question")


async def test_another_protocol_is_told_what_follows(connect):
    first, second, loop = Recorder(), Recorder(), asyncio.get_running_loop()
    peer = await connect(first)
    second.transport = first.transport
    first.transport.set_protocol(second)
    await loop.sock_sendall(peer, b"question")
    await until(lambda: second.received == b"question")
    peer.close()
    await until(lambda: second.told == ["end", "lost"])
    assert not first.received
    first.told.append("lost")  # what the fixture waits for


async def test_the_connection_tells_its_peer_and_gives_its_socket(connect):
    protocol = Recorder()
    peer = await connect(protocol)
    get = protocol.transport.get_extra_info
    assert get("peername")[0] == "127.0.0.1"
    assert get("socket").getpeername() == peer.getsockname()
    assert get("ssl_object", "nothing") == "nothing"


@pytest.mark.parametrize("connect", ["descriptor"], indirect=True)
async def test_a_read_takes_no_more_than_its_limit(connect):
    protocol, loop, sizes = Recorder(), asyncio.get_running_loop(), []
    peer = await connect(protocol)
    protocol.call("pause_reading")
    await loop.sock_sendall(peer, bytes(3 * READ_BYTES))
    protocol.data_received = lambda data: sizes.append(len(data))
    protocol.call("resume_reading")
    await until(lambda: sum(sizes) == 3 * READ_BYTES)
    assert max(sizes) == READ_BYTES
