"""A node that breaks rules: TLS to a tunnel's port by hand, with any bytes."""

import asyncio
import contextlib
import socket
import ssl

from maesh_core.proxy.http.http2.frames import END_HEADERS, HEADERS, PREFACE, SETTINGS_ACK
from maesh_core.proxy.http.http2.hpack.encoder import Encoder

from .scripted import SETTINGS, WIDE, frame, split_frames


class RawPeer:
    """One TLS connection of a test's own."""

    def __init__(self, context, *, is_server=False):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=is_server)
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.received = bytearray()
        self.has_ended = False
        self.encoder = Encoder()
        self.encoder.set_max_table_size(0)
        self.loop = asyncio.get_running_loop()

    async def connect(self, port):
        await self.loop.sock_connect(self.sock, ("127.0.0.1", port))
        await self.shake()
        return self

    async def shake(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.push()
                await self.pull()
            else:
                await self.push()
                return

    async def push(self):
        data = self.outgoing.read()
        if data:
            await self.loop.sock_sendall(self.sock, data)

    async def pull(self):
        """Read once, and decrypt it."""
        try:
            data = await self.loop.sock_recv(self.sock, 262144)
        except ConnectionError:
            data = b""
        if data:
            self.incoming.write(data)
        else:
            self.has_ended = True
            self.incoming.write_eof()
        return data

    def decrypt(self):
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
            while data := self.tls.read(65536):
                self.received += data

    async def send(self, data):
        self.tls.write(data)
        await self.push()

    async def begin(self):
        """Send what a sender sends first."""
        await self.send(PREFACE + SETTINGS + WIDE)
        await self.send(SETTINGS_ACK)
        return self

    async def open(self, stream_id, port, **others):
        fields = [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:%d" % port), (b"maesh-protocol", b"tcp")]
        await self.send(frame(HEADERS, END_HEADERS, stream_id, self.encoder.encode(tuple(fields))))

    async def read_until(self, condition):
        """Read until the frames that were received fulfil a condition, or the connection ends; return them."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(ssl.SSLError):
                    self.decrypt()
                frames = split_frames(self.received[: find_whole(self.received)])
                if condition(frames) or self.has_ended:
                    return frames
                await self.pull()

    async def read_to_end(self):
        return await self.read_until(lambda frames: False)

    def close(self):
        self.sock.close()


def find_whole(data):
    """Return where the last whole frame ends."""
    at = 0
    while len(data) - at >= 9:
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        at = end
    return at
