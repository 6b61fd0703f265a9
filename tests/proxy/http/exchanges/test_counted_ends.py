"""A request that a side cuts, or that becomes a tunnel, is counted once, with what was sent until then; over HTTP/1."""

import pytest

from maesh_core.model.traffic_record import CLIENT_LEFT, PROXY_ENDED
from maesh_core.proxy.http.answers import (
    CLOSED_LATE,
    NOT_READ,
    OTHER_PROTOCOL,
    RESPONSE_TIMEOUT,
)

from .counted_requests import CHUNKED, FIRST, SWITCHING, UPGRADE, describe_answer
from .middleware_doubles import GET, POST, ask


async def test_a_client_that_leaves_before_a_connection_has_an_attempt_without_an_outcome(world, observe):
    observed = observe(world)
    client = world.open_client()
    client.send(GET)
    client.lose()
    observed.expect_one(status=499, reason=CLIENT_LEFT, upstream_s=None, outcomes={})


async def test_a_client_that_leaves_before_the_response_has_an_attempt_without_an_outcome(world, observe):
    observed = observe(world)
    client, _ = await ask(world, POST)
    client.lose()
    await world.settle()
    fields = {"upstream_s": None, "outcomes": {}, "received_bytes": 3, "method": b"POST"}
    observed.expect_one(status=499, reason=CLIENT_LEFT, **fields)


async def test_a_client_that_leaves_during_the_response_got_what_was_sent(world, observe):
    observed = observe(world)
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.lose()
    await world.settle()
    observed.expect_one(status=499, reason=CLIENT_LEFT, sent_bytes=3)


async def test_a_client_that_leaves_within_a_chunk_has_sent_what_arrived(world, observe):
    observed = observe(world)
    client, _ = await ask(world, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n" + CHUNKED + b"fffffffffff\r\nabc")
    client.lose()
    await world.settle()
    fields = {"upstream_s": None, "outcomes": {}, "received_bytes": 3, "method": b"POST"}
    observed.expect_one(status=499, reason=CLIENT_LEFT, **fields)


@pytest.mark.parametrize(
    "response",
    [b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"fffffffffff\r\nabc", CHUNKED + b"3\r\nabc\r\n"],
)
async def test_a_response_that_the_server_cuts_is_counted_as_cut(world, observe, response):
    observed = observe(world)
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\n" + response)
    server.lose()
    await world.settle()
    assert client.transport.is_reset
    observed.expect_one(reason=CLOSED_LATE, cut=CLOSED_LATE, sent_bytes=3)


async def test_a_response_that_stops_is_counted_as_cut(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    wait_s = world.handler.environment.settings.upstream_body_timeout + 1
    world.advance(wait_s)
    await world.settle()
    observed.expect_one(reason=RESPONSE_TIMEOUT, cut=RESPONSE_TIMEOUT, sent_bytes=3, duration_s=wait_s)


async def test_a_response_that_its_client_does_not_read_is_cut_but_has_not_failed(world, observe):
    observed = observe(world)
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.protocol.pause_writing()
    wait_s = world.handler.environment.settings.upstream_body_timeout + 1
    world.advance(wait_s)
    await world.settle()
    observed.expect_one(reason=NOT_READ, cut=NOT_READ, has_failed=False, sent_bytes=3, duration_s=wait_s)


async def test_a_response_that_its_client_s_own_error_cuts_has_not_failed(world, observe):
    observed = observe(world)
    client, server = await ask(world, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n" + CHUNKED + b"3\r\nabc\r\n")
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.send(b"nonsense\r\n")
    await world.settle()
    (record,) = observed.records
    assert (record.status, record.sent_bytes) == (200, 3)
    counters = observed.read_counters()
    assert counters["maesh_service_cut_responses", "a", record.reason] == 1
    assert ("maesh_service_failures", "a") not in counters


async def test_an_error_that_is_cut_has_failed_once(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 500 Error\r\nContent-Length: 9\r\n\r\nabc")
    server.lose()
    await world.settle()
    observed.expect_one(status=500, reason=CLOSED_LATE, cut=CLOSED_LATE, sent_bytes=3, outcomes={(FIRST, "error"): 1})


async def test_an_exchange_that_the_proxy_s_end_aborts_says_so(open_world, observe):
    async with open_world() as world:
        observed = observe(world)
        await ask(world)
        world.handler.abort()
        observed.expect_one(status=499, reason=PROXY_ENDED, upstream_s=None, outcomes={})


# --- tunnels


async def test_a_tunnel_is_counted_at_its_end_with_its_bytes_both_ways(world, observe):
    observed = observe(world)
    client, server = await ask(world, UPGRADE + b"early")
    server.send(SWITCHING + b"hi")
    client.send(b"from the client")
    server.send(b"from the server")
    world.advance(2.0)
    assert not observed.records
    client.lose()
    await world.settle()
    observed.expect_one(kind="tunnel", status=101, received_bytes=5 + 15, sent_bytes=2 + 15, duration_s=2.0)


async def test_the_counters_of_a_tunnel_s_client_are_given_back(world, observe):
    observe(world)
    client, server = await ask(world, UPGRADE)
    server.send(SWITCHING)
    client.lose()
    await world.settle()
    ((_, counter),) = world.handler.environment.callers._counters.items()
    assert (counter.requests, counter.users) == (1, 0)


async def test_a_protocol_that_was_not_offered_is_a_failure(world, observe):
    observed = observe(world)
    _, server = await ask(world, UPGRADE)
    server.send(SWITCHING.replace(b"Upgrade: x", b"Upgrade: y"))
    await world.settle()
    failed = {"upstream_s": None, "outcomes": {(FIRST, "failure"): 1}}
    observed.expect_one(**describe_answer(502, OTHER_PROTOCOL), **failed)
