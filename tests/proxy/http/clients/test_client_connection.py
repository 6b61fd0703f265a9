"""Clients' connections: heads, pipelining, ends and time-outs."""

import pytest

from maesh_core.proxy.http.messages.request_head import CACHED_HEAD_LIMIT_BYTES
from maesh_core.proxy.http.messages.syntax import SMALL_HEAD_BYTES
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNKNOWN = b"GET / HTTP/1.1\r\nHost: unknown\r\n\r\n"


def read_status(answer):
    return int(answer.split(b" ", 2)[1])


async def ask(world, client, request=GET):
    client.send(request)
    return await world.accept()


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
async def test_what_is_no_request_is_refused_and_nothing_behind_it_is_read(world, request_, status):
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
async def test_a_refusal_is_the_same_for_a_request_split_anywhere(open_world, request_, status):
    for cut in range(1, len(request_)):
        async with open_world() as world:
            client = world.open_client()
            client.send(request_[:cut])
            client.send(request_[cut:])
            assert read_status(client.take()) == status, request_[:cut]


async def test_requests_split_at_every_byte_and_pipelined_give_the_same(open_world, forwarded):
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


async def test_a_request_that_comes_byte_by_byte_is_carried(world, forwarded):
    client = world.open_client()
    for byte in GET:
        client.send(bytes([byte]))
    server = await world.accept()
    server.expect(GET[:-2] + forwarded)


async def test_empty_lines_before_a_request_do_not_prolong_the_wait_for_it(world):
    client = world.open_client()
    for _ in range(30):
        for piece in (b"\r", b"\n", b"\r\n\r\n\r\n"):
            client.send(piece)
        world.advance(1.0)
    assert client.is_closed
    client.expect(b"")


async def test_heads_that_grow_too_large_are_refused_at_once_whole_or_in_pieces(open_world):
    settings = CarryingSettings(head_limit=1024, target_limit=256)
    line = b"GET /%b HTTP/1.1\r\n"
    exact = line % (b"x" * (256 - len(line) + 4))
    assert len(exact) == 258
    cases = [
        (exact + b"Host: a\r\n\r\n", 404),
        (exact.replace(b"/x", b"/xx") + b"Host: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1024 - 32) + b"\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1025 - 32) + b"\r\n\r\n", 431),
    ]
    for request, status in cases:
        for size in (1, 7, len(request)):
            async with open_world(settings=settings) as world:
                client = world.open_client()
                for start in range(0, len(request), size):
                    client.send(request[start : start + size])
                assert read_status(client.take()) == status


async def test_a_head_that_comes_again_is_read_once(world):
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


async def test_a_thousand_pipelined_answers_of_the_mesh_come_without_recursion(world):
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


async def test_a_client_that_ends_its_side_within_a_body_has_left(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    client.end()
    await world.settle()
    assert client.is_closed
    assert server.is_closed
    assert world.handler.current.table.counters["a"].statuses == {499: 1}


async def test_a_client_that_leaves_takes_its_connect_along(world):
    client = world.open_client()
    client.send(GET)
    await world.settle()
    client.lose()
    await world.settle()
    assert world.connects[0][2].cancelled()
    assert world.handler.current.table.counters["a"].statuses == {499: 1}


async def test_a_head_that_does_not_come_in_time_is_408(world):
    client = world.open_client()
    client.send(b"GET / HT")
    world.advance(9.0)
    client.send(b"TP/1.1\r\n")
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 408
    world.advance(5.0)
    assert client.is_closed


async def test_a_connection_without_a_request_is_closed_in_time_without_a_word(world):
    client = world.open_client()
    world.advance(10.0)
    assert client.is_closed
    client.expect(b"")


async def test_an_idle_connection_is_closed_in_time(world):
    client = world.open_client()
    client.send(UNKNOWN)
    world.advance(89.0)
    assert not client.is_closed
    world.advance(1.0)
    assert client.is_closed


async def test_a_body_that_stops_coming_is_408_and_counts_from_its_last_byte(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    world.advance(59.0)
    client.send(b"d")
    world.advance(59.0)
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 408
    assert server.is_closed


async def test_a_body_over_a_pooled_connection_is_waited_for_as_long_as_bodies_are(open_world):
    async with open_world(settings=CarryingSettings(response_timeout=5.0)) as world:
        await world.pool()
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\n")
        world.advance(59.0)
        client.expect(b"")
        world.advance(1.0)
        assert read_status(client.take()) == 408


async def test_a_server_that_does_not_take_a_body_is_504(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    server.stop_taking()
    world.advance(60.0)
    assert read_status(client.take()) == 504


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_response_that_does_not_come_is_504(world, is_pooled):
    if is_pooled:
        await world.pool()
    client = world.open_client()
    client.send(GET)
    server = world.servers[0] if is_pooled else await world.accept()
    world.advance(59.0)
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 504
    assert server.is_closed
    client.send(UNKNOWN)
    assert read_status(client.take()) == 404


async def test_a_client_that_does_not_take_the_end_is_cut(world):
    client = world.open_client()
    client.send(UNKNOWN[:-2] + b"Connection: close\r\n\r\n")
    assert client.transport.is_closing()
    assert not client.transport.is_aborted
    world.advance(60.0)
    assert client.transport.is_reset


async def test_what_a_refused_client_still_sends_is_thrown_away_for_a_while(world):
    client = world.open_client()
    client.send(b"\0\r\n\r\n")
    assert client.transport.has_ended
    client.send(b"x" * 100_000)
    world.advance(4.75)
    assert not client.is_closed
    world.advance(0.25)
    assert client.is_closed


async def test_a_client_that_goes_on_sending_behind_its_answer_is_read_for_longer_and_not_for_ever(world):
    client = world.open_client()
    client.send(b"\0\r\n\r\n")
    for _ in range(7):
        world.advance(4.0)
        client.send(b"x")
    world.advance(1.75)
    client.send(b"x")
    assert not client.is_closed
    world.advance(0.25)
    assert client.is_closed


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


async def test_abort_ends_exchanges_wherever_they_are(world):
    connecting, waiting = world.open_client(), world.open_client()
    server = await ask(world, waiting)
    connecting.send(GET)
    await world.settle()
    world.handler.abort()
    await world.settle()
    assert connecting.transport.is_reset
    assert waiting.transport.is_reset
    assert server.is_closed
    assert world.handler.current.table.counters["a"].statuses == {499: 2}
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


async def test_a_slow_client_is_closed_in_draining_once_it_has_taken_its_answer(world):
    client = world.open_client()
    client.send(UNKNOWN)
    client.stop_taking()
    world.handler.start_draining()
    assert not client.is_closed
    client.take_again()
    assert client.is_closed
    assert not client.transport.is_aborted


def make_head(fields):
    return b"GET / HTTP/1.1\r\nHost: unknown\r\n" + b"A: b\r\n" * (fields - 1) + b"\r\n"


@pytest.mark.parametrize(("fields", "status"), [(100, 404), (101, 431)])
async def test_a_request_with_too_many_fields_is_refused(open_world, fields, status):
    head = make_head(fields)
    for cut in (0, 1, 400, len(head) - 1):
        async with open_world() as world:
            client = world.open_client()
            if cut:
                client.send(head[:cut])
            client.send(head[cut:])
            assert read_status(client.take()) == status


async def test_no_small_head_has_more_fields_than_the_lowest_limit(open_world):
    smallest = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    assert (SMALL_HEAD_BYTES - len(smallest)) // len(b"a:\r\n") + 1 < 64
    async with open_world(settings=CarryingSettings(field_limit=64)) as world:
        client = world.open_client()
        client.send(make_head(64))
        assert read_status(client.take()) == 404
        client.send(make_head(65))
        assert read_status(client.take()) == 431


async def test_the_last_request_that_a_connection_may_carry_is_told_so(open_world):
    async with open_world(settings=CarryingSettings(request_limit=2)) as world:
        client = world.open_client()
        server = await ask(world, client, GET * 3)
        server.send(OK)
        client.expect(OK)
        server.send(OK)
        client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        assert server.take().count(b"GET / ") == 2
        assert client.transport.has_ended
        assert len(world.idle) == 1


def list_refused(world):
    metrics = {metric.name: metric.samples for metric in world.handler.collect_metrics()}
    return {reason: count for (reason,), count in metrics["maesh_http_refused_connections"]}


def count_evicted(world):
    (metric,) = [each for each in world.handler.collect_metrics() if each.name == "maesh_http_evicted_connections"]
    return metric.samples[0][1]


async def test_more_clients_than_may_be_are_closed_at_once_and_counted_where_none_is_idle(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=2)) as world:
        first, second = world.open_client(), world.open_client()
        await ask(world, first)
        await ask(world, second)
        third = world.open_client()
        assert [peer.is_closed for peer in (first, second, third)] == [False, False, True]
        third.expect(b"")
        first.lose()
        fourth = world.open_client()
        fourth.send(UNKNOWN)
        assert read_status(fourth.take()) == 404
        assert list_refused(world) == {"connection-limit": 1, "client-connection-limit": 0}
        assert count_evicted(world) == 0
        metrics = {metric.name: list(metric.samples) for metric in world.handler.collect_metrics()}
        assert (("client",), 2) in metrics["maesh_http_connections"]


async def test_without_slots_the_connection_that_was_idle_for_longest_is_closed_for_a_new_one(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=3, head_timeout=50.0)) as world:
        clients = []
        for _ in range(3):
            clients.append(world.open_client())
            world.advance(1.0)
        clients[0].send(UNKNOWN)
        world.advance(1.0)
        clients[1].send(UNKNOWN)
        order = [clients[2], clients[0], clients[1]]
        for position, oldest in enumerate(order, start=1):
            world.advance(0.25)
            newcomer = world.open_client()
            assert [peer.is_closed for peer in order] == [True] * position + [False] * (3 - position)
            assert not oldest.transport.is_aborted
            server = await ask(world, newcomer)
            server.send(PART)
        await world.settle()
        assert world.open_client().is_closed
        assert count_evicted(world) == 3
        assert list_refused(world)["connection-limit"] == 1


BUSY = {
    "bytes that it has not taken": lambda client: client.stop_taking(1),
    "a refusal that it has to read": lambda client: client.send(b"nonsense\r\n\r\n"),
}


@pytest.mark.parametrize("keep_busy", BUSY.values(), ids=BUSY)
async def test_a_connection_is_not_idle_that_has(open_world, keep_busy):
    async with open_world(settings=CarryingSettings(connection_limit=1)) as world:
        client = world.open_client()
        keep_busy(client)
        assert world.open_client().is_closed
        assert not client.is_closed
        assert count_evicted(world) == 0


async def test_without_slots_and_idle_connections_the_oldest_part_of_a_head_makes_room(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=4, head_timeout=50.0)) as world:
        parts = [GET[:-2], b"G", b"\r\nG"]
        clients = []
        for part in parts:
            clients.append(world.open_client())
            clients[-1].send(part)
            world.advance(1.0)
        clients.insert(0, world.open_client())
        for position in range(1, 5):
            world.advance(0.25)
            server = await ask(world, world.open_client())
            server.send(PART)
            assert [client.is_closed for client in clients] == [True] * position + [False] * (4 - position)
        assert count_evicted(world) == 4


async def test_a_connection_with_unsent_bytes_of_its_last_response_is_not_idle(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=1)) as world:
        client = world.open_client()
        client.transport.unsent_bytes = 1
        assert world.open_client().is_closed
        client.transport.unsent_bytes = 0
        world.advance(0.25)
        assert not world.open_client().is_closed
        assert client.is_closed


async def test_a_client_holds_no_more_connections_than_its_own_limit_and_others_are_served(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=9, client_connection_limit=2)) as world:
        clients = [world.open_client(address) for address in ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2")]
        assert [client.is_closed for client in clients] == [False, False, True, False]
        assert list_refused(world) == {"connection-limit": 0, "client-connection-limit": 1}
        clients[0].lose()
        assert not world.open_client("10.0.0.1").is_closed
        assert count_evicted(world) == 0


DISTINCT = CarryingSettings(body_timeout=10.0, upstream_body_timeout=20.0, response_timeout=30.0, idle_timeout=40.0)
UPLOAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc"
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"


async def test_a_client_and_a_server_have_their_own_time_for_bodies(open_world):
    async with open_world(settings=DISTINCT) as world:
        sends, reads, stalls, takes_none, waits = (world.open_client() for _ in range(5))
        servers = [await ask(world, client, UPLOAD) for client in (sends, takes_none)]
        servers[1].stop_taking()
        servers += [await ask(world, client) for client in (reads, stalls, waits)]
        servers[2].send(PART)
        servers[3].send(PART)
        reads.stop_taking()
        world.advance(10.0)
        assert read_status(sends.take()) == 408
        assert reads.transport.is_reset
        assert not stalls.is_closed
        takes_none.expect(b"")
        world.advance(10.0)
        assert stalls.transport.is_reset
        assert read_status(takes_none.take()) == 504
        waits.expect(b"")
        world.advance(10.0)
        assert read_status(waits.take()) == 504


async def test_a_server_has_its_own_time_again_once_a_slow_client_takes_more(open_world):
    async with open_world(settings=DISTINCT) as world:
        client = world.open_client()
        server = await ask(world, client)
        server.send(PART)
        client.stop_taking()
        world.advance(9.0)
        client.take_again()
        world.advance(19.0)
        assert not client.is_closed
        world.advance(1.0)
        assert client.transport.is_reset


async def test_whoever_takes_bytes_slowly_is_not_cut_for_it(open_world):
    async with open_world(settings=DISTINCT) as world:
        reads, sends, leaves = (world.open_client() for _ in range(3))
        (await ask(world, reads)).send(PART)
        server = await ask(world, sends, UPLOAD)
        leaves.send(UNKNOWN[:-2] + b"Connection: close\r\n\r\n")
        takers = [reads, server, leaves]
        for taker in takers:
            taker.stop_taking(1000)
        for left in (999, 500, 1):
            for taker in takers:
                taker.transport.unsent_bytes = left
            world.advance(20.0)
            assert not reads.transport.is_aborted
            assert not server.is_closed
            assert not leaves.transport.is_aborted
        world.advance(20.0)
        assert reads.transport.is_reset
        assert leaves.transport.is_reset
        assert read_status(sends.take()) == 504
