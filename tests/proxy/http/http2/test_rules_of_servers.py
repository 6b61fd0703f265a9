"""RFC 9113 and RFC 7541 for servers of HTTP/2: what a server may send, and what becomes of requests if it errs."""

import struct

import pytest

from .framing import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HEADERS,
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
    accept_http2,
    expect_goaway,
    expect_reset,
    frame,
    has_ended,
    open_http2,
    render_block,
    rst_stream,
    settings,
    window_update,
)

OK = ((":status", "200"),)


def rows(names, *values):
    """Parametrize a test; the first of each row is its description."""
    return pytest.mark.parametrize(
        names, [row[1:] if "," in names else row[1] for row in values], ids=[row[0].replace(" ", "-") for row in values]
    )


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


async def ask(world, *, streams=(1,), fields=POST):
    """Open streams of requests that the server has; give the client and the server."""
    client = open_http2(world)
    client.send(*(client.headers(stream, fields) for stream in streams))
    server = await accept_http2(world)
    server.take()
    client.take()
    return client, server


async def take_statuses(world, client):
    """Return the status of each stream that has been answered."""
    await world.settle()
    return {each[1]: dict(each[2])[b":status"] for each in client.take_streams() if each[0] == "headers"}


# --- section 3.4: the start of a connection


async def test_section_3_4_the_mesh_starts_with_the_preface_and_its_settings(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = FramePeer(await h2c.accept())
    assert server.peer.take().startswith(PREFACE + b"\0\0\x12\4\0\0\0\0\0\0\2\0\0\0\0")
    server.send(settings())
    await h2c.settle()
    assert server.take() == [("settings ack",)]
    client.peer.lose()


@rows(
    "first",
    ("PING", frame(PING, 0, 0, b"12345678")),
    ("acknowledgement", frame(SETTINGS, ACK)),
    ("HEADERS", FramePeer(None).headers(1, OK)),
    ("GOAWAY", frame(GOAWAY, 0, 0, bytes(8))),
    ("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
)
async def test_section_3_4_the_first_frame_of_a_server_is_settings(h2c, first):
    client = open_http2(h2c)
    client.send(client.headers(1, POST))
    server = FramePeer(await h2c.accept())
    server.send(first)
    errors = [message for message in server.take() if message[0] == "goaway"]
    assert errors in ([("goaway", 0, PROTOCOL_ERROR)], [("goaway", 0, FRAME_SIZE_ERROR)])
    assert server.peer.is_closed
    assert await take_statuses(h2c, client) == {1: b"502"}


# --- errors of the connection

LARGE = b"\0" * 16385


@rows(
    "code,render",
    ("DATA too large", FRAME_SIZE_ERROR, lambda s: (s.headers(1, OK, is_end=False), s.data(1, LARGE))),
    ("HEADERS too large", FRAME_SIZE_ERROR, lambda _: (render_block(1, LARGE),)),
    ("SETTINGS too large", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, 0, 0, bytes(6) * 2731),)),
    ("DATA on stream 0", PROTOCOL_ERROR, lambda s: (s.data(0, b"a"),)),
    ("DATA on an idle stream", PROTOCOL_ERROR, lambda s: (s.data(3, b"a"),)),
    ("padding of DATA", PROTOCOL_ERROR, lambda s: (s.headers(1, OK, is_end=False), frame(DATA, PADDED, 1, b"\5a"))),
    ("HEADERS on stream 0", PROTOCOL_ERROR, lambda s: (s.headers(0, OK),)),
    ("HEADERS on an idle stream", PROTOCOL_ERROR, lambda s: (s.headers(3, OK),)),
    ("HEADERS on a stream of the server", PROTOCOL_ERROR, lambda s: (s.headers(2, OK),)),
    ("padding of HEADERS", PROTOCOL_ERROR, lambda _: (render_block(1, b"\5\x88", flags=PADDED | 5),)),
    ("a frame within a block", PROTOCOL_ERROR, lambda _: (frame(HEADERS, 1, 1, b"\x88"), settings())),
    ("CONTINUATION alone", PROTOCOL_ERROR, lambda _: (frame(CONTINUATION, END_HEADERS, 1, b"\x88"),)),
    ("PRIORITY on stream 0", PROTOCOL_ERROR, lambda _: (frame(PRIORITY, 0, 0, bytes(5)),)),
    ("PRIORITY of 4 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PRIORITY, 0, 1, bytes(4)),)),
    ("RST_STREAM on stream 0", PROTOCOL_ERROR, lambda _: (rst_stream(0, CANCEL),)),
    ("RST_STREAM on an idle stream", PROTOCOL_ERROR, lambda _: (rst_stream(3, CANCEL),)),
    ("RST_STREAM of 3 bytes", FRAME_SIZE_ERROR, lambda _: (frame(RST_STREAM, 0, 1, bytes(3)),)),
    ("SETTINGS of a stream", PROTOCOL_ERROR, lambda _: (frame(SETTINGS, 0, 1),)),
    ("SETTINGS of 5 bytes", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, 0, 0, bytes(5)),)),
    ("acknowledgement with content", FRAME_SIZE_ERROR, lambda _: (frame(SETTINGS, ACK, 0, bytes(6)),)),
    ("ENABLE_PUSH of 1", PROTOCOL_ERROR, lambda _: (setting(2, 1),)),
    ("ENABLE_PUSH of 2", PROTOCOL_ERROR, lambda _: (setting(2, 2),)),
    ("INITIAL_WINDOW_SIZE", FLOW_CONTROL_ERROR, lambda _: (setting(4, 1 << 31),)),
    ("MAX_FRAME_SIZE too small", PROTOCOL_ERROR, lambda _: (setting(5, 1),)),
    ("MAX_FRAME_SIZE too large", PROTOCOL_ERROR, lambda _: (setting(5, 1 << 24),)),
    ("PUSH_PROMISE", PROTOCOL_ERROR, lambda _: (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82"),)),
    ("PING of a stream", PROTOCOL_ERROR, lambda _: (frame(PING, 0, 1, bytes(8)),)),
    ("PING of 6 bytes", FRAME_SIZE_ERROR, lambda _: (frame(PING, 0, 0, bytes(6)),)),
    ("GOAWAY of a stream", PROTOCOL_ERROR, lambda _: (frame(GOAWAY, 0, 1, bytes(8)),)),
    ("GOAWAY of 4 bytes", FRAME_SIZE_ERROR, lambda _: (frame(GOAWAY, 0, 0, bytes(4)),)),
    ("WINDOW_UPDATE on an idle stream", PROTOCOL_ERROR, lambda _: (window_update(3, 1),)),
    ("WINDOW_UPDATE of 5 bytes", FRAME_SIZE_ERROR, lambda _: (frame(WINDOW_UPDATE, 0, 0, bytes(5)),)),
    ("invalid index", COMPRESSION_ERROR, lambda _: (render_block(1, b"\xc6"),)),
    ("invalid Huffman code", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x00\1a\x84\xff\xff\xff\xff"),)),
    ("table size above the setting", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x3f\xe2\x1f\x88"),)),
    ("table size behind a field", COMPRESSION_ERROR, lambda _: (render_block(1, b"\x88\x20"),)),
)
async def test_an_error_of_a_server_ends_its_connection_and_every_request_on_it(h2c, code, render):
    client, server = await ask(h2c)
    server.send(*render(server))
    expect_goaway(server, code)
    messages = client.take_streams() or (await h2c.settle(), client.take_streams())[1]
    assert messages[0][0] == "headers"
    assert dict(messages[0][2])[b":status"] == b"502" or messages[-1][0] == "reset"
    client.send(client.headers(3, GET))
    second = await accept_http2(h2c)
    second.take()
    second.send(second.headers(1, OK))
    assert await take_statuses(h2c, client) == {3: b"200"}


async def test_a_request_that_is_tried_again_after_an_error_uses_another_connection(h2c):
    client, server = await ask(h2c, streams=(1, 3), fields=GET)
    server.send(server.headers(1, OK))
    assert await take_statuses(h2c, client) == {1: b"200"}
    server.send(frame(PING, 0, 0, bytes(7)))
    assert has_ended(server)
    second = await accept_http2(h2c)
    assert [message[:2] for message in second.take_streams()] == [("headers", 1)]
    second.send(second.headers(1, OK))
    assert await take_statuses(h2c, client) == {3: b"200"}


# --- errors of a stream


@rows(
    "render",
    ("DATA before a response", lambda s: (s.data(1, b"a"),)),
    ("an empty end before a response", lambda s: (s.data(1, is_end=True),)),
    ("DATA behind 103", lambda s: (s.headers(1, ((":status", "103"),), is_end=False), s.data(1, b"a"))),
    ("103 that ends the stream", lambda s: (s.headers(1, ((":status", "103"),)),)),
    ("101", lambda s: (s.headers(1, ((":status", "101"),), is_end=False),)),
    ("no status", lambda s: (s.headers(1, (("x-a", "1"),)),)),
    ("no field at all", lambda s: (s.headers(1, ()),)),
    ("status twice", lambda s: (s.headers(1, (*OK, *OK)),)),
    ("status of two digits", lambda s: (s.headers(1, ((":status", "20"),)),)),
    ("status of four digits", lambda s: (s.headers(1, ((":status", "2000"),)),)),
    ("status with a reason", lambda s: (s.headers(1, ((":status", "200 OK"),)),)),
    ("late status", lambda s: (s.headers(1, (("x-a", "1"), *OK)),)),
    ("a request's pseudo-header field", lambda s: (s.headers(1, (*OK, (":path", "/"))),)),
    ("unknown pseudo-header field", lambda s: (s.headers(1, (*OK, (":a", "/"))),)),
    ("a name with capitals", lambda s: (s.headers(1, (*OK, ("X-A", "1"))),)),
    ("a value with LF", lambda s: (s.headers(1, (*OK, ("x-a", "1\nx: y"))),)),
    ("a value with NUL", lambda s: (s.headers(1, (*OK, ("x-a", "\0"))),)),
    ("a value with a space at its end", lambda s: (s.headers(1, (*OK, ("x-a", "1 "))),)),
    ("connection", lambda s: (s.headers(1, (*OK, ("connection", "close"))),)),
    ("transfer-encoding", lambda s: (s.headers(1, (*OK, ("transfer-encoding", "chunked"))),)),
    ("two lengths", lambda s: (s.headers(1, (*OK, *[("content-length", "1")] * 2), is_end=False),)),
    ("a length without a body", lambda s: (s.headers(1, (*OK, ("content-length", "1"))),)),
)
async def test_sections_8_1_to_8_3_a_malformed_response_is_502_and_resets_only_its_stream(h2c, render):
    client, server = await ask(h2c, streams=(1, 3))
    server.send(*render(server))
    expect_reset(server, 1, PROTOCOL_ERROR)
    assert (await take_statuses(h2c, client))[1] in (b"502", b"103")
    server.send(server.headers(3, OK))
    assert await take_statuses(h2c, client) == {3: b"200"}


@rows(
    "render",
    ("a second response", lambda s: (s.headers(1, OK, is_end=False),)),
    ("trailers with a status", lambda s: (s.headers(1, OK),)),
    ("trailers with capitals", lambda s: (s.headers(1, ((b"X-A", b"1"),)),)),
    ("trailers that do not end the stream", lambda s: (s.headers(1, (("x-a", "1"),), is_end=False),)),
    ("too much data", lambda s: (s.data(1, b"abcd"),)),
    ("too little data", lambda s: (s.data(1, b"ab", is_end=True),)),
    ("trailers too early", lambda s: (s.data(1, b"ab"), s.headers(1, (("x-a", "1"),)))),
)
async def test_section_8_1_an_error_behind_a_response_resets_both_streams(h2c, render):
    client, server = await ask(h2c, streams=(1, 3))
    server.send(server.headers(1, (*OK, ("content-length", "3")), is_end=False))
    await h2c.settle()
    client.take()
    server.send(*render(server))
    expect_reset(server, 1, PROTOCOL_ERROR)
    await h2c.settle()
    assert client.take_streams()[-1][:2] == ("reset", 1)
    server.send(server.headers(3, OK))
    assert await take_statuses(h2c, client) == {3: b"200"}


# --- what a server may send


@rows(
    "render",
    ("unknown frames", lambda _: (frame(0x16, 0xFF, 0, b"a"), frame(0x16, 0, 1))),
    ("unknown settings", lambda _: (setting(0xF000, 1),)),
    ("ENABLE_PUSH of 0", lambda _: (setting(2, 0),)),
    ("acknowledgement", lambda _: (frame(SETTINGS, ACK),)),
    ("priorities", lambda _: (frame(PRIORITY, 0, 1, b"\0\0\0\3\1"), frame(PRIORITY, 0, 2, bytes(5)))),
    ("updates", lambda _: (window_update(0, 1), window_update(1, 1))),
    ("PING", lambda _: (frame(PING, 0, 0, b"12345678"),)),
    ("another table size", lambda s: (setting(1, 0), render_block(1, b"\x20" + s.encoder.encode(OK)))),
)
async def test_what_a_server_may_send_changes_nothing(h2c, render):
    client, server = await ask(h2c)
    frames = render(server)
    server.send(*frames)
    if frames[-1][3] != HEADERS:
        server.send(server.headers(1, OK))
    assert await take_statuses(h2c, client) == {1: b"200"}
    assert not has_ended(server)


async def test_section_5_1_frames_of_a_stream_that_the_mesh_has_cancelled_are_ignored(h2c):
    client, server = await ask(h2c, streams=(1, 3))
    client.send(rst_stream(1, CANCEL))
    await h2c.settle()
    expect_reset(server, 1, CANCEL)
    server.send(server.headers(1, (*OK, ("x-a", "1")), is_end=False), server.data(1, b"a"), window_update(1, 1))
    server.send(server.headers(1, (("x-b", "1"),)), rst_stream(1, CANCEL))
    server.send(server.headers(3, (*OK, ("x-a", "1"))))
    assert await take_statuses(h2c, client) == {3: b"200"}
    assert not has_ended(server)


async def test_section_6_10_a_response_may_come_in_many_frames(h2c):
    client, server = await ask(h2c)
    block = server.encoder.encode((*OK, ("x-a", "1")))
    pieces = [frame(CONTINUATION, 0, 1, block[at : at + 1]) for at in range(len(block))]
    server.send(frame(HEADERS, END_STREAM, 1), *pieces, frame(CONTINUATION, END_HEADERS, 1))
    assert await take_statuses(h2c, client) == {1: b"200"}


async def test_section_8_1_frames_split_at_every_byte_have_the_same_result(h2c):
    client, server = await ask(h2c)
    answer = b"".join((server.headers(1, OK, is_end=False), server.data(1, b"abc"), server.headers(1, (("x-a", "1"),))))
    for at in range(len(answer)):
        server.send(answer[at : at + 1])
    await h2c.settle()
    assert client.take_streams() == [
        ("headers", 1, [(b":status", b"200")], False),
        ("data", 1, b"abc", False),
        ("headers", 1, [(b"x-a", b"1")], True),
    ]
