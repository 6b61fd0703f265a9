"""RFC 9113 sections 3.4, 4 and 6, and RFC 7541: the preface, frames and header blocks of clients.

Each table has what a client sends behind a correct start, and the error with which the mesh ends the connection.
"""

import re
import struct

import pytest

from maesh_core.settings import CarryingSettings

from .framing import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ELSEWHERE,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FramePeer,
    expect_answer,
    expect_goaway,
    frame,
    goaway,
    has_ended,
    open_http2,
    render_block,
    rst_stream,
    settings,
    window_update,
)

LARGE = b"\0" * 16385


def errors(*rows):
    """Parametrize a test with rows (description, code, function that renders frames)."""
    return pytest.mark.parametrize(
        ("code", "render"), [row[1:] for row in rows], ids=[row[0].replace(" ", "-") for row in rows]
    )


def ignored(*rows):
    """Parametrize a test with rows (description, function that renders frames)."""
    return pytest.mark.parametrize("render", [row[1] for row in rows], ids=[row[0].replace(" ", "-") for row in rows])


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def check_error(world, code, render):
    """Send frames behind a correct start; the connection ends with the error."""
    client = open_http2(world)
    client.take()
    client.send(*render(client))
    expect_goaway(client, code)


def check_ignored(world, render):
    """Send frames behind a correct start; the connection goes on."""
    client = open_http2(world)
    client.take()
    client.send(*render(client))
    assert [message[0] for message in client.take() if message[0] in ("reset", "goaway")] == []
    expect_answer(client, 11)


# --- section 3.4: the preface


@pytest.mark.parametrize("cut", range(1, len(PREFACE) + 15))
async def test_the_preface_and_settings_may_come_in_pieces(world, cut):
    client = FramePeer(world.open_client())
    start = PREFACE + settings(INITIAL_WINDOW_SIZE=10)
    client.send(start[:cut])
    client.send(start[cut:])
    first, *_, last = client.take()
    assert (first[0], last) == ("settings", ("settings ack",))
    client.send(settings(INITIAL_WINDOW_SIZE=65535))
    expect_answer(client, 1)


@pytest.mark.parametrize("size", range(24))
async def test_a_connection_that_does_not_start_with_the_preface_is_not_http2(world, size):
    client = FramePeer(world.open_client())
    client.send(PREFACE[:size] + b"\0" + PREFACE[size + 1 :])
    await world.settle()
    received = client.peer.take()
    assert not received or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ", b"\0\0\x12\4\0\0\0\0\0"))
    assert has_ended(client)


@pytest.mark.parametrize(
    "first",
    [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, ACK),
        window_update(0, 1),
        frame(99),
        FramePeer(None).headers(1, GET),
    ],
    ids=["PING", "SETTINGS-ACK", "WINDOW_UPDATE", "unknown", "HEADERS"],
)
async def test_the_first_frame_is_settings(world, first):
    client = FramePeer(world.open_client())
    client.send(PREFACE, first)
    expect_goaway(client, PROTOCOL_ERROR)


async def test_a_second_preface_is_not_expected(world):
    check_error(world, FRAME_SIZE_ERROR, lambda client: (PREFACE,))


# --- section 4: frames and header blocks


@ignored(
    ("unknown type", lambda _: (frame(0x16, 0, 0, b"what is this"), frame(0x16, 0xFF, 1, b""))),
    ("unknown flags", lambda _: (frame(PING, 0x16, 0, b"12345678"),)),
    ("reserved bit", lambda _: (frame(PING, 0, 1 << 31, b"12345678"),)),
    ("reserved bit of a window", lambda _: (window_update(0, 1 << 31 | 5),)),
    ("flags of another type", lambda c: (frame(HEADERS, 0x12 | 5, 1, c.encoder.encode(ELSEWHERE)),)),
)
async def test_section_4_1_what_is_unknown_is_ignored(world, render):
    check_ignored(world, render)


@errors(
    ("DATA", FRAME_SIZE_ERROR, lambda c: (c.headers(1, POST, is_end=False), c.data(1, LARGE))),
    ("HEADERS", FRAME_SIZE_ERROR, lambda _: (render_block(1, LARGE),)),
    ("SETTINGS", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, 0, 0, bytes(6) * 2731),)),
    ("unknown type", FRAME_SIZE_ERROR, lambda _: (frame(0x16, 0, 0, LARGE),)),
    ("only its header", FRAME_SIZE_ERROR, lambda _: (frame(DATA, 0, 1, LARGE)[:9],)),
)
async def test_section_4_2_no_frame_is_larger_than_the_limit(world, code, render):
    check_error(world, code, render)


async def test_section_4_2_a_frame_of_the_limit_is_accepted(world):
    check_ignored(world, lambda _: (frame(0x16, 0, 0, LARGE[:16384]),))


@errors(
    ("PRIORITY between", PROTOCOL_ERROR, lambda c: (begin_block(c), frame(PRIORITY, 0, 1, b"\0\0\0\0\1"))),
    ("DATA between", PROTOCOL_ERROR, lambda c: (begin_block(c), c.data(1, b"a"))),
    ("PING between", PROTOCOL_ERROR, lambda c: (begin_block(c), frame(PING, 0, 0, b"12345678"))),
    ("SETTINGS between", PROTOCOL_ERROR, lambda c: (begin_block(c), settings())),
    ("unknown type between", PROTOCOL_ERROR, lambda c: (begin_block(c), frame(0x16))),
    ("HEADERS of another stream", PROTOCOL_ERROR, lambda c: (begin_block(c), c.headers(3, GET))),
    ("HEADERS of the same stream", PROTOCOL_ERROR, lambda c: (begin_block(c), c.headers(1, GET))),
    ("CONTINUATION of another stream", PROTOCOL_ERROR, lambda c: (begin_block(c), frame(CONTINUATION, 4, 3))),
)
async def test_section_4_3_nothing_comes_between_the_frames_of_a_header_block(world, code, render):
    check_error(world, code, render)


def begin_block(client):
    return frame(HEADERS, END_STREAM, 1, client.encoder.encode(GET))


# --- RFC 7541


@errors(
    ("index 0", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x80"),)),
    ("index that does not exist", COMPRESSION_ERROR, lambda _: (render_block(1, b"\xc6"),)),
    ("name that does not exist", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x7f\x20\1a"),)),
    ("end within an integer", COMPRESSION_ERROR, lambda _: (render_block(1, b"\xff\x80"),)),
    ("long integer", COMPRESSION_ERROR, lambda _: (render_block(1, b"\xff\xff\xff\xff\xff\xff\xff\1"),)),
    ("end within a string", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x00\x05ab"),)),
    ("Huffman padding of 8 bits", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x00\1a\x82\x1f\xff"),)),
    ("Huffman padding of zeros", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x00\1a\x81\x18"),)),
    ("Huffman EOS", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x00\1a\x84\xff\xff\xff\xff"),)),
    ("size above the setting", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x3f\xe2\x1f"),)),
    ("size behind a field", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x82\x20"),)),
    ("three sizes", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x20\x20\x20\x82"),)),
    ("in trailers", COMPRESSION_ERROR, lambda c: (c.headers(1, POST, is_end=False), render_block(1, b"\x80"))),
    ("of a closed stream", COMPRESSION_ERROR, lambda c: (c.headers(1, ELSEWHERE), render_block(1, b"\x80"))),
    (
        "in CONTINUATION",
        COMPRESSION_ERROR,
        lambda _: (frame(HEADERS, 1, 1, b"\x82"), frame(CONTINUATION, END_HEADERS, 1, b"\x80")),
    ),
)
async def test_rfc_7541_a_block_that_cannot_be_decoded_ends_the_connection(world, code, render):
    check_error(world, code, render)


@ignored(
    ("two sizes", lambda c: (render_block(1, b"\x20\x3f\xe1\x1f" + c.encoder.encode(ELSEWHERE)),)),
    ("empty trailers", lambda c: (c.headers(1, ELSEWHERE, is_end=False), render_block(1, b""))),
)
async def test_rfc_7541_other_blocks_are_decoded(world, render):
    client = open_http2(world)
    client.take()
    client.send(*render(client))
    await world.settle()
    assert not has_ended(client)


@pytest.mark.parametrize("size", [0, 64, 4096, 65536])
async def test_rfc_7541_section_4_2_the_size_of_the_table_may_change(world, size):
    client = open_http2(world, HEADER_TABLE_SIZE=size)
    client.decoder.max_allowed_table_size = size
    client.decoder.header_table_size = min(size, 4096)
    for stream in (1, 3, 5):
        client.send(settings(HEADER_TABLE_SIZE=size))
        expect_answer(client, stream)


# --- sections 6.1 and 6.2: DATA and HEADERS


@errors(
    ("stream 0", PROTOCOL_ERROR, lambda c: (c.data(0, b"a"),)),
    ("padding as long as the frame", PROTOCOL_ERROR, lambda c: (post(c), frame(DATA, PADDED, 1, b"\2ab"[:2]))),
    ("padding longer than the frame", PROTOCOL_ERROR, lambda c: (post(c), frame(DATA, PADDED, 1, b"\xffab"))),
    ("no length of the padding", FRAME_SIZE_ERROR, lambda c: (post(c), frame(DATA, PADDED, 1))),
)
async def test_section_6_1_malformed_data_ends_the_connection(world, code, render):
    check_error(world, code, render)


def post(client, stream_id=1):
    return client.headers(stream_id, POST, is_end=False)


@errors(
    ("stream 0", PROTOCOL_ERROR, lambda c: (c.headers(0, GET),)),
    ("padding longer than the frame", PROTOCOL_ERROR, lambda _: (render_block(1, b"\5\x82", flags=PADDED | 5),)),
    ("padding over the priority", FRAME_SIZE_ERROR, lambda _: (render_block(1, b"\3\0\0\0\0\0\0\0", flags=0x2D),)),
    ("no length of the padding", FRAME_SIZE_ERROR, lambda _: (render_block(1, b"", flags=PADDED | 5),)),
    ("no priority", FRAME_SIZE_ERROR, lambda _: (render_block(1, b"\0\0\0\0", flags=HAS_PRIORITY | 5),)),
    ("self-dependency", PROTOCOL_ERROR, lambda _: (render_block(1, b"\0\0\0\1\5\x82", flags=HAS_PRIORITY | 5),)),
)
async def test_section_6_2_malformed_headers_end_the_connection(world, code, render):
    check_error(world, code, render)


@pytest.mark.parametrize("padding", [-1, 0, 1, 255])
@pytest.mark.parametrize("priority", [b"", b"\x80\0\0\0\5"], ids=["plain", "with-priority"])
async def test_sections_6_1_and_6_2_padding_and_priority_are_left_out(world, padding, priority):
    client = open_http2(world)

    def pad(payload):
        return bytes([padding]) + payload + bytes(padding) if padding >= 0 else payload

    flags = (PADDED if padding >= 0 else 0) | (HAS_PRIORITY if priority else 0)
    client.send(frame(HEADERS, flags | END_HEADERS, 1, pad(priority + client.encoder.encode(POST))))
    client.send(frame(DATA, (flags & PADDED) | END_STREAM, 1, pad(b"abc")))
    server = await world.accept()
    assert server.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


# --- sections 6.3 to 6.10


@errors(
    ("PRIORITY on stream 0", PROTOCOL_ERROR, lambda _: (frame(PRIORITY, 0, 0, b"\0\0\0\0\1"),)),
    ("PRIORITY of 4 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PRIORITY, 0, 1, b"\0\0\0\1"),)),
    ("PRIORITY of 6 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PRIORITY, 0, 1, b"\0\0\0\0\1\1"),)),
    ("PRIORITY of itself", PROTOCOL_ERROR, lambda _: (frame(PRIORITY, 0, 1, b"\x80\0\0\1\1"),)),
)
async def test_section_6_3_priority(world, code, render):
    check_error(world, code, render)


@errors(
    ("stream 0", PROTOCOL_ERROR, lambda _: (rst_stream(0, 8),)),
    ("3 bytes", FRAME_SIZE_ERROR, lambda c: (post(c), frame(RST_STREAM, 0, 1, bytes(3)))),
    ("5 bytes", FRAME_SIZE_ERROR, lambda c: (post(c), frame(RST_STREAM, 0, 1, bytes(5)))),
    ("empty", FRAME_SIZE_ERROR, lambda c: (post(c), frame(RST_STREAM, 0, 1))),
)
async def test_section_6_4_rst_stream(world, code, render):
    check_error(world, code, render)


@errors(
    ("a stream", PROTOCOL_ERROR, lambda _: (frame(SETTINGS, 0, 1),)),
    ("an acknowledgement of a stream", PROTOCOL_ERROR, lambda _: (frame(SETTINGS, ACK, 1),)),
    ("an acknowledgement with content", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, ACK, 0, bytes(6)),)),
    ("5 bytes", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, 0, 0, bytes(5)),)),
    ("7 bytes", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, 0, 0, bytes(7)),)),
    ("ENABLE_PUSH of 2", PROTOCOL_ERROR, lambda _: (setting(2, 2),)),
    ("INITIAL_WINDOW_SIZE of 2 to the 31", FLOW_CONTROL_ERROR, lambda _: (setting(4, 1 << 31),)),
    ("MAX_FRAME_SIZE of 16383", PROTOCOL_ERROR, lambda _: (setting(5, 16383),)),
    ("MAX_FRAME_SIZE of 16777216", PROTOCOL_ERROR, lambda _: (setting(5, 16777216),)),
)
async def test_section_6_5_settings(world, code, render):
    check_error(world, code, render)


@ignored(
    ("none", lambda _: (settings(),)),
    ("unknown", lambda _: (setting(0xF000, 5), setting(0, 1))),
    ("ENABLE_PUSH", lambda _: (setting(2, 1), setting(2, 0))),
    ("largest values", lambda _: (setting(4, (1 << 31) - 1), setting(5, 16777215), setting(3, 0xFFFFFFFF))),
    ("no streams and lists of no size", lambda _: (setting(3, 0), setting(6, 0), setting(1, 0))),
    ("acknowledgements that nobody waits for", lambda _: (frame(SETTINGS, ACK), frame(SETTINGS, ACK))),
    ("the same setting twice", lambda _: (frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0\0\4\0\1\0\0"),)),
)
async def test_section_6_5_2_other_settings_are_accepted(world, render):
    check_ignored(world, render)


async def test_section_6_5_3_settings_are_acknowledged_in_their_order(world):
    client = open_http2(world)
    assert ("settings ack",) in client.take()
    client.send(settings(INITIAL_WINDOW_SIZE=1), frame(PING, 0, 0, b"12345678"), settings())
    assert client.take() == [("settings ack",), ("ping", b"12345678", True), ("settings ack",)]


@errors(
    ("PUSH_PROMISE", PROTOCOL_ERROR, lambda c: (post(c), frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"))),
    ("PING of a stream", PROTOCOL_ERROR, lambda _: (frame(PING, 0, 1, bytes(8)),)),
    ("PING of 7 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PING, 0, 0, bytes(7)),)),
    ("PING of 9 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PING, 0, 0, bytes(9)),)),
    ("GOAWAY of a stream", PROTOCOL_ERROR, lambda _: (frame(GOAWAY, 0, 1, bytes(8)),)),
    ("GOAWAY of 7 bytes", FRAME_SIZE_ERROR, lambda _: (frame(GOAWAY, 0, 0, bytes(7)),)),
    ("WINDOW_UPDATE of 3 bytes", FRAME_SIZE_ERROR, lambda _: (frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"),)),
    ("WINDOW_UPDATE of 5 bytes", FRAME_SIZE_ERROR, lambda _: (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0\1"),)),
)
async def test_sections_6_6_to_6_9_malformed_control_frames_end_the_connection(world, code, render):
    check_error(world, code, render)


async def test_section_6_7_a_ping_is_answered_and_an_answer_is_not(world):
    client = open_http2(world)
    client.take()
    client.send(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321"))
    assert client.take() == [("ping", b"12345678", True)]


@ignored(
    ("no error", lambda _: (goaway(0),)),
    ("an unknown error and debug data", lambda _: (goaway(0, 0xFFFF), frame(GOAWAY, 0, 0, bytes(8) + b"debug"))),
)
async def test_section_6_8_a_client_that_goes_away_gets_its_responses(world, render):
    check_ignored(world, render)


@errors(
    ("no HEADERS", PROTOCOL_ERROR, lambda _: (frame(CONTINUATION, END_HEADERS, 1),)),
    ("stream 0", PROTOCOL_ERROR, lambda c: (begin_block(c), frame(CONTINUATION, END_HEADERS, 0))),
    ("complete HEADERS", PROTOCOL_ERROR, lambda c: (post(c), frame(CONTINUATION, END_HEADERS, 1, b"\x82"))),
    (
        "complete CONTINUATION",
        PROTOCOL_ERROR,
        lambda c: (begin_block(c), *[frame(CONTINUATION, END_HEADERS, 1, b"")] * 2),
    ),
    ("DATA before", PROTOCOL_ERROR, lambda c: (post(c), c.data(1, b"a"), frame(CONTINUATION, END_HEADERS, 1))),
    ("too large", ENHANCE_YOUR_CALM, lambda c: (begin_block(c), *[frame(CONTINUATION, 0, 1, LARGE[:16384])] * 5)),
)
async def test_section_6_10_continuation(world, code, render):
    check_error(world, code, render)


async def test_section_6_10_a_header_block_may_come_in_many_frames(world):
    client = open_http2(world)
    block = client.encoder.encode(ELSEWHERE)
    pieces = [frame(CONTINUATION, 0, 1, block[at : at + 1]) for at in range(1, len(block))]
    client.send(frame(HEADERS, END_STREAM, 1, block[:1]), *pieces, frame(CONTINUATION, END_HEADERS, 1))
    assert [message[0] for message in client.take_streams()] == ["headers", "data"]
    client.send(goaway(0, NO_ERROR))
    expect_answer(client, 3)


# --- section 3.3: who speaks HTTP/2


async def test_section_3_3_the_preface_is_refused_if_http2_is_off(open_world):
    async with open_world(settings=CarryingSettings(http2=False)) as world:
        client = world.open_client()
        client.send(PREFACE + settings())
        assert client.take().startswith(b"HTTP/1.1 505 ")
        assert client.transport.has_ended


async def test_section_3_4_the_preface_is_only_accepted_as_the_first_bytes_of_a_connection(world):
    client = world.open_client()
    client.send(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n" + PREFACE + settings())
    assert re.findall(rb"HTTP/1.1 (\d+)", client.take()) == [b"404", b"505"]
    assert client.transport.has_ended
