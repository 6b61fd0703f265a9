"""Each HTTP/1 request is counted once and has one record with the right numbers, whichever part answers it."""

from typing import Any

import msgspec
import pytest

from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.traffic_record import EXCESS_CLIENT
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    CLOSED_EARLY,
    HEAD_TIMEOUT,
    NO_SERVER,
    NOT_CONNECTED,
    RESPONSE_TIMEOUT,
    UNKNOWN_HOST,
)
from maesh_core.settings import CarryingSettings

from .counted_requests import CHUNKED, EJECTED, FIRST, NO_ATTEMPT, describe_answer, size
from .middleware_doubles import GET, OK, POST, ask


class Answering:
    """Answers each request with one response."""

    def __init__(self, response):
        self.response = response

    def on_request(self, exchange):
        return self.response


class Auditor:
    """Lets each request pass, and says that it would be denied."""

    def on_request(self, exchange):
        assert exchange.would_deny == ""
        exchange.would_deny = "no rule"


class Raising:
    def on_request(self, exchange):
        raise RuntimeError("broken")


RESPONSES: dict[str, tuple[bytes, bytes, dict[str, Any]]] = {
    "whole": (GET, OK, {"sent_bytes": 2}),
    "with an empty body": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", {}),
    "chunked": (
        GET,
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n",
        {"sent_bytes": 6},
    ),
    "to HEAD": (
        GET.replace(b"GET", b"HEAD"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        {"method": b"HEAD"},
    ),
    "not modified": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", {"status": 304}),
    "created": (POST, b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx", {"status": 201, "sent_bytes": 1}),
    "not found": (GET, b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", {"status": 404, "sent_bytes": 4}),
    "an error": (
        GET,
        b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n",
        {"status": 500, "outcomes": {(FIRST, "error"): 1}},
    ),
    "after others": (GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, {"sent_bytes": 2}),
    "to HTTP/1.0": (
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        {"protocol": "HTTP/1.0", "sent_bytes": 5},
    ),
    "to a chunked body": (
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n" + CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        OK,
        {"received_bytes": 5, "sent_bytes": 2},
    ),
}


@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_is_counted_once(world, observe, name, is_split):
    request, response, fields = RESPONSES[name]
    if request is POST:
        fields = {"method": b"POST", "received_bytes": 3, **fields}
    observed = observe(world)
    client = world.open_client()
    for piece in [request[at : at + 1] for at in range(len(request))] if is_split else [request]:
        client.send(piece)
    server = await world.accept()
    for piece in [response[at : at + 1] for at in range(len(response))] if is_split else [response]:
        server.send(piece)
    await world.settle()
    observed.expect_one(**fields)


async def test_a_response_that_ends_with_its_connection_is_counted_once(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
    server.send(b"de")
    assert not observed.records
    server.lose()
    await world.settle()
    observed.expect_one(sent_bytes=5)


async def test_durations_are_those_of_the_clock(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    world.advance(0.5)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    world.advance(0.25)
    server.send(b"k")
    observed.expect_one(sent_bytes=2, upstream_s=0.5, duration_s=0.75)


async def test_requests_of_one_connection_add_up(world, observe):
    observed = observe(world)
    client, server = await ask(world, GET * 3)
    for _ in range(3):
        server.send(OK)
        await world.settle()
    assert len(observed.records) == 3
    counters = observed.read_counters()
    assert counters["maesh_service_requests", "a", "http/1", "2xx"] == 3
    assert counters["maesh_edge_requests", "10.0.0.9", "a"] == 3
    assert counters["maesh_entrypoint_requests", "5000", "2xx"] == 3
    client.take()


# --- what is refused before it is routed


async def test_an_unknown_host_is_a_refusal(world, observe):
    observed = observe(world)
    client = world.open_client()
    client.send(GET.replace(b"a.test", b"b.test"))
    observed.expect_one(
        kind="refused",
        status=404,
        reason=UNKNOWN_HOST.reason,
        sent_bytes=size(UNKNOWN_HOST.reason),
        service="",
        server="",
        attempts=0,
        upstream_s=None,
        host=b"b.test.maesh",
    )


async def test_bytes_that_are_no_request_are_a_refusal(world, observe):
    observed = observe(world)
    client = world.open_client()
    client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 400")
    (record,) = observed.records
    observed.expect_one(
        kind="refused",
        status=400,
        reason=record.reason,
        parsed=0,
        service="",
        server="",
        attempts=0,
        upstream_s=None,
    )
    assert record.reason


async def test_a_head_that_does_not_arrive_is_a_refusal(world, observe):
    observed = observe(world)
    world.open_client().send(GET[:-2])
    world.advance(world.handler.environment.settings.head_timeout + 1)
    observed.expect_one(
        kind="refused",
        status=408,
        reason=HEAD_TIMEOUT,
        parsed=0,
        service="",
        server="",
        attempts=0,
        upstream_s=None,
    )


async def test_a_client_above_a_limit_is_a_refusal(open_world, observe):
    async with open_world(settings=CarryingSettings(node="node", client_connection_limit=1)) as world:
        observed = observe(world)
        first = world.open_client()
        world.open_client()
        (record,) = observed.records
        assert (record.kind, record.status, record.reason) == ("refused", 0, EXCESS_CLIENT)
        first.lose()
        assert len(observed.records) == 1


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 11\r\n\r\n", CHUNKED + b"b\r\nhello world\r\n0\r\n\r\n"],
    ids=["declared", "chunked"],
)
async def test_a_body_that_is_too_large_is_answered(open_world, observe, body):
    async with open_world(settings=CarryingSettings(node="node", body_limit=10)) as world:
        observed = observe(world)
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n" + body)
        await world.settle()
        assert client.take().startswith(b"HTTP/1.1 413")
        is_routed = body.startswith(CHUNKED)
        observed.expect_one(
            **describe_answer(413, BODY_TOO_LARGE),
            **({"upstream_s": None, "received_bytes": 11, "outcomes": {}} if is_routed else NO_ATTEMPT),
        )


async def test_a_service_without_servers_answers(open_world, observe):
    async with open_world(servers=0) as world:
        observed = observe(world)
        world.open_client().send(GET)
        observed.expect_one(**describe_answer(503, NO_SERVER.reason), **NO_ATTEMPT)


async def test_a_closed_service_is_counted_by_the_key_of_its_router(world, observe):
    router = HttpRouter(entrypoint=5000, hosts=("a.test.maesh",), reason="closed")
    section = Section(routers={"test/a:80": router})
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))
    observed = observe(world)
    world.open_client().send(GET)
    observed.expect_one(**describe_answer(404, "closed", service="test/a:80"), **NO_ATTEMPT)


@pytest.mark.parametrize("status", [403, 429])
async def test_a_middleware_s_answer_is_counted_with_its_reason(open_world, observe, status):
    async with open_world(middlewares=[Answering(Response(status=status, reason="no"))]) as world:
        observed = observe(world)
        world.open_client().send(GET)
        observed.expect_one(**describe_answer(status, "no"), **NO_ATTEMPT)


async def test_a_reason_that_is_not_unicode_breaks_no_counter_and_no_record(open_world, observe):
    async with open_world(middlewares=[Answering(Response(status=403, reason="\u20ac \udcff"))]) as world:
        observed = observe(world)
        world.open_client().send(GET)
        observed.expect_one(**describe_answer(403, "\u20ac ?"), **NO_ATTEMPT)
        msgspec.msgpack.encode(world.handler.collect_metrics())


@pytest.mark.parametrize(
    ("response", "method", "sent"),
    [
        (Response(status=200, reason="", body=b"12345"), b"GET", 5),
        (Response(status=200, reason="", body=b"12345"), b"HEAD", 0),
        (Response(status=204, reason=""), b"GET", 0),
        (Response(status=403, reason="gr\u00fcn"), b"GET", 5),
    ],
)
async def test_the_bytes_of_an_answer_are_those_of_its_body(open_world, observe, response, method, sent):
    async with open_world(middlewares=[Answering(response)]) as world:
        observed = observe(world)
        client = world.open_client()
        client.send(GET.replace(b"GET", method))
        assert len(client.take().partition(b"\r\n\r\n")[2]) == sent
        observed.expect_one(
            status=response.status, reason=response.reason, sent_bytes=sent, is_answer=True, **NO_ATTEMPT
        )


async def test_a_middleware_that_raises_is_answered(open_world, observe):
    async with open_world(middlewares=[Raising()]) as world:
        observed = observe(world)
        world.open_client().send(GET)
        observed.expect_one(**describe_answer(500, "a middleware failed"), **NO_ATTEMPT)


async def test_a_failed_connect_is_a_failure_of_the_server(world, observe):
    observed = observe(world)
    world.open_client().send(GET)
    await world.refuse()
    failed = {"upstream_s": None, "outcomes": {(FIRST, "failure"): 1}, "others": EJECTED}
    observed.expect_one(**describe_answer(502, NOT_CONNECTED), **failed)


async def test_a_server_that_closes_without_a_response_is_a_failure(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.lose()
    await world.settle()
    failed = {"upstream_s": None, "outcomes": {(FIRST, "failure"): 1}, "others": EJECTED}
    observed.expect_one(**describe_answer(502, CLOSED_EARLY), **failed)


async def test_a_response_that_is_late_is_a_failure_of_the_server(world, observe):
    observed = observe(world)
    await ask(world)
    wait_s = world.handler.environment.settings.response_timeout + 1
    world.advance(wait_s)
    failed = {"upstream_s": None, "outcomes": {(FIRST, "failure"): 1}, "duration_s": wait_s}
    observed.expect_one(**describe_answer(504, RESPONSE_TIMEOUT), **failed)


async def test_a_body_that_is_late_is_no_failure_of_the_server(world, observe):
    observed = observe(world)
    await ask(world, POST[:-1])
    wait_s = world.handler.environment.settings.body_timeout + 1
    world.advance(wait_s)
    fields = {"upstream_s": None, "outcomes": {}, "duration_s": wait_s, "received_bytes": 2, "method": b"POST"}
    observed.expect_one(**describe_answer(408, BODY_TIMEOUT), **fields)


async def test_a_response_whose_first_chunk_is_malformed_has_one_outcome(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"zz\r\n")
    await world.settle()
    observed.expect_one(**describe_answer(502, "the upstream sent a malformed chunk size"))


async def test_a_request_that_only_audit_mode_lets_pass_has_the_reason_in_its_record(open_world, observe):
    async with open_world(middlewares=[Auditor()]) as world:
        observed = observe(world)
        _, server = await ask(world)
        server.send(OK)
        await world.settle()
        observed.expect_one(sent_bytes=2, would_deny="no rule")
