"""Exchanges: what goes upstream, bodies on their way, expectations and trailers."""

import pytest

from maesh_core.proxy.http.clients.client_connection import BODY_WITH_HEAD_LIMIT_BYTES
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


async def ask(world, request=GET):
    client = world.open_client()
    client.send(request)
    return client, await world.accept()


def get_status(client):
    return int(client.take().split(b" ", 2)[1])


# --- what goes upstream

PASSING = {
    "hop by hop": (
        b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nTE: trailers\r\nX: y\r\nConnection: x-hop, TE\r\nX-Hop: 1\r\n"
        b"Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nX: y\r\n",
    ),
    "1.0": (b"GET / HTTP/1.0\r\nhost: a.test.maesh\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n"),
    "end to end as it came": (
        b"GET /%2e/?a#"[:-1] + b" HTTP/1.1\r\nx: \xff Y \r\nhost:a.test.maesh\r\nConnection: keep-alive\r\n\r\n",
        b"GET /%2e/?a HTTP/1.1\r\nx: \xff Y \r\nhost:a.test.maesh\r\n",
    ),
    "framing that Connection names": (
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: transfer-encoding, host\r\n"
        b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n",
    ),
    "expectation": (
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\nExpect: 100-continue\r\n",
    ),
    "absolute": (
        b"GET http://A.test.maesh?x HTTP/1.1\r\nHost: other\r\nX: y\r\n\r\n",
        b"GET /?x HTTP/1.1\r\nHost: A.test.maesh\r\nX: y\r\n",
    ),
    "asterisk": (
        b"OPTIONS * HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a.test.maesh\r\n",
    ),
}


@pytest.mark.parametrize(("request_", "wanted"), PASSING.values(), ids=PASSING)
async def test_what_is_end_to_end_goes_upstream_and_nothing_else(world, request_, wanted):
    _, server = await ask(world, request_)
    head, _, _ = server.take().partition(b"X-Forwarded-For")
    assert head == wanted


async def test_forwarded_fields_are_appended_to_or_kept_or_set(world):
    sent = (
        b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Host: public\r\n"
        b"X-Forwarded-Proto: https\r\nX-Real-Ip: 1.1.1.1\r\nX-Forwarded-Server: liar\r\n"
    )
    _, server = await ask(world, GET[:-2] + sent + b"\r\n")
    server.expect(
        GET[:-2]
        + b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\nX-Forwarded-Host: public\r\nX-Forwarded-Port: 443\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Server: node\r\nX-Real-Ip: 1.1.1.1\r\n\r\n"
    )


CLAIMS = (
    b"X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nX-FORWARDED-HOST: public\r\nX-Forwarded-Host: other\r\n"
    b"X-Forwarded-Proto: https\r\nX-Real-Ip: 1.1.1.1\r\nx-real-ip: 2.2.2.2\r\nForwarded: for=1.1.1.1\r\n"
    b"forwarded: for=2.2.2.2\r\nX-Forwarded-Prefix: /admin\r\nX_Forwarded_For: 3.3.3.3\r\nX-Forwarded_Proto: https\r\n"
)
ASK = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n"


@pytest.mark.parametrize("trusted", [(), ("10.0.1.0/24",)])
async def test_all_forwarded_fields_of_a_client_that_is_not_trusted_are_replaced(open_world, forwarded, trusted):
    async with open_world(settings=CarryingSettings(node="node", forwarded_headers=trusted)) as world:
        client = world.open_client()
        client.send((ASK + CLAIMS + b"X_Own: 1\r\n\r\n") * 2)
        server = await world.accept()
        for _ in range(2):  # pipelined, and the second over the pooled connection
            server.expect(ASK + b"X_Own: 1\r\n" + forwarded)
            server.send(OK)
        client.expect(OK * 2)


async def test_forwarded_fields_are_kept_from_the_networks_that_are_set_alone(open_world):
    settings = CarryingSettings(node="node", forwarded_headers=("10.0.0.0/8",))
    async with open_world(settings=settings) as world:
        for address, first in (("10.0.0.9", b"1.1.1.1, "), ("::ffff:10.0.0.9", b"1.1.1.1, "), ("11.0.0.9", b"")):
            client = world.open_client(address)
            client.send(ASK + b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Prefix: /\r\n\r\n")
            server = await world.accept()
            got = server.take()
            assert b"\r\nX-Forwarded-For: " + first + address.encode() + b"\r\n" in got
            assert [name in got for name in (b"\r\nForwarded: ", b"Prefix: ")] == [bool(first)] * 2


async def test_forwarded_port_is_that_of_the_host(world):
    _, server = await ask(world, b"GET / HTTP/1.1\r\nHost: A.Test.maesh.:8080\r\n\r\n")
    assert b"\r\nX-Forwarded-Host: A.Test.maesh.:8080\r\nX-Forwarded-Port: 8080\r\n" in server.take()


# --- bodies

CHUNKED = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [3, BODY_WITH_HEAD_LIMIT_BYTES, BODY_WITH_HEAD_LIMIT_BYTES + 1])
async def test_a_small_body_that_comes_with_its_head_goes_on_with_it_in_one_write(world, size):
    await world.pool()
    server, client = world.servers[0], world.open_client()
    body = b"x" * size
    client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: %d\r\n\r\n" % size + body)
    writes = [line for line in world.transcript if line.startswith(f"to {server.transport.name}:")][1:]
    assert len(writes) == (1 if size <= BODY_WITH_HEAD_LIMIT_BYTES else 2)
    assert server.take().endswith(b"\r\n\r\n" + body)
    server.send(OK)
    client.expect(OK)


async def test_a_body_is_held_within_bounds_while_there_is_no_server(world):
    client = world.open_client()
    client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 300000\r\n\r\n")
    client.send(b"x" * 65536)
    assert client.transport.is_reading
    client.send(b"x")
    assert not client.transport.is_reading
    server = await world.accept()
    assert client.transport.is_reading
    assert len(server.take().partition(b"\r\n\r\n")[2]) == 65537


@pytest.mark.parametrize("body", [b"xyz\r\n", b"-1\r\n", b"1\nx\r\n", b"0x1\r\n", b"1\r\nxy", b"0\r\nHost: b\r\n\r\n"])
async def test_a_body_that_is_not_chunked_as_it_should_be_is_400_and_goes_no_further(world, body):
    client = world.open_client()
    client.send(CHUNKED + body + GET)
    await world.settle()
    assert get_status(client) == 400
    assert client.transport.has_ended
    assert not world.connects or world.connects[0][2].cancelled()


async def test_a_body_that_breaks_on_its_way_is_400_and_ends_the_connection_to_the_server(world):
    client, server = await ask(world, CHUNKED + b"1\r\nx\r\n")
    client.send(b"1\r\nxyz")
    assert get_status(client) == 400
    assert server.is_closed


async def test_a_body_that_breaks_behind_a_begun_response_cuts_it(world):
    client, server = await ask(world, CHUNKED)
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.take()
    client.send(b"xyz\r\n")
    client.expect(b"")
    assert client.transport.is_reset
    assert server.is_closed


@pytest.mark.parametrize(("size", "status"), [(10, 200), (11, 413)])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_larger_than_may_be_is_413_and_goes_no_further(open_world, size, status, *, is_chunked):
    async with open_world(settings=CarryingSettings(body_limit=10)) as world:
        await world.pool()
        client, (server,) = world.open_client(), world.servers
        if is_chunked:
            client.send(CHUNKED)
            client.send(b"9\r\n123456789\r\n")
            client.send(b"%x\r\n" % (size - 9))
            if status == 200:
                client.send(b"0\r\n0\r\n\r\n")
        else:
            client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        if status == 200:
            server.send(OK)
        answer = client.take()
        assert int(answer.split(b" ", 2)[1]) == status
        assert (b"Connection: close" in answer) == (status == 413)
        assert server.is_closed == (is_chunked and status == 413)
        assert world.handler.current.table.counters["a"].statuses.by_status[status] == 1 + (status == 200)
        assert not world.connects


# --- middlewares


async def test_a_host_without_servers_is_503_and_a_closed_one_what_it_says(world):
    world.apply(servers=0)
    client = world.open_client()
    client.send(GET)
    assert get_status(client) == 503
    assert not client.is_closed


# --- Expect: 100-continue, and trailers

EXPECTING = POST[:-5] + b"Expect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_an_expectation_and_its_100_go_through_and_then_the_body_and_the_next_request(world):
    client, server = await ask(world, EXPECTING)
    head = server.take()
    assert b"\r\nExpect: 100-continue\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    server.send(CONTINUE)
    client.expect(CONTINUE)
    client.send(b"abc" + GET)
    server.expect(b"abc")
    server.send(OK)
    client.expect(OK)
    assert server.take().startswith(b"GET / ")
    server.send(OK)
    client.expect(OK)


async def test_a_final_answer_in_place_of_a_100_ends_the_connection_and_the_body_is_no_request(world):
    client, server = await ask(world, EXPECTING)
    server.send(BUSY)
    client.expect(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    client.send(GET)
    assert client.transport.has_ended
    assert server.is_closed
    assert not world.idle
    assert not world.connects


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
async def test_an_expectation_that_met_a_stale_connection_is_sent_once_more_without_its_body(world, method):
    stale = await world.pool()
    client = world.open_client()
    client.send(EXPECTING.replace(b"POST", method))
    head = stale.take()
    stale.lose()
    server = await world.accept()
    server.expect(head)
    server.send(CONTINUE)
    client.expect(CONTINUE)
    client.send(b"abc")
    server.expect(b"abc")
    server.send(OK)
    client.expect(OK)


@pytest.mark.parametrize("is_continued", [False, True])
async def test_a_body_that_was_sent_or_asked_for_is_not_sent_again(world, is_continued):
    stale = await world.pool()
    client = world.open_client()
    client.send(EXPECTING)
    if is_continued:
        stale.send(CONTINUE)
        client.expect(CONTINUE)
    else:
        client.send(b"a")
    stale.lose()
    await world.settle()
    assert get_status(client) == 502
    assert not world.connects


async def test_the_side_that_delays_a_100_or_the_body_after_it_is_blamed(open_world):
    async with open_world(settings=CarryingSettings(body_timeout=10.0, response_timeout=30.0)) as world:
        silent, slow = [await ask(world, EXPECTING) for _ in range(2)]
        slow[1].send(CONTINUE)
        slow[0].expect(CONTINUE)
        world.advance(10.0)
        assert get_status(slow[0]) == 408
        silent[0].expect(b"")
        world.advance(20.0)
        assert get_status(silent[0]) == 504
        assert silent[1].is_closed


async def test_trailers_go_through_both_ways_in_front_of_pipelined_messages_however_they_are_split(open_world):
    chunks = b"3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"
    request = CHUNKED[:-2] + b"Trailer: X-Sum\r\n\r\n" + chunks
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + chunks
    for cut in range(1, len(request)):
        async with open_world() as world:
            client = world.open_client()
            client.send(request[:cut])
            client.send(request[cut:] + GET)
            server = await world.accept()
            assert server.take().endswith(b"\r\n\r\n" + chunks)
            server.send(response[:cut])
            server.send(response[cut:])
            client.expect(response)
            assert server.take().startswith(b"GET / ")
            server.send(OK)
            client.expect(OK)
            assert len(world.idle) == 1
