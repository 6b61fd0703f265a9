"""When a client is read, how much is done for it in one turn, and when it is taken to have left."""

import asyncio

import pytest

from maesh_core.proxy.http.clients.pacing import TURN_BYTES, TURN_REQUESTS
from maesh_core.proxy.http.messages.chunked import TURN_LINES
from maesh_core.proxy.http.transports import FULL_READ_BYTES, HELD_LIMIT_BYTES, TURN_READS
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNKNOWN = b"GET / HTTP/1.1\r\nHost: unknown\r\n\r\n"


def read_status(answer):
    return int(answer.split(b" ", 2)[1])


async def ask(world, client, request=GET):
    client.send(request)
    return await world.accept()


async def test_a_client_that_pipelines_gets_few_answers_per_turn_and_is_not_read_meanwhile(world):
    greedy, other = world.open_client(), world.open_client()
    greedy.send(UNKNOWN * 20)
    assert greedy.take().count(b"HTTP/1.1 404 ") == TURN_REQUESTS + 1  # a whole head that comes first needs no turn
    assert not greedy.transport.is_reading
    other.send(UNKNOWN)
    assert read_status(other.take()) == 404
    await asyncio.sleep(0)
    assert greedy.take().count(b"HTTP/1.1 404 ") == TURN_REQUESTS
    await world.settle()
    assert greedy.take().count(b"HTTP/1.1 404 ") == 20 - 2 * TURN_REQUESTS - 1
    assert greedy.transport.is_reading


async def test_large_heads_end_a_turn_earlier(world):
    client = world.open_client()
    large = UNKNOWN[:-2] + b"X: " + b"x" * TURN_BYTES + b"\r\n\r\n"
    client.send(UNKNOWN + large * 3)
    assert client.take().count(b"HTTP/1.1 404 ") == 2
    await world.settle()
    assert client.take().count(b"HTTP/1.1 404 ") == 2


async def test_a_client_that_rests_is_served_no_further_request_until_it_has_rested(world, pass_time):
    slow, other = world.open_client(), world.open_client()
    slow.send(UNKNOWN[:9])
    slow.transport.protocol.rest(0.25)
    assert not slow.transport.is_reading
    slow.transport.protocol.data_received(UNKNOWN[9:] + UNKNOWN * 2)
    other.send(UNKNOWN)
    assert read_status(other.take()) == 404
    assert not slow.take()
    pass_time(0.25)
    assert slow.take().count(b"HTTP/1.1 404 ") == 3
    assert slow.transport.is_reading


async def test_a_client_that_leaves_while_it_rests_is_forgotten(world, pass_time):
    client = world.open_client()
    client.transport.protocol.rest(1.0)
    client.lose()
    pass_time(1.0)
    assert not world.handler.environment.clients


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n"
TINY = b"1\r\nz\r\n"
LAST = b"0\r\n\r\n"


@pytest.mark.parametrize("is_pipelined", [False, True])
async def test_a_body_of_tiny_chunks_passes_a_few_per_turn_and_is_whole(world, is_pipelined):
    await world.pool()
    server = world.servers[0]
    client = world.open_client()
    body = TINY * 100 + LAST
    if is_pipelined:
        client.send(CHUNKED_HEAD + body + GET)
    else:
        client.send(CHUNKED_HEAD)
        client.send(body + GET)
    first = server.take().partition(b"\r\n\r\n")[2]
    assert first == TINY * (TURN_LINES // 2)
    assert not client.transport.is_reading
    await asyncio.sleep(0)
    assert server.take() == TINY * (TURN_LINES // 2)
    await world.settle()
    assert first * 2 + server.take() == body
    server.send(OK)
    await world.settle()
    assert server.take().startswith(b"GET / ")
    server.send(OK)
    client.expect(OK + OK)
    assert client.transport.is_reading


async def test_a_slow_server_holds_up_a_body_of_tiny_chunks_between_its_turns(world):
    await world.pool()
    server = world.servers[0]
    client = world.open_client()
    client.send(CHUNKED_HEAD)
    client.send(TINY * 100 + LAST)
    server.take()
    server.stop_taking()
    await world.settle()
    server.expect(b"")
    assert not client.transport.is_reading
    server.take_again()
    await world.settle()
    assert server.take() == TINY * (100 - TURN_LINES // 2) + LAST
    assert client.transport.is_reading


async def test_a_malformed_chunk_in_a_later_turn_is_refused(world):
    await world.pool()
    client = world.open_client()
    client.send(CHUNKED_HEAD)
    client.send(TINY * 100 + b"x\r\n")
    client.expect(b"")
    await world.settle()
    assert read_status(client.take()) == 400
    assert world.servers[0].is_closed


async def test_a_large_body_leaves_the_loop_to_others_after_a_few_full_reads(world):
    await world.pool()
    client = world.open_client()
    read = b"x" * FULL_READ_BYTES
    client.send(CHUNKED_HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % (10 * len(read))))
    for _ in range(TURN_READS):
        assert client.transport.is_reading
        client.send(read)
    assert not client.transport.is_reading
    await world.settle()
    assert client.transport.is_reading
    for _ in range(10 - TURN_READS):
        client.send(read)
        await world.settle()
    world.servers[0].send(OK)
    client.expect(OK)


async def test_a_server_that_is_slow_keeps_a_client_unread_when_its_turn_has_come(world):
    await world.pool()
    client, server = world.open_client(), world.servers[0]
    read = b"x" * FULL_READ_BYTES
    client.send(CHUNKED_HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % (10 * len(read))))
    for _ in range(TURN_READS):
        client.send(read)
    server.stop_taking()
    await world.settle()
    assert not client.transport.is_reading
    server.take_again()
    assert client.transport.is_reading


async def test_a_client_that_pipelines_much_is_not_read_until_its_bytes_are_due(world):
    client = world.open_client()
    server = await ask(world, client)
    client.send(UNKNOWN * 1000)
    assert client.transport.is_reading
    client.send(UNKNOWN * 1000)
    assert not client.transport.is_reading
    server.send(OK)
    await world.settle()
    assert client.transport.is_reading
    assert client.take().count(b"HTTP/1.1 404 ") == 2000


async def test_a_client_that_pipelines_but_takes_no_answers_is_not_read(world):
    client = world.open_client()
    client.send(UNKNOWN)
    client.take()
    client.stop_taking()
    client.send(UNKNOWN * 2000)
    client.expect(b"")
    assert not client.transport.is_reading
    client.take_again()
    await world.settle()
    assert client.take().count(b"HTTP/1.1 404 ") == 2000
    assert client.transport.is_reading


async def test_a_client_that_takes_no_answers_is_cut_in_time(world):
    client = world.open_client()
    client.send(UNKNOWN)
    client.stop_taking()
    client.send(UNKNOWN)
    world.advance(91.0)
    assert client.transport.is_reset


SERVING = CarryingSettings(node="node", half_closed_clients="serve")


async def test_a_half_closed_client_gets_all_its_answers_and_then_the_end_where_it_is_served(open_world):
    async with open_world(settings=SERVING) as world:
        client = world.open_client()
        server = await ask(world, client, GET + UNKNOWN + GET)
        client.end()
        assert not client.is_closed
        server.send(OK)
        answer = client.take()
        assert answer.startswith(OK + b"HTTP/1.1 404 ")
        server.send(OK)
        client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        assert client.is_closed


@pytest.mark.parametrize("rest", [b"", b"GE", GET[:-1]])
async def test_a_half_closed_client_is_closed_once_it_is_answered_where_it_is_served(open_world, rest):
    async with open_world(settings=SERVING) as world:
        client = world.open_client()
        server = await ask(world, client, GET + rest)
        client.end()
        server.send(OK)
        assert client.take().endswith(b"ok")
        assert client.is_closed


LATER = {
    "while its server is connected to": None,
    "while it waits for a response": b"",
    "within a response": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("response", LATER.values(), ids=LATER)
@pytest.mark.parametrize("is_read", [True, False])
async def test_a_client_that_ends_its_side_has_left_and_its_request_ends_at_once(world, response, is_read):
    client = world.open_client()
    client.send(GET + (b"" if is_read else b"GET" + b" " * HELD_LIMIT_BYTES))
    await world.settle()
    if response is not None:
        server = await world.accept()
        server.send(response)
    assert client.transport.is_reading is is_read
    if is_read:
        client.end()
    else:
        client.leave_unread()
    await world.settle()
    assert client.is_closed
    assert all(server.is_closed for server in world.servers)
    assert not any(server.opened for server in world.handler._servers.values())
    assert world.handler.current.table.counters["a"].statuses.by_status == {499: 1}
    client.send(GET)
    assert len(world.servers) == (0 if response is None else 1)


async def test_a_client_that_ends_its_side_is_sent_what_was_answered_before(world):
    client = world.open_client()
    client.send(UNKNOWN * 2)
    client.stop_taking()
    client.send(UNKNOWN)
    client.end()
    assert client.transport.is_closing()
    assert not client.transport.is_aborted
    assert client.take().count(b"HTTP/1.1 404 ") == 2
    client.transport.unsent_bytes = 0


async def test_a_connection_that_breaks_unread_ends_its_exchange_where_half_closed_clients_are_served(open_world):
    async with open_world(settings=SERVING) as world:
        client = world.open_client()
        server = await ask(world, client, GET + b"GET" + b" " * HELD_LIMIT_BYTES)
        client.leave_unread()
        assert not client.is_closed
        client.leave_unread(is_broken=True)
        await world.settle()
        assert client.is_closed
        assert server.is_closed
        assert world.handler.current.table.counters["a"].statuses.by_status == {499: 1}


async def test_a_client_that_is_read_again_is_not_watched_any_more(world):
    client = world.open_client()
    server = await ask(world, client, GET + UNKNOWN * 2000)
    assert list(world.peer_watch.watched) == [client.transport]
    server.send(OK)
    await world.settle()
    assert client.transport.is_reading
    assert not world.peer_watch.watched


async def test_a_client_that_ends_its_side_within_a_pipelined_body_has_left(open_world):
    async with open_world(settings=SERVING) as world:
        client = world.open_client()
        body = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc"
        server = await ask(world, client, GET + body)
        client.end()
        server.send(OK)
        client.expect(OK)
        await world.settle()
        assert client.is_closed
        assert server.is_closed
        assert world.handler.current.table.counters["a"].statuses.by_status == {200: 1, 499: 1}
