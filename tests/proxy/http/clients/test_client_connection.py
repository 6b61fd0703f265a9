"""Clients' connections: heads, pipelining, and how connections end."""

import pytest

from maesh_core.proxy.http.messages.request_head import CACHED_HEAD_LIMIT_BYTES
from maesh_core.settings import CarryingSettings

from .client_requests import GET, OK, UNKNOWN, ask, read_status

REFUSED = {
    "no version": (b"GET /\r\n\r\n", 400),
    "HTTP 0.9": (b"GET / HTTP/0.9\r\n\r\n", 505),
    "HTTP 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "HTTP 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF in a field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "connect": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    "connect to a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "expectation": (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1", 400),
    "length and coding": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
async def test_an_invalid_request_is_refused_and_later_bytes_are_not_read(open_world, request_, status):
    async with open_world(settings=CarryingSettings(http2=False)) as world:
        client = world.open_client()
        client.send(request_ + GET)
        answer = client.take()
        assert read_status(answer) == status
        assert answer.count(b"Content-Length: ") == 1
        assert b"Connection: close\r\n" in answer
        client.send(GET)
        assert client.take() == b""
        assert not world.connects


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_split_anywhere_is_refused_alike(open_world, request_, status):
    for cut in range(1, len(request_)):
        async with open_world(settings=CarryingSettings(http2=False)) as world:
            client = world.open_client()
            client.send(request_[:cut])
            client.send(request_[cut:])
            assert read_status(client.take()) == status, request_[:cut]


async def test_pipelined_requests_split_at_every_byte_have_the_same_result(open_world, forwarded):
    pipeline = (
        b"\r\nPOST /1 HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n\r\nabc"
        + UNKNOWN
        + b"\r\n\r\nPUT /2 HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        + GET
    )
    stories = set()
    for cut in range(len(pipeline)):
        async with open_world() as world:
            client = world.open_client()
            client.send(pipeline[: cut + 1])
            if cut + 1 < len(pipeline):
                client.send(pipeline[cut + 1 :])
            server = await world.accept()
            got = []
            for _ in range(3):
                got.append(server.take())
                server.send(OK)
            stories.add((tuple(got), client.take()))
    ((requests, answers),) = stories
    assert requests == (
        b"POST /1 HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n" + forwarded + b"abc",
        b"PUT /2 HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n"
        + forwarded
        + b"3\r\nabc\r\n0\r\n\r\n",
        GET[:-2] + forwarded,
    )
    first, unknown, rest = answers.partition(b"HTTP/1.1 404 Not Found\r\n")
    assert first == OK
    assert unknown
    assert rest.endswith(OK + OK)


async def test_a_request_that_arrives_byte_by_byte_is_forwarded(world, forwarded):
    client = world.open_client()
    for byte in GET:
        client.send(bytes([byte]))
    server = await world.accept()
    server.expect(GET[:-2] + forwarded)


async def test_empty_lines_before_a_request_do_not_extend_its_time_out(world):
    client = world.open_client()
    for _ in range(30):
        for piece in (b"\r", b"\n", b"\r\n\r\n\r\n"):
            client.send(piece)
        world.advance(1.0)
    assert client.is_closed
    client.expect(b"")


async def test_a_repeated_head_is_parsed_once(world):
    client, heads = world.open_client(), []
    other = GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
    large = GET.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"x" * CACHED_HEAD_LIMIT_BYTES))
    for request in (GET, GET, other, GET, large, large):
        client.send(request)
        heads.append(client.protocol.exchange.head)
        server = world.servers[0] if world.servers else await world.accept()
        assert server.take().startswith(request[:-2])
        server.send(OK)
        client.expect(OK)
    assert heads[0] is heads[1] is not heads[3] == heads[0]
    assert heads[4] is not heads[5] == heads[4]


async def test_a_thousand_pipelined_answers_of_the_proxy_cause_no_recursion(world):
    client = world.open_client()
    client.send(UNKNOWN * 1000)
    await world.settle()
    assert client.take().count(b"HTTP/1.1 404 ") == 1000
    assert not client.is_closed


async def test_pipelined_answers_come_in_order(world):
    client = world.open_client()
    server = await ask(world, client, UNKNOWN + GET + UNKNOWN + GET.replace(b"/ ", b"/2 "))
    assert read_status(client.take()) == 404
    assert server.take().startswith(b"GET / ")
    server.send(OK)
    answer = client.take()
    assert answer.startswith(OK + b"HTTP/1.1 404 ")
    assert server.take().startswith(b"GET /2 ")
    server.send(OK.replace(b"ok", b"no"))
    assert client.take().endswith(b"no")


async def test_a_client_that_ends_its_side_within_a_body_counts_as_gone(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    client.end()
    await world.settle()
    assert client.is_closed
    assert server.is_closed
    assert world.handler.current.table.counters["a"].statuses.by_status == {499: 1}


async def test_a_client_that_leaves_cancels_its_connect(world):
    client = world.open_client()
    client.send(GET)
    await world.settle()
    client.lose()
    await world.settle()
    assert world.connects[0][2].cancelled()
    assert world.handler.current.table.counters["a"].statuses.by_status == {499: 1}


async def test_draining_closes_idle_connections_and_lets_the_others_end(world):
    idle, busy, begun = world.open_client(), world.open_client(), world.open_client()
    idle.send(UNKNOWN)
    begun.send(GET[:10])
    server = await ask(world, busy)
    world.handler.start_draining()
    await world.settle()
    assert idle.is_closed
    assert not world.handler.is_drained()
    server.send(OK)
    busy.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    assert busy.is_closed
    begun.send(GET[10:])
    world.servers[0].send(OK)
    assert b"Connection: close\r\n" in begun.take()
    await world.settle()
    assert world.handler.is_drained()


async def test_abort_ends_exchanges_in_every_state(world):
    connecting, waiting = world.open_client(), world.open_client()
    server = await ask(world, waiting)
    connecting.send(GET)
    await world.settle()
    world.handler.abort()
    await world.settle()
    assert connecting.transport.is_reset
    assert waiting.transport.is_reset
    assert server.is_closed
    assert world.handler.current.table.counters["a"].statuses.by_status == {499: 2}
    assert world.handler.is_drained()


async def test_refusals_and_unknown_hosts_are_counted(world):
    client = world.open_client()
    client.send(UNKNOWN + b"\0\r\n\r\n")
    samples = {
        metric.name: list(metric.samples)
        for metric in world.handler.collect_metrics()
        if metric.name == "maesh_http_refused_requests"
    }
    assert samples == {"maesh_http_refused_requests": [(("400",), 1), (("404",), 1)]}


async def test_draining_closes_a_slow_client_after_it_has_read_its_answer(world):
    client = world.open_client()
    client.send(UNKNOWN)
    client.stop_taking()
    world.handler.start_draining()
    assert not client.is_closed
    client.take_again()
    assert client.is_closed
    assert not client.transport.is_aborted
