"""The frames of a tunnel, scripted: every rule of HTTP/2 that ends a stream or the connection, split at every byte."""

import asyncio

import pytest

from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.http.http2 import frames as h2
from maesh_core.proxy.tunnel.limits import (
    ACK_LIMIT_S,
    CONNECTION_CREDIT_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER_LIST_BYTES,
    PONG_LIMIT_S,
    RESET_LIMIT,
    REST_LIMIT_S,
    SILENCE_LIMIT_S,
    STREAM_LIMIT,
    STREAM_WINDOW_BYTES,
)
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

from .conftest import Recorder
from .scripted import SETTINGS, WIDE, Opening, Scripted, frame

DELIVERY = Delivery(address="10.1.0.1", port=80, service="ns/web:80")
ANSWER = ((b":status", b"200"),)


@pytest.fixture
async def node():
    node = FakeNode()
    yield node
    node.close()


@pytest.fixture
async def sender(node):
    return Scripted(node, "outgoing").start()


@pytest.fixture
async def receiver(node):
    return Scripted(node, "incoming").start()


def open_stream(sender):
    """Open a stream of the sender, which the peer answers; return its protocol."""
    protocol = Recorder()
    protocol.keeps_open = True
    opening = Opening(protocol)
    stream = sender.connection.open(DELIVERY, opening)
    sender.take()
    sender.feed(sender.headers(stream.stream_id, *ANSWER))
    assert opening.stream is stream
    return protocol


async def test_both_ends_announce_their_limits_first(node):
    for role in ("outgoing", "incoming"):
        scripted = Scripted(node, role)
        settings, window = scripted.take()
        assert settings[0] == h2.SETTINGS
        values = {
            int.from_bytes(settings[3][at : at + 2], "big"): int.from_bytes(settings[3][at + 2 : at + 6], "big")
            for at in range(0, len(settings[3]), 6)
        }
        assert values == {1: 0, 2: 0, 3: 4096, 4: 262144, 5: 65536, 6: 8192}
        assert window[0] == h2.WINDOW_UPDATE
        assert int.from_bytes(window[3], "big") == (1 << 30) - 65535


async def test_a_sender_is_ready_only_after_the_settings_of_the_receiver(node):
    scripted = Scripted(node, "outgoing")
    assert not scripted.connection.has_room
    scripted.feed(SETTINGS)
    assert scripted.connection.has_room
    assert scripted.owner.events == ["ready"]


@pytest.mark.parametrize("is_small", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 10, 100])
async def test_frames_split_anywhere_are_the_same_frames(node, step, is_small):
    scripted = Scripted(node, "outgoing").start(step=step, is_small=is_small)
    protocol = open_stream(scripted)
    data = b"".join(frame(h2.DATA, 0, 1, bytes([number]) * number) for number in range(1, 40))
    scripted.feed(data + frame(h2.DATA, h2.END_STREAM, 1, b"end"), step=step, is_small=is_small)
    assert protocol.data == b"".join(bytes([number]) * number for number in range(1, 40)) + b"end"
    assert protocol.has_ended


async def test_a_script_split_at_every_byte_has_the_same_effect(node):
    script = (
        frame(h2.DATA, 0, 1, b"abc") + frame(h2.PING, 0, 0, b"12345678") + frame(h2.DATA, h2.PADDED, 1, b"\2de\0\0")
    )
    for at in range(1, len(script)):
        scripted = Scripted(node, "outgoing").start()
        protocol = open_stream(scripted)
        scripted.take()
        scripted.feed(script[:at], is_small=at % 2 == 0)
        scripted.feed(script[at:], is_small=at % 3 == 0)
        assert protocol.data == b"abcde"
        assert scripted.take() == [(h2.PING, h2.ACK, 0, b"12345678")]


@pytest.mark.parametrize("is_small", [False, True])
async def test_a_receiver_checks_the_preface_however_it_is_split(node, is_small):
    scripted = Scripted(node, "incoming").start(step=1, is_small=is_small)
    scripted.feed(frame(h2.PING, 0, 0, b"12345678"), is_small=is_small)
    assert scripted.take() == [(h2.PING, h2.ACK, 0, b"12345678")]
    other = Scripted(node, "incoming")
    other.feed(h2.PREFACE[:-1] + b"x", is_small=is_small)
    assert other.connection.has_failed


@pytest.mark.parametrize("size", [1, 255, 256, 16383, 16384, 65535, 65536])
async def test_the_header_of_a_data_frame_has_the_size_and_the_stream(sender, size):
    protocol = open_stream(sender)
    sender.feed(h2.render_settings((h2.MAX_FRAME_SIZE, 65536)))
    sender.take()
    protocol.transport.write(bytes(size))
    assert sender.take() == [(h2.DATA, 0, 1, bytes(size))]


async def test_several_turns_process_many_frames_in_order(sender):
    protocol = open_stream(sender)
    sender.feed(b"".join(frame(h2.DATA, 0, 1, b"%04d" % number) for number in range(5000)))
    assert protocol.data == b"".join(b"%04d" % number for number in range(5000))


# --- errors of the connection


def padded(payload):
    return frame(h2.DATA, h2.PADDED, 1, payload)


SENDER_ERRORS = {
    "a frame above the limit": ((FRAME_LIMIT_BYTES + 1).to_bytes(3, "big") + b"\0\0\0\0\0\1", h2.FRAME_SIZE_ERROR),
    "data of an idle stream": (frame(h2.DATA, 0, 3, b"x"), h2.PROTOCOL_ERROR),
    "data of stream 0": (frame(h2.DATA, 0, 0, b"x"), h2.PROTOCOL_ERROR),
    "data of an even stream": (frame(h2.DATA, 0, 2, b"x"), h2.PROTOCOL_ERROR),
    "headers of stream 0": (frame(h2.HEADERS, h2.END_HEADERS, 0), h2.PROTOCOL_ERROR),
    "padding longer than the frame": (padded(b"\5abc"), h2.PROTOCOL_ERROR),
    "padding without its length": (padded(b""), h2.FRAME_SIZE_ERROR),
    "a push": (frame(h2.PUSH_PROMISE, 0, 1, b"\0\0\0\2"), h2.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(h2.CONTINUATION, 0, 1), h2.PROTOCOL_ERROR),
    "headers that are interrupted": (frame(h2.HEADERS, 0, 1) + frame(h2.DATA, 0, 1, b"x"), h2.PROTOCOL_ERROR),
    "headers with a bad block": (frame(h2.HEADERS, h2.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), h2.COMPRESSION_ERROR),
    "a block too large": (frame(h2.HEADERS, h2.END_HEADERS, 1, bytes(HEADER_LIST_BYTES + 1)), h2.ENHANCE_YOUR_CALM),
    "headers without their priority": (frame(h2.HEADERS, h2.HAS_PRIORITY, 1, b"\0"), h2.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(h2.SETTINGS, 0, 1), h2.PROTOCOL_ERROR),
    "settings of another size": (frame(h2.SETTINGS, 0, 0, b"12345"), h2.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (frame(h2.SETTINGS, h2.ACK, 0, b"123456"), h2.FRAME_SIZE_ERROR),
    "a frame limit too small": (h2.render_settings((h2.MAX_FRAME_SIZE, 16383)), h2.PROTOCOL_ERROR),
    "a window too large": (h2.render_settings((h2.INITIAL_WINDOW_SIZE, 1 << 31)), h2.FLOW_CONTROL_ERROR),
    "push enabled twice": (h2.render_settings((h2.ENABLE_PUSH, 2)), h2.PROTOCOL_ERROR),
    "a ping of a stream": (frame(h2.PING, 0, 1, bytes(8)), h2.PROTOCOL_ERROR),
    "a ping of another size": (frame(h2.PING, 0, 0, bytes(7)), h2.FRAME_SIZE_ERROR),
    "goaway of a stream": (frame(h2.GOAWAY, 0, 1, bytes(8)), h2.PROTOCOL_ERROR),
    "goaway of another size": (frame(h2.GOAWAY, 0, 0, bytes(7)), h2.FRAME_SIZE_ERROR),
    "a reset of an idle stream": (h2.render_rst_stream(3, h2.CANCEL), h2.PROTOCOL_ERROR),
    "a reset of another size": (frame(h2.RST_STREAM, 0, 1, b"123"), h2.FRAME_SIZE_ERROR),
    "a window of another size": (frame(h2.WINDOW_UPDATE, 0, 1, b"123"), h2.FRAME_SIZE_ERROR),
    "a window of an idle stream": (h2.render_window_update(3, 1), h2.PROTOCOL_ERROR),
    "the connection's window by nothing": (h2.render_window_update(0, 0), h2.PROTOCOL_ERROR),
    "the connection's window too large": (h2.render_window_update(0, (1 << 31) - 1), h2.FLOW_CONTROL_ERROR),
    "a priority of stream 0": (frame(h2.PRIORITY, 0, 0, bytes(5)), h2.PROTOCOL_ERROR),
    "a priority of another size": (frame(h2.PRIORITY, 0, 1, bytes(4)), h2.FRAME_SIZE_ERROR),
    "a stream that depends on itself": (frame(h2.PRIORITY, 0, 1, b"\0\0\0\1\0"), h2.PROTOCOL_ERROR),
    "a stream that the receiver opens": (frame(h2.HEADERS, h2.END_HEADERS, 2, b"\x20"), h2.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", SENDER_ERRORS)
async def test_an_error_of_the_connection_ends_it(sender, name):
    protocol = open_stream(sender)
    script, code = SENDER_ERRORS[name]
    sender.feed(script)
    assert sender.read_error() == code
    assert sender.channel.is_closed
    assert sender.connection.is_ended
    assert protocol.transport.is_closing()


@pytest.mark.parametrize("first", [frame(h2.PING, 0, 0, bytes(8)), h2.SETTINGS_ACK, frame(h2.DATA, 0, 1, b"x")])
async def test_the_first_frame_must_be_settings(node, first):
    scripted = Scripted(node, "outgoing")
    scripted.feed(first)
    assert scripted.read_error() == h2.PROTOCOL_ERROR


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\n", h2.PREFACE[:-1] + b"x", b"\0" * 24])
async def test_a_receiver_requires_the_preface(node, start):
    scripted = Scripted(node, "incoming")
    scripted.feed(start)
    assert scripted.read_error() == h2.PROTOCOL_ERROR


async def test_a_preface_that_arrives_byte_by_byte_is_accepted(node):
    scripted = Scripted(node, "incoming").start(step=1)
    assert scripted.connection.has_settings


async def test_unknown_frames_are_ignored(sender):
    protocol = open_stream(sender)
    sender.feed(frame(0x77, 0xFF, 1, b"what") + frame(h2.DATA, 0, 1, b"data"))
    assert protocol.data == b"data"


async def test_data_after_the_end_of_a_stream_ends_the_connection(sender):
    open_stream(sender)
    sender.feed(frame(h2.DATA, h2.END_STREAM, 1, b"") + frame(h2.DATA, 0, 1, b"more"))
    assert sender.read_error() == h2.STREAM_CLOSED


# --- errors of a stream


async def test_more_data_than_the_window_resets_only_that_stream(sender):
    first, second = open_stream(sender), open_stream(sender)
    first.transport.pause_reading()
    sender.take()
    for _ in range(STREAM_WINDOW_BYTES // FRAME_LIMIT_BYTES):
        sender.feed(frame(h2.DATA, 0, 1, bytes(FRAME_LIMIT_BYTES)))
    sender.feed(frame(h2.DATA, 0, 1, b"x") + frame(h2.DATA, 0, 3, b"fine"))
    assert sender.read_resets() == {1: h2.FLOW_CONTROL_ERROR}
    assert second.data == b"fine"
    assert not sender.connection.is_ended


@pytest.mark.parametrize("size", [0, (1 << 31) - 1])
async def test_a_window_that_is_invalid_resets_the_stream(sender, size):
    open_stream(sender)
    sender.feed(h2.render_window_update(1, size))
    assert sender.read_resets() == {1: h2.FLOW_CONTROL_ERROR if size else h2.PROTOCOL_ERROR}


async def test_trailers_reset_the_stream(sender):
    open_stream(sender)
    sender.feed(sender.headers(1, (b"grpc-status", b"0"), is_end=True))
    assert sender.read_resets() == {1: h2.PROTOCOL_ERROR}


@pytest.mark.parametrize("script", [frame(h2.DATA, 0, 1, b"early"), frame(h2.DATA, h2.END_STREAM, 1)])
async def test_data_before_the_answer_resets_the_stream(sender, script):
    opening = Opening()
    sender.connection.open(DELIVERY, opening)
    sender.take()
    sender.feed(script)
    assert sender.read_resets() == {1: h2.PROTOCOL_ERROR}
    assert opening.failure is not None


async def test_data_of_a_stream_that_was_reset_is_ignored_within_its_window(sender):
    protocol = open_stream(sender)
    protocol.transport.abort()
    sender.take()
    for _ in range(STREAM_WINDOW_BYTES // FRAME_LIMIT_BYTES):
        sender.feed(frame(h2.DATA, 0, 1, bytes(FRAME_LIMIT_BYTES)))
    assert not sender.connection.is_ended
    assert not protocol.data
    sender.feed(frame(h2.DATA, 0, 1, b"x"))
    assert sender.read_error() == h2.STREAM_CLOSED


# --- windows


async def test_a_stream_is_credited_after_half_of_its_window(sender):
    open_stream(sender)
    sender.take()
    sender.feed(frame(h2.DATA, 0, 1, bytes(65536)))
    assert sender.take() == []
    sender.feed(frame(h2.DATA, 0, 1, bytes(65536)))
    assert sender.take() == [(h2.WINDOW_UPDATE, 0, 1, (131072).to_bytes(4, "big"))]


async def test_a_stream_that_is_not_read_is_not_credited(sender):
    protocol = open_stream(sender)
    protocol.transport.pause_reading()
    sender.take()
    for _ in range(4):
        sender.feed(frame(h2.DATA, 0, 1, bytes(65536)))
    assert sender.take() == []
    assert not protocol.data


async def test_padding_is_credited(sender):
    open_stream(sender)
    sender.take()
    for _ in range(600):
        sender.feed(frame(h2.DATA, h2.PADDED, 1, b"\xff" + bytes(255) + b"x"))
    updates = [each for each in sender.take() if each[0] == h2.WINDOW_UPDATE and each[2] == 1]
    assert len(updates) == 1


async def test_the_connection_is_credited(sender):
    open_stream(sender)
    sender.take()
    for _ in range(CONNECTION_CREDIT_BYTES // FRAME_LIMIT_BYTES):
        sender.feed(frame(h2.DATA, 0, 1, bytes(FRAME_LIMIT_BYTES)))
    updates = [each for each in sender.take() if each[0] == h2.WINDOW_UPDATE and each[2] == 0]
    assert updates == [(h2.WINDOW_UPDATE, 0, 0, CONNECTION_CREDIT_BYTES.to_bytes(4, "big"))]


async def test_nothing_is_sent_beyond_the_windows(node):
    scripted = Scripted(node, "outgoing")
    scripted.feed(h2.render_settings((h2.INITIAL_WINDOW_SIZE, 1000)) + h2.SETTINGS_ACK)
    protocol = open_stream(scripted)
    protocol.transport.write(bytes(2500))
    assert sum(len(each[3]) for each in scripted.take()) == 1000
    scripted.feed(h2.render_window_update(1, 1200))
    assert sum(len(each[3]) for each in scripted.take()) == 1200
    scripted.feed(h2.render_settings((h2.INITIAL_WINDOW_SIZE, 1300)))
    scripted.connection.pump_blocked()
    assert sum(len(each[3]) for each in scripted.take() if each[0] == h2.DATA) == 300


async def test_a_window_that_shrinks_below_zero_must_be_widened_first(node):
    scripted = Scripted(node, "outgoing")
    scripted.feed(h2.render_settings((h2.INITIAL_WINDOW_SIZE, 1000)) + h2.SETTINGS_ACK)
    protocol = open_stream(scripted)
    protocol.transport.write(bytes(1000))
    scripted.take()
    scripted.feed(h2.render_settings((h2.INITIAL_WINDOW_SIZE, 0)))
    scripted.take()
    protocol.transport.write(b"x")
    scripted.feed(h2.render_window_update(1, 1000))
    assert scripted.take() == []
    scripted.feed(h2.render_window_update(1, 1))
    assert [each[3] for each in scripted.take()] == [b"x"]


async def test_the_connections_window_limits_all_streams(node):
    scripted = Scripted(node, "outgoing")
    scripted.feed(SETTINGS + h2.SETTINGS_ACK)
    first, second = open_stream(scripted), open_stream(scripted)
    first.transport.write(bytes(65000))
    second.transport.write(bytes(65000))
    assert sum(len(each[3]) for each in scripted.take()) == 65535
    scripted.feed(WIDE)
    scripted.connection.pump_blocked()
    assert sum(len(each[3]) for each in scripted.take()) == 130000 - 65535


# --- budgets and time


@pytest.mark.parametrize(
    "script",
    [
        frame(h2.PING, 0, 0, bytes(8)),
        SETTINGS,
        frame(h2.PRIORITY, 0, 1, bytes(5)),
        frame(h2.DATA, 0, 1, b""),
        h2.render_window_update(1, 1),
        frame(0x77, 0, 0, b""),
    ],
)
async def test_a_flood_of_frames_of_no_use_ends_the_connection(sender, script):
    open_stream(sender)
    for _ in range(1200):
        sender.feed(script)
        sender.connection.flush()
    assert sender.read_error() == h2.ENHANCE_YOUR_CALM


async def test_a_flood_of_opens_and_resets_ends_the_connection(receiver):
    fields = ((b":method", b"CONNECT"), (b":authority", b"10.1.0.1:80"), (b"maesh-protocol", b"tcp"))
    for number in range(1, 2 * RESET_LIMIT, 2):
        receiver.feed(receiver.headers(number, *fields) + h2.render_rst_stream(number, h2.CANCEL))
    assert not receiver.connection.is_ended
    number += 2
    receiver.feed(receiver.headers(number, *fields) + h2.render_rst_stream(number, h2.CANCEL))
    assert receiver.read_error() == h2.ENHANCE_YOUR_CALM
    assert not receiver.receiver.streams


async def test_settings_must_be_acknowledged_in_time(node):
    scripted = Scripted(node, "outgoing")
    scripted.feed(SETTINGS)
    scripted.connection.check(node.clock.now + ACK_LIMIT_S)
    assert not scripted.connection.is_ended
    scripted.connection.check(node.clock.now + ACK_LIMIT_S + 1)
    assert scripted.read_error() == h2.SETTINGS_TIMEOUT


async def test_a_frame_must_be_finished_in_time(sender, node):
    sender.feed(frame(h2.PING, 0, 0, bytes(8))[:12])
    sender.connection.check(node.clock.now + REST_LIMIT_S)
    assert not sender.connection.is_ended
    sender.connection.check(node.clock.now + REST_LIMIT_S + 1)
    assert sender.read_error() == h2.ENHANCE_YOUR_CALM


async def test_a_silent_peer_is_pinged_then_given_up(sender, node):
    protocol = open_stream(sender)
    sender.take()
    sender.connection.check(node.clock.now + SILENCE_LIMIT_S)
    assert [each[0] for each in sender.take()] == [h2.PING]
    sender.connection.check(node.clock.now + SILENCE_LIMIT_S + PONG_LIMIT_S)
    assert sender.channel.is_aborted
    assert protocol.transport.is_closing()


async def test_a_silent_peer_without_streams_is_not_pinged(sender, node):
    sender.connection.check(node.clock.now + SILENCE_LIMIT_S + PONG_LIMIT_S)
    assert sender.take() == []
    assert not sender.connection.is_ended


# --- output


async def test_while_the_socket_is_full_data_waits_in_the_streams(sender):
    protocol = open_stream(sender)
    sender.take()
    sender.channel.room = 1000
    protocol.transport.write(bytes(200_000))
    sender.connection.flush()
    protocol.transport.write(bytes(200_000))
    assert protocol.paused == 1
    assert sender.channel.unsent_bytes < 262144
    sender.channel.room = None
    sender.connection.on_writable()
    sent = sum(len(each[3]) for each in sender.take() if each[0] == h2.DATA)
    assert sent == STREAM_WINDOW_BYTES


async def test_waiting_streams_send_in_turns(sender):
    protocols = [open_stream(sender) for _ in range(3)]
    sender.take()
    sender.channel.room = 0
    protocols[0].transport.write(b"first")
    sender.connection.flush()
    for protocol in protocols:
        protocol.transport.write(bytes(131_072))
    sender.channel.room = None
    sender.connection.on_writable()
    order = [each[2] for each in sender.take() if each[0] == h2.DATA]
    assert order[1:7] == [1, 3, 5, 1, 3, 5]


async def test_much_unsent_output_stops_reading(sender):
    sender.channel.room = 0
    for _ in range(3000):
        sender.connection.put(bytes(100))
    sender.connection.flush()
    assert sender.connection.has_full_output()


# --- the end of the connection


async def test_goaway_fails_the_streams_that_were_not_processed(sender):
    kept = open_stream(sender)
    opening = Opening()
    sender.connection.open(DELIVERY, opening)
    sender.feed(h2.render_goaway(1, h2.NO_ERROR))
    assert opening.unprocessed
    assert not kept.transport.is_closing()
    assert not sender.connection.has_room
    assert sender.owner.events[-1] == "retired"


async def test_a_refused_stream_is_reported_as_not_processed(sender):
    opening = Opening()
    sender.connection.open(DELIVERY, opening)
    sender.feed(h2.render_rst_stream(1, h2.REFUSED_STREAM))
    assert opening.unprocessed
    assert opening.failure is None


async def test_the_end_of_the_connection_resets_every_stream(sender):
    protocols = [open_stream(sender) for _ in range(3)]
    sender.connection.end("truncated")
    await asyncio.sleep(0)
    for protocol in protocols:
        (error,) = protocol.lost
        assert isinstance(error, ConnectionError)
        assert not protocol.has_ended


async def test_a_sender_opens_at_most_the_streams_that_the_receiver_allows(node):
    scripted = Scripted(node, "outgoing")
    scripted.feed(h2.render_settings((h2.MAX_CONCURRENT_STREAMS, 2)))
    for _ in range(2):
        scripted.connection.open(DELIVERY, Opening())
    assert not scripted.connection.has_room


async def test_more_streams_than_the_limit_are_refused(receiver):
    receiver.environment.node.settings = ProxySettings(connection_limit=0)
    fields = ((b":method", b"CONNECT"), (b":authority", b"10.1.0.1:80"), (b"maesh-protocol", b"tcp"))
    for number in range(1, 2 * STREAM_LIMIT + 3, 2):
        receiver.feed(receiver.headers(number, *fields))
    assert receiver.read_resets() == {2 * STREAM_LIMIT + 1: h2.REFUSED_STREAM}
    assert len(receiver.connection.streams) == STREAM_LIMIT
    receiver.connection.end("")
