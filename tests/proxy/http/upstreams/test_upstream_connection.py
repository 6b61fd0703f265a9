"""Connections to servers: responses, framing, and what a server must not be able to do."""

import pytest

from maesh_core.settings import CarryingSettings

from .upstream_messages import CHUNKED, GET, OK, POST, ask, is_502

GET_1_0 = b"GET / HTTP/1.0\r\nHost: a.test.maesh\r\n\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
RESPONSES = {
    "length": (GET, OK, OK),
    "no body": (GET, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a length": (
        GET,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    "not modified": (GET,) + (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",) * 2,
    "HEAD": (HEAD,) + (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",) * 2,
    "HEAD chunked": (HEAD, CHUNKED, CHUNKED),
    "HEAD without a length": (HEAD,) + (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n",) * 2,
    "chunked": (GET,) + (CHUNKED + b"2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",) * 2,
    "hop by hop": (
        GET,
        b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nX: y\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"Upgrade: h2c\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok",
    ),
    "no reason": (GET,) + (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",) * 2,
    "informational": (GET,) + (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK,) * 2,
    "1.0 kept alive": (
        GET,
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        OK,
    ),
    "to a 1.0 client kept alive": (
        GET_1_0[:-2] + b"Connection: keep-alive\r\n\r\n",
        OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
    ),
}


@pytest.mark.parametrize(("request_", "response", "wanted"), RESPONSES.values(), ids=RESPONSES)
async def test_a_response_split_anywhere_is_forwarded_and_its_connection_pooled(open_world, request_, response, wanted):
    for cut in range(len(response)):
        async with open_world() as world:
            client, server = await ask(world, request_)
            server.send(response[: cut + 1])
            if cut + 1 < len(response):
                server.send(response[cut + 1 :])
            client.expect(wanted)
            assert not client.is_closed
            assert world.idle == [server.protocol]
            assert world.handler.current.table.counters["a"].statuses.by_status == {
                int(wanted.rpartition(b"HTTP/1.1 ")[2][:3]): 1
            }


CLOSING = {
    "closed by the client": (
        GET[:-2] + b"Connection: close\r\n\r\n",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
    "1.0": (GET_1_0, OK, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"),
    "chunked to 1.0": (
        GET_1_0,
        CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
    ),
    "HEAD chunked to 1.0": (
        GET_1_0.replace(b"GET", b"HEAD"),
        CHUNKED,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ),
    "informational to 1.0": (
        GET_1_0,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ),
}


@pytest.mark.parametrize(("request_", "response", "wanted"), CLOSING.values(), ids=CLOSING)
async def test_a_client_without_keep_alive_gets_its_response_and_a_close(open_world, request_, response, wanted):
    for cut in range(len(response)):
        async with open_world() as world:
            client, server = await ask(world, request_)
            server.send(response[: cut + 1])
            if cut + 1 < len(response):
                server.send(response[cut + 1 :])
            client.expect(wanted)
            assert client.is_closed
            assert not client.transport.is_aborted
            assert world.idle == [server.protocol]


BROKEN = {
    "no HTTP": b"hello\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP 2": b"HTTP/2.0 200 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 No\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "switching to nothing": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "17 informational": b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
    "bad chunk": CHUNKED + b"xyz\r\n",
    "large head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536,
    "large whole head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536 + b"\r\n\r\n",
}


@pytest.mark.parametrize("response", BROKEN.values(), ids=BROKEN)
async def test_an_invalid_response_is_502_and_closes_the_connection_to_the_server(world, response):
    client, server = await ask(world)
    server.send(response)
    assert is_502(client.take().replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
    assert server.is_closed
    assert not client.is_closed
    assert not world.idle


@pytest.mark.parametrize("end", [None, ConnectionResetError()])
async def test_a_response_until_the_close_is_complete_at_a_close_and_cut_at_a_reset(world, end):
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nsome")
    client.expect(b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nsome")
    server.send(b"thing")
    client.expect(b"thing")
    server.lose(end)
    assert client.is_closed
    assert client.transport.is_reset is (end is not None)


@pytest.mark.parametrize("begin", [OK[:-1], CHUNKED + b"2\r\nok\r\n", CHUNKED + b"0\r\n"])
@pytest.mark.parametrize("end", [None, ConnectionResetError()])
async def test_a_truncated_body_is_cut_and_never_completed(world, begin, end):
    client, server = await ask(world)
    server.send(begin)
    client.expect(begin)
    server.lose(end)
    client.expect(b"")
    assert client.transport.is_reset


async def test_a_body_with_invalid_chunks_is_cut(world):
    client, server = await ask(world)
    server.send(CHUNKED + b"2\r\nok\r\n")
    client.take()
    server.send(b"2\nok\r\n")
    assert client.transport.is_reset
    assert server.is_closed
    client.expect(b"")


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"Host", b"X-Forwarded-For"])
async def test_trailers_may_not_change_how_a_message_is_read(world, name):
    client, server = await ask(world)
    server.send(CHUNKED + b"0\r\n")
    client.take()
    server.send(name + b": 1\r\n\r\n")
    assert client.transport.is_reset


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionRefusedError(), b"502"),
        (OSError("no route"), b"502"),
        (UnicodeError("label too long"), b"502"),
        (OverflowError("port"), b"502"),
        (TimeoutError(), b"504"),
    ],
)
async def test_a_failed_connect_is_answered(world, error, status):
    client = world.open_client()
    client.send(POST)
    await world.refuse(error)
    assert client.take().startswith(b"HTTP/1.1 " + status)
    assert not client.is_closed


async def test_a_slow_connect_is_504(open_world):
    async with open_world(settings=CarryingSettings(connect_timeout=0.001)) as world:
        client = world.open_client()
        client.send(GET)
        (pending,) = next(iter(world.handler._servers.values()))._connecting.values()
        await pending.task
        assert client.take().startswith(b"HTTP/1.1 504 ")


async def test_an_early_response_is_forwarded_and_neither_connection_is_reused(world):
    client, server = await ask(world, POST.replace(b"3", b"9"))
    server.send(OK)
    client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert server.is_closed
    client.send(b"defghi" + GET)
    client.expect(b"")
    world.advance(5.0)
    assert client.is_closed


async def test_a_request_body_is_forwarded_after_the_head_of_an_early_response(world):
    client, server = await ask(world, POST.replace(b"3", b"9"))
    server.send(CHUNKED)
    server.take()
    client.send(b"defghi")
    server.expect(b"defghi")
    server.send(b"0\r\n\r\n")
    client.expect(CHUNKED[:-2] + b"Connection: close\r\n\r\n0\r\n\r\n")
    assert client.is_closed


async def test_a_reset_while_a_body_is_sent_is_502(world):
    client, server = await ask(world, POST.replace(b"3", b"9"))
    server.lose(ConnectionResetError())
    assert is_502(client.take())
    assert client.transport.has_ended


@pytest.mark.parametrize(("fields", "status"), [(100, 200), (101, 502)])
async def test_a_response_with_too_many_fields_is_502(world, fields, status):
    client = world.open_client()
    client.send(GET)
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"A: b\r\n" * (fields - 1) + b"\r\n")
    assert client.take().startswith(b"HTTP/1.1 %d " % status)
    assert server.is_closed == (status == 502)
