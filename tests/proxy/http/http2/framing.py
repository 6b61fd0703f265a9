"""A peer that speaks HTTP/2 in the world without sockets, frame by frame, with hpack and hyperframe as its codec."""

import struct
from typing import Any

import hpack
from hyperframe.frame import Frame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HOST = "a.test.maesh"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
GET = ((":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/"))
POST = ((":method", "POST"), (":scheme", "http"), (":authority", HOST), (":path", "/"))
OK = ((":status", "200"),)


def frame(kind, flags=0, stream_id=0, payload=b""):
    """Render a frame, however wrong it is."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream_id) + payload


def settings(**values):
    """Render a SETTINGS frame: `settings(INITIAL_WINDOW_SIZE=10)`."""
    rendered = SettingsFrame(0, settings={getattr(SettingsFrame, name): value for name, value in values.items()})
    return rendered.serialize()


SETTINGS_ACK = frame(SETTINGS, ACK)


def window_update(stream_id, size):
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", size))


def rst_stream(stream_id, code):
    return frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def ping_ack(payload):
    return frame(PING, ACK, 0, payload)


def goaway(last_stream_id, code=0):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream_id, code))


class FramePeer:
    """One side of a connection. `take()` gives what has come since the last time, decoded.

    A message is a tuple: ("headers", stream, fields, is_end), ("data", stream, bytes, is_end), ("reset", stream, code),
    ("goaway", last_stream, code), ("window", stream, size), ("settings", values), ("settings ack",), ("ping", payload,
    is_ack).
    """

    def __init__(self, peer):
        self.peer = peer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
        self._received = bytearray()
        self._block = bytearray()
        self._is_end = False

    def send(self, *frames):
        self.peer.send(b"".join(frames))

    def headers(self, stream_id, fields, *, is_end=True):
        """Render HEADERS; fields are pairs of str or bytes."""
        flags = END_HEADERS | (END_STREAM if is_end else 0)
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def data(self, stream_id, data=b"", *, is_end=False):
        return frame(DATA, END_STREAM if is_end else 0, stream_id, data)

    def take(self):
        self._received += self.peer.take()
        if self._received.startswith(PREFACE):
            del self._received[: len(PREFACE)]
        messages = []
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                break
            message = self._decode(bytes(self._received[: 9 + length]))
            del self._received[: 9 + length]
            if message is not None:
                messages.append(message)
        return messages

    def take_streams(self):
        """Return what has come of streams: headers, data and resets."""
        return [message for message in self.take() if message[0] in ("headers", "data", "reset")]

    def _decode(self, raw):
        one: Any
        one, length = Frame.parse_frame_header(memoryview(raw[:9]))
        one.parse_body(memoryview(raw[9 : 9 + length]))
        kind, flags, stream_id, payload = raw[3], raw[4], one.stream_id, raw[9:]
        if kind in (HEADERS, CONTINUATION):
            self._block += one.data
            self._is_end = bool(flags & END_STREAM) if kind == HEADERS else self._is_end
            if not flags & END_HEADERS:
                return None
            fields = list(self.decoder.decode(bytes(self._block), raw=True))
            self._block.clear()
            return ("headers", stream_id, fields, self._is_end)
        if kind == DATA:
            return ("data", stream_id, payload, bool(flags & END_STREAM))
        if kind == RST_STREAM:
            return ("reset", stream_id, one.error_code)
        if kind == GOAWAY:
            return ("goaway", one.last_stream_id, one.error_code)
        if kind == WINDOW_UPDATE:
            return ("window", stream_id, one.window_increment)
        if kind == SETTINGS:
            return ("settings ack",) if flags & ACK else ("settings", dict(one.settings))
        return ("ping", payload, bool(flags & ACK))


def open_http2(world, address="10.0.0.9", **values):
    """Connect a client, exchange the settings, and give it."""
    client = FramePeer(world.open_client(address))
    client.send(PREFACE, settings(**values), SETTINGS_ACK)
    return client


async def accept_http2(world, **values):
    """Let the oldest connect of an h2c server succeed, exchange the settings, and give the server's side."""
    server = FramePeer(await world.accept())
    server.send(settings(**values), SETTINGS_ACK)
    return server


# --- what a peer sees of an error

ELSEWHERE = ((":method", "GET"), (":scheme", "http"), (":authority", "other"), (":path", "/"))
"""A request that the mesh answers itself, with 404."""


def render_block(stream_id, block, *, flags=END_HEADERS | END_STREAM):
    """Render HEADERS with a compressed block, however wrong it is."""
    return frame(HEADERS, flags, stream_id, block)


def has_ended(peer):
    """Whether the mesh has closed the connection, or at least its own side."""
    return peer.peer.is_closed or peer.peer.transport.has_ended


def read_headers(messages):
    """Check that the only message is a header list; give its fields and whether it ends the stream."""
    (kind, _, fields, is_end), *rest = messages
    assert (kind, rest) == ("headers", [])
    return dict(fields), is_end


def list_errors(peer):
    """Take what has come, and list the resets and GOAWAYs, without the last stream."""
    return [(message[0], *message[-1:]) for message in peer.take() if message[0] in ("reset", "goaway")]


def expect_goaway(peer, code):
    """Check that the mesh has ended the connection with this error, and no stream with another one."""
    errors = list_errors(peer)
    assert errors == [("goaway", code)]
    assert has_ended(peer)


def expect_reset(peer, stream_id, code):
    """Check that the mesh has reset only this stream; give what else has come of streams."""
    messages = peer.take()
    assert [message for message in messages if message[0] in ("reset", "goaway")] == [("reset", stream_id, code)]
    assert not has_ended(peer)
    return [message for message in messages if message[0] in ("headers", "data")]


def expect_answer(client, stream_id):
    """Check that a client's connection works: another request is answered."""
    client.take()
    client.send(client.headers(stream_id, ELSEWHERE))
    head, data = client.take_streams()
    assert (head[1], dict(head[2])[b":status"], data[3]) == (stream_id, b"404", True)


PINGS = frame(PING, 0, 0, b"12345678")


def count_opened(world):
    """List the open connections and streams of each server."""
    return [server.opened for server in world.handler._servers.values()]


def status_of(client):
    """Return the status of the only response that has come."""
    (head, *_) = client.take_streams()
    return dict(head[2])[b":status"]
