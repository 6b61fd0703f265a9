"""Random frames of clients and servers, in pieces of random sizes, in the world without sockets.

`fuzz(world, random, frames)` sends about so many frames, and ends everybody. Any exception is a defect. What the mesh
sends is decoded by hpack and hyperframe, so a frame that it gets wrong is one, too. Used by test_fuzz.py, and with many
more frames by benchmarks/fuzz_http2.py.
"""

import struct

from .framing import (
    CONTINUATION,
    DATA,
    GET,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    SETTINGS,
    SETTINGS_ACK,
    FramePeer,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)

PIECES = (1, 3, 9, 50, 1000, 100_000)
ODD_FIELDS = (("Connection", "x"), ("te", "x"), ("host", "x"), (":path", "x"), ("a b", "x"), ("x", "a\nb"))
OLD_RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the close",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"3\r\nabc\r\n",
    b"0\r\nX-Sum: 1\r\n\r\n",
)


class FuzzedPeer(FramePeer):
    """A peer, the numbers of its streams, and the bytes that are not taken from it yet."""

    def __init__(self, peer, opening):
        super().__init__(peer)
        self.streams = [1]
        self.left = opening
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.was_reset: set[int] = set()

    def take(self):
        """Check that each frame is allowed in the state of its stream (RFC 9113 section 5.1)."""
        messages = super().take()
        for message in messages:
            if message[0] not in ("headers", "data", "reset"):
                continue
            kind, stream = message[:2]
            assert stream not in self.was_reset, f"{message} after the reset of its stream"
            if kind == "reset":
                self.was_reset.add(stream)
                continue
            assert stream not in self.ended, f"{message} after the end of its stream"
            assert kind == "headers" or stream in self.begun, f"{message} before the headers of its stream"
            self.begun.add(stream)
            if message[3]:
                self.ended.add(stream)
        return messages


def build_client_frames(random, client):
    """Build the next frames of a client: mostly requests and their bodies, some of them wrong."""
    stream = random.choice(client.streams) if random.random() < 0.9 else random.choice((0, 2, random.randrange(100)))
    kind = random.random()
    if kind < 0.30:
        stream = max(client.streams) + 2
        client.streams.append(stream)
        return client.headers(stream, build_request(random), is_end=random.random() < 0.5)
    if kind < 0.55:
        payload, is_padded = random.randbytes(random.choice((0, 1, 5, 100, 2000))), random.random() < 0.1
        flags = (PADDED if is_padded else 0) | (random.random() < 0.3)
        return frame(DATA, flags, stream, bytes((random.randrange(10),)) + payload if is_padded else payload)
    if kind < 0.60:
        return client.headers(stream, (("x-sum", "1"),), is_end=random.random() < 0.8)
    if kind < 0.64:
        block = client.encoder.encode(GET)
        cut, stream = random.randrange(len(block)), max(client.streams) + 2
        client.streams.append(stream)
        return frame(HEADERS, 1, stream, block[:cut]) + frame(CONTINUATION, 4, stream, block[cut:])
    return build_control_frame(random, stream)


def build_request(random):
    """Build the header list of a request, which may be wrong."""
    fields = list(POST if random.random() < 0.6 else GET)
    if random.random() < 0.3:
        fields.append((f"x-{random.randrange(5)}", "v" * random.randrange(50)))
    if random.random() < 0.1:
        fields.append(("content-length", str(random.randrange(50))))
    if random.random() < 0.1:
        fields.append(("content-type", "application/grpc"))
    if random.random() < 0.05:
        fields.append(("expect", "100-continue"))
    if random.random() < 0.05:
        fields.append(random.choice(ODD_FIELDS))
    if random.random() < 0.05:
        fields[2] = (":authority", "other")
    return fields


def build_control_frame(random, stream):
    """Build a frame that is no message, or one of random bytes."""
    kind = random.random()
    if kind < 0.3:
        size = random.choice((0, 1, 65535, (1 << 31) - 1)) if random.random() < 0.2 else 1000
        return window_update(random.choice((0, stream)), size)
    if kind < 0.55:
        return rst_stream(stream, random.randrange(15))
    if kind < 0.7:
        return frame(PING, random.choice((0, 0, 1)), 0, b"12345678")
    if kind < 0.85:
        value = random.choice((0, 1, 100, 65535, 16384, 1 << 20, 1 << 31))
        return frame(SETTINGS, 0, 0, struct.pack(">HI", random.randrange(1, 9), value))
    if kind < 0.9:
        return frame(PRIORITY, 0, stream, b"\0\0\0\x01\x10")
    if kind < 0.93:
        return goaway(stream)
    if kind < 0.98:
        return frame(random.randrange(10, 30), random.randrange(256), stream, b"x" * random.randrange(30))
    return frame(random.randrange(10), random.randrange(256), stream, random.randbytes(random.randrange(40)))


def build_server_frames(random, server):
    """Build the next frames of a server, for streams that it was sent."""
    server.streams = [message[1] for message in server.take() if message[0] == "headers"][-5:] or server.streams
    stream, kind = random.choice(server.streams), random.random()
    if kind < 0.5:
        fields = [(":status", random.choice(("200", "503", "100", "204")))]
        fields += [("content-length", "3")] if random.random() < 0.2 else []
        head = server.headers(stream, fields, is_end=random.random() < 0.4)
        return head + (server.data(stream, b"abc", is_end=random.random() < 0.6) if random.random() < 0.6 else b"")
    if kind < 0.65:
        return server.headers(stream, (("grpc-status", "0"),))
    if kind < 0.75:
        return rst_stream(stream, random.choice((0, 2, 7, 8)))
    if kind < 0.8:
        return goaway(random.choice((0, stream)))
    if kind < 0.9:
        return settings(MAX_CONCURRENT_STREAMS=random.randrange(3))
    return build_control_frame(random, stream)


class Fuzzer:
    """One world, its peers, and the random choices."""

    def __init__(self, world, random):
        self.world, self.random = world, random
        self.clients, self.servers = [], []
        self.frames = 0

    async def run(self, frames):
        """Take steps until about so many frames were sent; then end everybody."""
        self._open_client()
        while self.frames < frames:
            await self._take_step()
            await self.world.settle()
            for client in self.clients:
                client.take()
        await self._end()

    async def _take_step(self):
        random, kind = self.random, self.random.random()
        if kind < 0.5:
            await self._let_client_send(random.choice(self.clients))
        elif kind < 0.55 and len(self.clients) < 5:
            self._open_client()
        elif kind < 0.7:
            await self._let_connect()
        elif kind < 0.9:
            await self._let_server_send()
        elif kind < 0.95:
            self.world.advance(random.choice((0.1, 3, 70)))
        else:
            self._pause_or_resume(random.choice(self.clients).peer)

    def _open_client(self):
        self.clients = [each for each in self.clients if not each.peer.transport.is_lost]
        self.clients.append(FuzzedPeer(self.world.open_client(), PREFACE + settings() + SETTINGS_ACK))

    async def _let_client_send(self, client):
        count = self.random.randrange(1, 8)
        self.frames += count
        client.left += b"".join(build_client_frames(self.random, client) for _ in range(count))
        await self._feed(client)
        if self.random.random() < 0.03 and not client.peer.is_closed:
            client.peer.end() if self.random.random() < 0.5 else client.peer.lose()

    async def _feed(self, peer):
        """Send what the peer has, in pieces, as long as it is read."""
        transport = peer.peer.transport
        while peer.left and not transport.is_closing() and transport.is_reading:
            size = self.random.choice(PIECES)
            peer.peer.protocol.data_received(peer.left[:size])
            peer.left = peer.left[size:]

    async def _let_connect(self):
        await self.world.settle()
        self.world.connects[:] = [each for each in self.world.connects if not each[2].done()]
        if not self.world.connects:
            return
        if self.random.random() < 0.15:
            await self.world.refuse()
            return
        server = await self.world.accept()
        self.servers = self.servers[-5:]
        self.servers.append(FuzzedPeer(server, settings() + SETTINGS_ACK) if self.world.scheme == "h2c" else server)

    async def _let_server_send(self):
        if not self.servers:
            return
        server, random = self.random.choice(self.servers), self.random
        self.frames += 1
        if self.world.scheme == "h2c":
            server.left += build_server_frames(random, server)
            await self._feed(server)
            server = server.peer
        elif not server.is_closed and server.transport.is_reading:
            server.take()
            server.send(random.choice(OLD_RESPONSES))
        if random.random() < 0.1 and not server.transport.is_lost:
            server.lose(random.choice((None, ConnectionResetError())))

    def _pause_or_resume(self, peer):
        is_paused = getattr(peer.protocol, "is_write_paused", False)
        if is_paused and not peer.transport.is_lost:
            peer.take_again()
        elif not peer.is_closed and self.random.random() < 0.3:
            peer.stop_taking()

    async def _end(self):
        for client in self.clients:
            client.peer.transport.unsent_bytes = 0
            if not client.peer.transport.is_lost:
                client.peer.lose()
        await self.world.settle()
        self.world.connects[:] = [each for each in self.world.connects if not each[2].done()]
        while self.world.connects:
            await self.world.refuse()
        assert not any(getattr(each, "streams", ()) for each in self.world.handler.environment.upstreams)
        assert not any(server.under_way for server in self.world.handler._servers.values())


async def fuzz(world, random, frames):
    """Send about so many random frames; returns how many."""
    fuzzer = Fuzzer(world, random)
    await fuzzer.run(frames)
    return fuzzer.frames
