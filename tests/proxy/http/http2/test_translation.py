"""Exchanges with HTTP/2 on one side and HTTP/1.1 on the other, in both directions."""

import pytest

from .framing import (
    GET,
    INTERNAL_ERROR,
    OK,
    POST,
    PROTOCOL_ERROR,
    accept_http2,
    open_http2,
    read_headers,
    rst_stream,
)

# --- HTTP/2 to HTTP/1.1


async def test_a_request_of_http2_reaches_a_server_of_http1(world):
    client = open_http2(world)
    client.send(client.headers(1, (*GET, ("cookie", "a=1"), ("cookie", "b=2"))))
    server = await world.accept()
    head = server.take()
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\ncookie: a=1; b=2\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-A:  b \r\nContent-Length: 2\r\n\r\nok")
    await world.settle()
    assert client.take_streams() == [
        ("headers", 1, [(b":status", b"200"), (b"x-a", b"b"), (b"content-length", b"2")], False),
        ("data", 1, b"ok", True),
    ]


async def test_a_body_without_length_becomes_chunks_and_trailers_pass(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False), client.data(1, b"abc"))
    server = await world.accept()
    assert server.take().endswith(b"\r\n\r\n3\r\nabc\r\n")
    client.send(client.data(1, b"de"), client.headers(1, (("x-sum", "5"),)))
    await world.settle()
    server.expect(b"2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n")
    await world.settle()
    assert client.take_streams() == [
        ("headers", 1, [(b":status", b"200")], False),
        ("data", 1, b"ok", False),
        ("headers", 1, [(b"x-sum", b"2")], True),
    ]


async def test_a_body_with_a_length_keeps_it(world):
    client = open_http2(world)
    client.send(client.headers(1, (*POST, ("content-length", "5")), is_end=False), client.data(1, b"abc"))
    server = await world.accept()
    head = server.take()
    assert head.endswith(b"\r\n\r\nabc")
    assert b"Content-Length: 5\r\n" in head.replace(b"content-length", b"Content-Length")
    client.send(client.data(1, b"de", is_end=True))
    await world.settle()
    server.expect(b"de")
    server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    await world.settle()
    assert client.take_streams() == [("headers", 1, [(b":status", b"204")], True)]


@pytest.mark.parametrize(("length", "data"), [("5", b"abc"), ("2", b"abc")])
async def test_a_body_of_another_length_than_declared_resets_the_stream(world, length, data):
    client = open_http2(world)
    client.send(client.headers(1, (*POST, ("content-length", length)), is_end=False), client.data(1, data, is_end=True))
    await world.settle()
    assert client.take_streams() == [("reset", 1, PROTOCOL_ERROR)]


async def test_a_truncated_response_of_http1_resets_the_stream(world):
    client = open_http2(world)
    client.send(client.headers(1, GET))
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
    server.lose()
    await world.settle()
    head, data, reset = client.take_streams()
    assert (head[3], data) == (False, ("data", 1, b"ab", False))
    assert reset == ("reset", 1, INTERNAL_ERROR)


async def test_informational_responses_pass_and_the_body_waits_for_its_100(world):
    client = open_http2(world)
    fields = (*POST, ("expect", "100-continue"), ("content-length", "2"))
    client.send(client.headers(1, fields, is_end=False))
    server = await world.accept()
    assert b"Expect: 100-continue\r\n" in server.take()
    server.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    await world.settle()
    early, go_on = client.take_streams()
    assert early == ("headers", 1, [(b":status", b"103"), (b"link", b"</a>")], False)
    assert go_on == ("headers", 1, [(b":status", b"100")], False)
    client.send(client.data(1, b"ab", is_end=True))
    await world.settle()
    server.expect(b"ab")


async def test_the_response_to_head_has_its_length_and_no_body(world):
    client = open_http2(world)
    client.send(client.headers(1, ((":method", "HEAD"), *GET[1:])))
    server = await world.accept()
    server.take()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    await world.settle()
    assert client.take_streams() == [("headers", 1, [(b":status", b"200"), (b"content-length", b"5")], True)]


async def test_an_unknown_host_is_answered_on_its_stream(world):
    client = open_http2(world)
    client.send(client.headers(1, (*GET[:2], (":authority", "other"), GET[3])))
    head, data = client.take_streams()
    assert dict(head[2])[b":status"] == b"404"
    assert dict(head[2])[b"x-maesh-reason"] == b"no service of the mesh has this host"
    assert data == ("data", 1, b"no service of the mesh has this host\n", True)


# --- HTTP/1.1 to HTTP/2


async def test_a_request_of_http1_reaches_a_server_of_http2(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(
            b"GET /a?b HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: X-Hop, TE\r\n"
            b"X-Hop: 1\r\nTE: trailers\r\nX-A: b\r\n\r\n"
        )
        server = await accept_http2(world)
        fields, is_end = read_headers(server.take_streams())
        assert is_end
        assert (fields[b":path"], fields[b"x-a"], fields[b"te"]) == (b"/a?b", b"b", b"trailers")
        assert not {b"host", b"connection", b"x-hop"} & fields.keys()
        server.send(server.headers(1, (*OK, ("x-b", "2")), is_end=False), server.data(1, b"hello"))
        await world.settle()
        client.expect(b"HTTP/1.1 200 OK\r\nx-b: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        server.send(server.headers(1, (("x-sum", "5"),)))
        await world.settle()
        client.expect(b"0\r\nx-sum: 5\r\n\r\n")
        client.lose()


async def test_a_client_of_http_1_0_gets_the_content_until_the_close(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(b"GET / HTTP/1.0\r\nHost: a.test.maesh\r\n\r\n")
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"hello", is_end=True))
        await world.settle()
        client.expect(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
        assert client.is_closed


async def test_a_chunked_body_reaches_a_server_of_http2_as_data_with_its_trailers(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        server = await accept_http2(world)
        head, data = server.take_streams()
        assert (head[3], data) == (False, ("data", 1, b"abc", False))
        client.send(b"2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
        await world.settle()
        assert server.take_streams() == [("data", 1, b"de", False), ("headers", 1, [(b"x-sum", b"5")], True)]
        server.send(server.headers(1, (*OK, ("content-length", "2")), is_end=False), server.data(1, b"ok", is_end=True))
        await world.settle()
        client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        client.send(b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n")
        await world.settle()
        assert [message[1] for message in server.take_streams()] == [3]
        client.lose()


async def test_a_body_with_a_length_ends_the_stream_with_its_last_byte(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 5\r\n\r\nabc")
        server = await accept_http2(world)
        client.send(b"de")
        await world.settle()
        assert [message[2:] for message in server.take_streams()[1:]] == [(b"abc", False), (b"de", True)]
        client.lose()


async def test_a_reset_in_the_middle_of_a_response_resets_the_client_of_http1(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n")
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"part"), rst_stream(1, INTERNAL_ERROR))
        await world.settle()
        assert client.transport.is_reset


async def test_an_offered_upgrade_is_not_sent_to_a_server_of_http2(open_h2c):
    async with open_h2c() as world:
        client = world.open_client()
        client.send(b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        server = await accept_http2(world)
        fields, _ = read_headers(server.take_streams())
        assert not {b"upgrade", b"connection"} & fields.keys()
        server.send(server.headers(1, OK))
        await world.settle()
        assert client.take().startswith(b"HTTP/1.1 200 ")
        client.lose()
