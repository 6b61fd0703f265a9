"""RFC 9113 sections 5 and 8: the states and numbers of a client's streams, and malformed requests on them."""

import pytest

from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    CONTINUATION,
    DATA,
    ELSEWHERE,
    END_HEADERS,
    GET,
    HAS_PRIORITY,
    HEADERS,
    NO_ERROR,
    POST,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    expect_answer,
    expect_goaway,
    expect_reset,
    frame,
    open_http2,
    rst_stream,
    window_update,
)


def rows(names, *values):
    """Parametrize a test; the first of each row is its description."""
    return pytest.mark.parametrize(
        names, [row[1:] if "," in names else row[1] for row in values], ids=[row[0].replace(" ", "-") for row in values]
    )


def post(client, stream_id=1):
    return client.headers(stream_id, POST, is_end=False)


# --- section 5.1: states


@rows(
    "render",
    ("DATA", lambda c: c.data(1, b"a", is_end=True)),
    ("RST_STREAM", lambda _: rst_stream(1, CANCEL)),
    ("WINDOW_UPDATE", lambda _: window_update(1, 1)),
    ("CONTINUATION", lambda _: frame(CONTINUATION, END_HEADERS, 1, b"\x82")),
    ("DATA of an even stream", lambda c: c.data(2, b"a")),
    ("WINDOW_UPDATE of an even stream", lambda _: window_update(2, 1)),
    ("RST_STREAM of an even stream", lambda _: rst_stream(2, CANCEL)),
)
async def test_section_5_1_an_idle_stream_gets_only_headers_and_priority(world, render):
    client = open_http2(world)
    client.take()
    client.send(render(client))
    expect_goaway(client, PROTOCOL_ERROR)


async def test_section_5_1_priority_is_accepted_in_every_state(world):
    client = open_http2(world)
    priority = frame(PRIORITY, 0, 1, b"\0\0\0\3\5")
    client.send(
        priority, post(client), priority, client.data(1, is_end=True), priority, rst_stream(1, CANCEL), priority
    )
    expect_answer(client, 3)


@rows(
    "render",
    ("DATA", lambda c: c.data(1, b"a")),
    ("HEADERS", lambda c: c.headers(1, (("x-a", "1"),))),
    ("a second request", lambda c: c.headers(1, GET)),
)
@pytest.mark.parametrize("state", ["half-closed", "closed", "closed by both"])
async def test_section_5_1_nothing_follows_the_end_of_a_request(world, state, render):
    client = open_http2(world)
    client.send(client.headers(1, ELSEWHERE if state == "closed" else GET))
    if state == "closed by both":
        server = await world.accept()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await world.settle()
    client.take()
    client.send(render(client))
    expect_goaway(client, STREAM_CLOSED)


@rows(
    "render",
    ("DATA", lambda c: c.data(1, b"a")),
    ("HEADERS", lambda c: c.headers(1, (("x-a", "1"),))),
)
async def test_section_5_1_nothing_follows_the_reset_of_a_stream_by_the_client(world, render):
    client = open_http2(world)
    client.send(post(client), rst_stream(1, CANCEL))
    client.take()
    client.send(render(client))
    expect_goaway(client, STREAM_CLOSED)


@rows(
    "render",
    ("WINDOW_UPDATE", lambda _: window_update(1, 1)),
    ("RST_STREAM", lambda _: rst_stream(1, CANCEL)),
)
@pytest.mark.parametrize("state", ["half-closed", "closed", "reset"])
async def test_section_5_1_window_update_and_rst_stream_may_follow_the_end(world, state, render):
    client = open_http2(world)
    client.send(client.headers(1, ELSEWHERE if state == "closed" else GET))
    if state == "reset":
        client.send(rst_stream(1, CANCEL))
    client.send(render(client))
    expect_answer(client, 3)


async def test_section_5_1_frames_of_a_stream_that_the_mesh_has_reset_are_ignored(world):
    client = open_http2(world)
    client.send(client.headers(1, (*ELSEWHERE, ("x-a", "1")), is_end=False))
    assert client.take_streams()[-1] == ("reset", 1, NO_ERROR)
    trailers = client.headers(1, (("x-trailer", "1"),))
    client.send(client.data(1, b"a"), window_update(1, 1), trailers, rst_stream(1, CANCEL))
    expect_answer(client, 3)


# --- sections 5.1.1 and 5.1.2: numbers and concurrency


@pytest.mark.parametrize("stream", [2, 4, (1 << 31) - 2])
async def test_section_5_1_1_a_client_opens_no_stream_with_an_even_number(world, stream):
    client = open_http2(world)
    client.take()
    client.send(client.headers(stream, GET))
    expect_goaway(client, PROTOCOL_ERROR)


@pytest.mark.parametrize(("opened", "stream"), [((5,), 3), ((5,), 1), ((1, 7), 3), ((1, 7), 5)])
async def test_section_5_1_1_a_client_opens_no_stream_below_the_last_one(world, opened, stream):
    client = open_http2(world)
    client.send(*(client.headers(each, GET) for each in opened))
    client.take()
    client.send(client.headers(stream, GET))
    expect_goaway(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("opened", [(1, 3), (3, 5), (1, 101, 1001), ((1 << 31) - 3, (1 << 31) - 1)])
async def test_section_5_1_1_numbers_may_be_left_out(world, opened):
    client = open_http2(world)
    for stream in opened:
        expect_answer(client, stream)


async def test_section_5_1_2_a_stream_above_the_announced_limit_is_refused(open_world):
    async with open_world(settings=CarryingSettings(http2_stream_limit=2)) as world:
        client = open_http2(world)
        assert client.take()[0][1][3] == 2
        client.send(*(client.headers(stream, GET) for stream in (1, 3, 5)))
        expect_reset(client, 5, REFUSED_STREAM)
        client.send(rst_stream(1, CANCEL))
        expect_answer(client, 7)


# --- section 5.3: priorities


@rows(
    "render",
    ("HEADERS", lambda c: frame(HEADERS, HAS_PRIORITY | 5, 1, b"\0\0\0\1\xff" + c.encoder.encode(GET))),
    ("PRIORITY", lambda _: frame(PRIORITY, 0, 1, b"\0\0\0\1\xff")),
)
async def test_section_5_3_1_a_stream_does_not_depend_on_itself(world, render):
    client = open_http2(world)
    client.take()
    client.send(render(client))
    expect_goaway(client, PROTOCOL_ERROR)


# --- section 8.1: messages


@rows(
    "render",
    ("a second request", lambda c: (c.headers(1, POST, is_end=False),)),
    ("trailers that do not end the stream", lambda c: (c.headers(1, (("x-a", "1"),), is_end=False),)),
    ("trailers with pseudo-header fields", lambda c: (c.headers(1, ((":path", "/"),)),)),
    ("trailers with a connection field", lambda c: (c.headers(1, (("connection", "close"),)),)),
    ("trailers with capitals", lambda c: (c.headers(1, ((b"X-A", b"1"),)),)),
)
async def test_section_8_1_malformed_trailers_reset_only_their_stream(world, render):
    client = open_http2(world)
    client.send(post(client), client.data(1, b"a"))
    server = await world.accept()
    client.take()
    client.send(*render(client))
    expect_reset(client, 1, PROTOCOL_ERROR)
    expect_answer(client, 3)
    await world.settle()
    assert server.is_closed


async def test_section_8_1_data_after_the_trailers_is_an_error(world):
    client = open_http2(world)
    client.send(post(client), client.headers(1, (("x-a", "1"),)))
    client.take()
    client.send(client.data(1, b"a"))
    expect_goaway(client, STREAM_CLOSED)


# --- sections 8.2 and 8.3: fields

REGULAR = [
    ("a name with capitals", ("X-A", "1")),
    ("an empty name", ("", "1")),
    ("a name with a space", ("x a", "1")),
    ("a name with a colon", ("x:a", "1")),
    ("a name beyond ASCII", (b"x-\xe9", b"1")),
    ("a name with DEL", (b"x\x7f", b"1")),
    ("a value with NUL", ("x-a", "1\0")),
    ("a value with LF", ("x-a", "1\nx: y")),
    ("a value with CR", ("x-a", "1\rx: y")),
    ("a value with a leading space", ("x-a", " 1")),
    ("a value with a trailing tab", ("x-a", "1\t")),
    ("connection", ("connection", "keep-alive")),
    ("keep-alive", ("keep-alive", "1")),
    ("proxy-connection", ("proxy-connection", "keep-alive")),
    ("transfer-encoding", ("transfer-encoding", "chunked")),
    ("upgrade", ("upgrade", "h2c")),
    ("te", ("te", "trailers, deflate")),
    ("a late pseudo-header field", (":path", "/")),
    ("a response's pseudo-header field", (":status", "200")),
    ("another host", ("host", "b.test.maesh")),
    ("a length that is no number", ("content-length", "+1")),
    ("a length without a body", ("content-length", "1")),
]


def check_malformed(world, fields):
    """Send a malformed request; only its stream is reset."""
    client = open_http2(world)
    client.take()
    client.send(client.headers(1, fields))
    assert expect_reset(client, 1, PROTOCOL_ERROR) == []
    expect_answer(client, 3)
    assert not world.connects


@rows("field", *REGULAR)
async def test_section_8_2_a_malformed_field_resets_the_stream(world, field):
    check_malformed(world, (*GET, field))


@rows(
    "fields",
    ("unknown", ((":unknown", "1"), *GET)),
    ("of a response", ((":status", "200"), *GET)),
    ("of extended CONNECT", ((":protocol", "websocket"), *GET)),
    ("behind a field", (*GET[:3], ("x-a", "1"), GET[3])),
    ("no method", GET[1:]),
    ("no scheme", (GET[0], *GET[2:])),
    ("no path", GET[:3]),
    ("no authority and no host", (*GET[:2], GET[3])),
    ("none", (("x-a", "1"),)),
    ("no field at all", ()),
    ("method twice", (GET[0], *GET)),
    ("scheme twice", (GET[1], *GET)),
    ("path twice", (GET[3], *GET)),
    ("authority twice", (GET[2], *GET)),
    ("empty method", ((":method", ""), *GET[1:])),
    ("empty scheme", (GET[0], (":scheme", ""), *GET[2:])),
    ("empty path", (*GET[:3], (":path", ""))),
    ("relative path", (*GET[:3], (":path", "a"))),
    ("path with a space", (*GET[:3], (":path", "/ HTTP/1.1"))),
    ("path with LF", (*GET[:3], (":path", "/\nx: y"))),
    ("path with a fragment", (*GET[:3], (":path", "/#a"))),
    ("asterisk with GET", (*GET[:3], (":path", "*"))),
    ("method with a space", ((":method", "GET /"), *GET[1:])),
    ("authority with user", (*GET[:2], (":authority", "user@a.test.maesh"), GET[3])),
    ("authority with CR", (*GET[:2], (":authority", "a\r\nx: y"), GET[3])),
)
async def test_section_8_3_malformed_pseudo_header_fields_reset_the_stream(world, fields):
    check_malformed(world, fields)


async def test_section_8_5_connect_is_answered_501(world):
    client = open_http2(world)
    client.send(client.headers(1, ((":method", "CONNECT"), (":authority", "a:80"))))
    assert dict(client.take_streams()[0][2])[b":status"] == b"501"
    expect_answer(client, 3)


# --- section 8.1.1: lengths


@rows(
    "lengths,render",
    ("too little data", ("3",), lambda c: (c.data(1, b"ab", is_end=True),)),
    ("too much data", ("1",), lambda c: (c.data(1, b"ab"),)),
    ("too much data in two frames", ("2",), lambda c: (c.data(1, b"ab"), c.data(1, b"c"))),
    ("trailers too early", ("3",), lambda c: (c.data(1, b"ab"), c.headers(1, (("x-a", "1"),)))),
    ("two lengths", ("2", "2"), lambda _: ()),
    ("two different lengths", ("2", "3"), lambda _: ()),
)
async def test_section_8_1_1_a_body_has_the_length_that_it_declares(world, lengths, render):
    client = open_http2(world)
    fields = (*POST, *(("content-length", length) for length in lengths))
    client.take()
    client.send(client.headers(1, fields, is_end=False), *render(client))
    assert expect_reset(client, 1, PROTOCOL_ERROR) == []
    expect_answer(client, 3)


@rows(
    "render",
    ("padding", lambda c: (frame(DATA, 8, 1, b"\5ab" + bytes(5)), c.data(1, b"", is_end=True))),
    ("empty frames", lambda c: (c.data(1), c.data(1, b"a"), c.data(1), c.data(1, b"b", is_end=True))),
    ("trailers", lambda c: (c.data(1, b"ab"), c.headers(1, (("x-a", "1"),)))),
)
async def test_section_8_1_1_only_the_data_counts(world, render):
    client = open_http2(world)
    client.send(client.headers(1, (*POST, ("content-length", "2")), is_end=False), *render(client))
    server = await world.accept()
    assert server.take().endswith(b"\r\n\r\nab")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await world.settle()
    expect_answer(client, 3)
