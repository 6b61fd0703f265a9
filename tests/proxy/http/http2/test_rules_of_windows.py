"""RFC 9113 sections 5.2 and 6.9: the windows of streams and connections, in both directions."""

import pytest

from .framing import (
    DATA,
    FLOW_CONTROL_ERROR,
    GET,
    PADDED,
    POST,
    PROTOCOL_ERROR,
    accept_http2,
    expect_answer,
    expect_goaway,
    expect_reset,
    frame,
    has_ended,
    open_http2,
    settings,
    window_update,
)

LARGEST = (1 << 31) - 1
WINDOW = 65535
STREAM_WINDOW = 131072
CREDIT = 1 << 20


def read_data(client):
    """Take what has come; give the data by stream, and the streams that have ended."""
    data, ended = {}, set()
    for kind, stream, payload, is_end in (each for each in client.take_streams() if each[0] != "reset"):
        data[stream] = data.get(stream, b"") + (payload if kind == "data" else b"")
        if is_end:
            ended.add(stream)
    return data, ended


async def open_response(world, content, *, streams=(1,), **values):
    """Have a server of HTTP/1.1 answer each stream with this content; give the client."""
    client = open_http2(world, **values)
    server = None
    for stream in streams:
        client.send(client.headers(stream, GET))
        server = server or await world.accept()
        server.take()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
    await world.settle()
    return client


async def fill_window(world, peer):
    """Send data on stream 1 until the mesh, which cannot pass it on, gives no more credit."""
    left, sent = STREAM_WINDOW, 0
    while left:
        peer.send(peer.data(1, bytes(16384)))
        await world.settle()
        left -= 16384 - sum(message[2] for message in peer.take() if message[:2] == ("window", 1))
        sent += 16384
    assert sent <= 3 * STREAM_WINDOW


# --- malformed updates


async def test_section_6_9_an_update_by_nothing_ends_the_connection(world):
    client = open_http2(world)
    client.take()
    client.send(window_update(0, 0))
    expect_goaway(client, PROTOCOL_ERROR)


async def test_section_6_9_an_update_of_a_stream_by_nothing_resets_the_stream(world):
    client = open_http2(world)
    client.send(client.headers(1, GET), window_update(1, 0))
    expect_reset(client, 1, PROTOCOL_ERROR)
    expect_answer(client, 3)


@pytest.mark.parametrize("sizes", [(LARGEST,), (LARGEST - WINDOW, 1), (LARGEST - WINDOW, LARGEST)])
async def test_section_6_9_1_a_window_of_the_connection_that_is_too_large_ends_it(world, sizes):
    client = open_http2(world)
    client.take()
    client.send(*(window_update(0, size) for size in sizes))
    expect_goaway(client, FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("sizes", [(LARGEST,), (LARGEST - WINDOW, 1)])
async def test_section_6_9_1_a_window_of_a_stream_that_is_too_large_resets_it(world, sizes):
    client = open_http2(world)
    client.send(client.headers(1, GET), *(window_update(1, size) for size in sizes))
    expect_reset(client, 1, FLOW_CONTROL_ERROR)
    expect_answer(client, 3)


async def test_section_6_9_1_the_largest_windows_are_accepted(world):
    client = await open_response(world, b"a" * 100_000)
    client.send(window_update(0, LARGEST - WINDOW), window_update(1, LARGEST - WINDOW))
    await world.settle()
    data, ended = read_data(client)
    assert (len(data[1]), ended) == (100_000, {1})


async def test_section_6_9_2_settings_that_make_a_window_too_large_end_the_connection(world):
    client = open_http2(world)
    client.send(client.headers(1, GET), window_update(1, LARGEST - WINDOW))
    client.take()
    client.send(settings(INITIAL_WINDOW_SIZE=WINDOW + 1))
    expect_goaway(client, FLOW_CONTROL_ERROR)


# --- what the mesh may send


async def test_section_6_9_1_the_window_of_a_stream_bounds_its_data(world):
    client = await open_response(world, b"abcdef", INITIAL_WINDOW_SIZE=3)
    assert read_data(client) == ({1: b"abc"}, set())
    client.send(window_update(1, 2))
    assert read_data(client) == ({1: b"de"}, set())
    client.send(window_update(1, 100))
    assert read_data(client) == ({1: b"f"}, {1})


async def test_section_6_9_1_a_window_of_one_byte_carries_everything(world):
    client = await open_response(world, b"abcdef", INITIAL_WINDOW_SIZE=1)
    received = read_data(client)[0][1]
    for _ in range(5):
        client.send(window_update(1, 1))
        (kind, stream, data, is_end), *rest = client.take_streams()
        received += data
        assert (kind, stream, len(data), rest) == ("data", 1, 1, [])
    assert (received, is_end) == (b"abcdef", True)


async def test_section_6_9_1_without_a_window_headers_and_ends_are_sent_but_no_data(world):
    client = open_http2(world, INITIAL_WINDOW_SIZE=0)
    client.send(client.headers(1, GET), client.headers(3, GET))
    for content in (b"", b"ab"):
        server = await world.accept()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
    await world.settle()
    assert [(message[0], message[1], message[3]) for message in client.take_streams()] == [
        ("headers", 1, True),
        ("headers", 3, False),
    ]
    client.send(window_update(3, 2))
    assert client.take_streams() == [("data", 3, b"ab", True)]


async def test_section_6_9_1_the_window_of_the_connection_bounds_all_streams(world):
    client = await open_response(world, b"a" * 50_000, streams=(1, 3))
    data, _ = read_data(client)
    assert sum(map(len, data.values())) == WINDOW
    client.send(window_update(1, 100_000), window_update(3, 100_000))
    assert read_data(client) == ({}, set())
    client.send(window_update(0, 10))
    data, _ = read_data(client)
    assert sum(map(len, data.values())) == 10
    client.send(window_update(0, 100_000))
    data, ended = read_data(client)
    assert sum(map(len, data.values())) == 100_000 - WINDOW - 10
    assert 3 in ended


async def test_section_6_9_2_another_initial_size_changes_the_windows_of_all_streams(world):
    client = await open_response(world, b"abcdef", streams=(1, 3), INITIAL_WINDOW_SIZE=0)
    assert read_data(client) == ({1: b"", 3: b""}, set())
    client.send(settings(INITIAL_WINDOW_SIZE=2))
    assert read_data(client) == ({1: b"ab", 3: b"ab"}, set())
    client.send(settings(INITIAL_WINDOW_SIZE=6))
    assert read_data(client) == ({1: b"cdef", 3: b"cdef"}, {1, 3})


async def test_section_6_9_2_the_initial_size_does_not_change_the_window_of_the_connection(world):
    client = await open_response(world, b"a" * 100_000, INITIAL_WINDOW_SIZE=LARGEST)
    assert len(read_data(client)[0][1]) == WINDOW
    client.send(settings(INITIAL_WINDOW_SIZE=LARGEST))
    assert read_data(client) == ({}, set())


async def test_section_6_9_2_a_window_may_become_negative(world):
    client = await open_response(world, b"abcdefgh", INITIAL_WINDOW_SIZE=5)
    assert read_data(client) == ({1: b"abcde"}, set())
    client.send(settings(INITIAL_WINDOW_SIZE=2), window_update(1, 3))
    assert read_data(client) == ({}, set())
    client.send(window_update(1, 1))
    assert read_data(client) == ({1: b"f"}, set())
    client.send(settings(INITIAL_WINDOW_SIZE=100))
    assert read_data(client) == ({1: b"gh"}, {1})


async def test_section_6_9_2_the_initial_size_holds_for_later_streams(world):
    client = open_http2(world, INITIAL_WINDOW_SIZE=5)
    client.send(settings(INITIAL_WINDOW_SIZE=1), client.headers(1, GET))
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
    await world.settle()
    assert read_data(client) == ({1: b"a"}, set())


# --- what a client may send


async def test_section_6_9_1_a_client_that_exceeds_the_window_of_a_stream_is_told_so(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    await fill_window(world, client)
    client.send(client.data(1, b"a"))
    expect_reset(client, 1, FLOW_CONTROL_ERROR)
    expect_answer(client, 3)


async def test_section_6_9_a_client_is_credited_for_what_a_server_has_read(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    server = await world.accept()
    client.take()
    for _ in range(20):
        client.send(client.data(1, bytes(16384)))
        await world.settle()
    assert len(server.take()) > 20 * 16384
    credited = sum(message[2] for message in client.take() if message[:2] == ("window", 1))
    assert 20 * 16384 - STREAM_WINDOW < credited <= 20 * 16384


@pytest.mark.parametrize("kind", ["padding", "closed"])
async def test_section_6_9_padding_and_data_of_closed_streams_are_credited(world, kind):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    server = await world.accept()
    if kind == "closed":
        server.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await world.settle()
    client.take()
    credited = {0: 0, 1: 0}
    for _ in range(CREDIT // 256 + 1):
        client.send(frame(DATA, PADDED, 1, b"\xfea" + bytes(254)))
        for message in client.take():
            credited[message[1]] += message[2]
    assert credited[0] >= CREDIT
    assert (credited[1] > CREDIT - STREAM_WINDOW) is (kind == "padding")
    assert not has_ended(client)


# --- towards servers


async def test_section_6_9_the_windows_of_a_server_bound_the_data_of_requests(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.data(1, b"abcdef", is_end=True))
        server = await accept_http2(world)
        server.take()
        server.send(settings(INITIAL_WINDOW_SIZE=6))
        client.send(client.headers(3, POST, is_end=False), client.data(3, b"abcdefgh", is_end=True))
        await world.settle()
        assert read_data(server) == ({3: b"abcdef"}, set())
        server.send(settings(INITIAL_WINDOW_SIZE=3), window_update(3, 4))
        await world.settle()
        assert read_data(server) == ({3: b"g"}, set())
        server.send(window_update(3, 1))
        await world.settle()
        assert read_data(server) == ({3: b"h"}, {3})


@pytest.mark.parametrize(
    ("render", "code"),
    [
        ((window_update(0, 0),), PROTOCOL_ERROR),
        ((window_update(0, LARGEST),), FLOW_CONTROL_ERROR),
        ((window_update(1, LARGEST - WINDOW), settings(INITIAL_WINDOW_SIZE=WINDOW + 1)), FLOW_CONTROL_ERROR),
    ],
    ids=["by nothing", "connection", "settings"],
)
async def test_section_6_9_a_server_with_wrong_windows_is_left(open_world, render, code):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False))
        server = await accept_http2(world)
        server.take()
        server.send(*render)
        expect_goaway(server, code)
        await world.settle()
        assert dict(client.take_streams()[0][2])[b":status"] == b"502"


@pytest.mark.parametrize(("size", "code"), [(0, PROTOCOL_ERROR), (LARGEST, FLOW_CONTROL_ERROR)])
async def test_section_6_9_a_wrong_window_of_a_stream_ends_only_its_request(open_world, size, code):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.take()
        server.send(window_update(1, size))
        expect_reset(server, 1, code)
        server.send(server.headers(3, ((":status", "200"),)))
        await world.settle()
        statuses = {each[1]: dict(each[2])[b":status"] for each in client.take_streams() if each[0] == "headers"}
        assert statuses == {1: b"502", 3: b"200"}


async def test_section_6_9_1_a_server_that_exceeds_the_window_of_a_stream_is_reset(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=0)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.take()
        server.send(server.headers(1, ((":status", "200"),), is_end=False))
        await fill_window(world, server)
        server.send(server.data(1, b"a"))
        expect_reset(server, 1, FLOW_CONTROL_ERROR)
        await world.settle()
        assert client.take_streams()[-1][0] == "reset"
        server.send(server.headers(3, ((":status", "200"),)))
        await world.settle()
        assert client.take_streams()[0][:2] == ("headers", 3)
