"""Connections of tunnels without sockets: bytes in, bytes out."""

import asyncio
import math
from typing import Any

from maesh_core.proxy.http.http2.frames import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS_ACK,
    render_frame_header,
    render_settings,
)
from maesh_core.proxy.http.http2.hpack.decoder import Decoder
from maesh_core.proxy.http.http2.hpack.encoder import Encoder
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.incoming import IncomingConnection
from maesh_core.proxy.tunnel.outgoing import OutgoingConnection
from maesh_core.proxy.tunnel.receiver import Receiver

from .conftest import Rules

SETTINGS = render_settings((1, 0), (2, 0), (3, 4096), (4, 262144), (5, 65536), (6, 8192))
WIDE = b"\0\0\4\x08\0\0\0\0\0" + (1 << 30).to_bytes(4, "big")


class ScriptedChannel:
    """A channel that keeps what is sent; `room` is what the socket accepts, in bytes."""

    def __init__(self):
        self.pending = bytearray()
        self.sent = bytearray()
        self.room = None
        self.is_closed = self.is_aborted = False

    @property
    def unsent_bytes(self):
        return len(self.pending)

    def write(self, data):
        self.pending += data

    def flush(self):
        size = len(self.pending) if self.room is None else min(self.room, len(self.pending))
        self.sent += self.pending[:size]
        del self.pending[:size]
        if self.room is not None:
            self.room -= size

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_aborted = True

    def read_more(self):
        pass


class Owner:
    """What an outgoing connection reports to."""

    def __init__(self):
        self.events = []

    def on_ready(self, connection):
        self.events.append("ready")

    def on_room(self, connection):
        pass

    def on_retired(self, connection):
        self.events.append("retired")

    def on_connection_ended(self, connection):
        self.events.append("ended")


class Opening:
    """An open, and its result."""

    def __init__(self, protocol=None):
        self.protocol = protocol
        self.stream = None
        self.failure = None
        self.unprocessed = ""

    def on_opened(self, stream):
        self.stream = stream
        if self.protocol is not None:
            stream.start(self.protocol)

    def on_refused(self, failure):
        self.failure = failure

    def on_unprocessed(self, reason):
        self.unprocessed = reason


def frame(kind, flags, stream_id, payload=b""):
    return render_frame_header(len(payload), kind, flags, stream_id) + payload


def split_frames(data):
    """Return the frames of sent bytes as (kind, flags, stream, payload)."""
    frames = []
    data = bytes(data)
    if data.startswith(PREFACE):
        data = data[len(PREFACE) :]
    while data:
        size = int.from_bytes(data[:3], "big")
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return frames


class Scripted:
    """A connection, its channel, and the encoder of the peer."""

    def __init__(self, node, role, rules=None):
        self.environment = TunnelEnvironment(node, asyncio.get_running_loop())
        self.channel = ScriptedChannel()
        self.owner = Owner()
        self.rules = rules or Rules()
        self.receiver = Receiver(self.environment, self.rules)
        self.connection: Any
        if role == "outgoing":
            self.connection = OutgoingConnection(self.environment, self.owner)
        else:
            self.connection = IncomingConnection(self.receiver, "a", math.inf)
        self.encoder = Encoder()
        self.encoder.set_max_table_size(0)
        self.decoder = Decoder(max_list_bytes=65536)
        self.decoder.set_max_table_size(0)
        self.connection.begin(self.channel)

    def feed(self, data, *, step=None, is_small=False):
        """Let the connection process bytes, in pieces of `step` bytes; `is_small` passes them as a small read does."""
        step = step or 200_000
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            if self.connection.is_ended:
                return
            if is_small:
                self.connection.process_bytes(piece)
            else:
                start = self.connection.begin_read()
                self.environment.plain[start : start + len(piece)] = piece
                self.connection.process(start + len(piece))
            while self.connection.has_kept_frames() and not self.connection.is_ended:
                self.connection.process(self.connection.begin_read())

    def start(self, *, step=None, is_small=False):
        """Let the peer begin, and forget what was sent so far."""
        opening = b"" if isinstance(self.connection, OutgoingConnection) else PREFACE
        self.feed(opening + SETTINGS + SETTINGS_ACK + WIDE, step=step, is_small=is_small)
        self.take()
        return self

    def take(self):
        """Return the frames that were sent since the last call."""
        self.connection.flush()
        frames = split_frames(self.channel.sent)
        self.channel.sent.clear()
        return frames

    def headers(self, stream_id, *fields, is_end=False):
        """Render HEADERS of the peer."""
        flags = END_HEADERS | (END_STREAM if is_end else 0)
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def decode(self, payload):
        return dict(self.decoder.decode(payload))

    def read_error(self):
        """Return the code with which the connection has ended."""
        (goaway,) = [payload for kind, _, _, payload in self.take_sent() if kind == GOAWAY]
        return int.from_bytes(goaway[4:8], "big")

    def take_sent(self):
        frames = split_frames(self.channel.sent + self.channel.pending)
        self.channel.sent.clear()
        return frames

    def read_resets(self):
        """Return the streams that were reset, with their codes."""
        return {
            stream_id: int.from_bytes(payload, "big")
            for kind, _, stream_id, payload in self.take()
            if kind == RST_STREAM
        }
