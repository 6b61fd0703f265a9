"""Each request is counted once and has one record, with every number right, however it ends; over HTTP/1."""

from typing import Any

import msgspec
import pytest

from maesh_core.model.configuration import HttpBranch, HttpRouter, Part, Section, Server, Service
from maesh_core.model.matches import HttpMatch
from maesh_core.model.traffic_record import CLIENT_LEFT, EXCESS_CLIENT, PROXY_ENDED
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    CLOSED_EARLY,
    CLOSED_LATE,
    HEAD_TIMEOUT,
    NO_SERVER,
    NOT_CONNECTED,
    NOT_READ,
    OTHER_PROTOCOL,
    RESPONSE_TIMEOUT,
    UNKNOWN_HOST,
)
from maesh_core.settings import CarryingSettings

from .middleware_doubles import BUSY, GET, OK, POST, Retry, ask

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
FIRST, SECOND = "10.0.1.1:80", "10.0.1.2:80"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
EJECTED = {("maesh_service_server_ejections", "a"): 1}


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


def size(reason):
    """Give the size of the mesh's answer with this reason."""
    return len(reason) + 1


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


# --- answers of the mesh


def describe_answer(status, reason, **fields):
    return {"status": status, "reason": reason, "sent_bytes": size(reason), "is_answer": True, **fields}


NO_ATTEMPT = {"server": "", "attempts": 0, "upstream_s": None}


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


# --- ends


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


# --- further attempts


async def test_a_request_that_only_audit_mode_lets_pass_has_the_reason_in_its_record(open_world, observe):
    async with open_world(middlewares=[Auditor()]) as world:
        observed = observe(world)
        _, server = await ask(world)
        server.send(OK)
        await world.settle()
        observed.expect_one(sent_bytes=2, would_deny="no rule")


async def test_a_retry_counts_each_attempt_at_its_server(open_world, observe):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        observed = observe(world)
        _, first = await ask(world)
        world.advance(0.5)
        first.send(BUSY)
        second = await world.accept()
        world.advance(0.25)
        second.send(OK)
        observed.expect_one(
            attempts=2,
            server=SECOND,
            sent_bytes=2,
            upstream_s=0.25,
            duration_s=0.75,
            outcomes={(FIRST, "error"): 1, (SECOND, "response"): 1},
        )


async def test_a_retry_that_fails_has_no_time_of_a_response(open_world, observe):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        observed = observe(world)
        _, first = await ask(world)
        world.advance(0.5)
        first.send(BUSY)
        await world.refuse()
        third = await world.accept()
        third.lose()
        await world.settle()
        while world.connects:
            await world.refuse()
        (record,) = observed.records
        assert (record.status, record.upstream_s) == (502, None)


async def test_a_retry_without_another_server_is_no_attempt(open_world, observe):
    class RestrictedRetry(Retry):
        def on_attempt_failed(self, exchange, error):
            exchange.allowed_servers = frozenset()
            return True

    async with open_world(middlewares=[RestrictedRetry()], servers=2) as world:
        observed = observe(world)
        world.open_client().send(GET)
        await world.refuse()
        observed.expect_one(
            **describe_answer(502, NOT_CONNECTED),
            upstream_s=None,
            outcomes={(FIRST, "failure"): 1},
            others=EJECTED,
        )


async def test_attempts_at_an_address_are_kept_when_its_scheme_changes_and_end_with_the_server(world, observe):
    observed = observe(world)
    _, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    server.lose()
    await world.settle()
    for scheme, count in (("h2c", 1), ("http", 1)):
        world.scheme = scheme
        world.apply()
        counters = observed.read_counters()
        assert counters["maesh_server_attempts", FIRST, "response"] == count
        assert counters["maesh_server_failed_responses", FIRST] == count
    world.apply(servers=0)
    assert not any(name.startswith("maesh_server_") for name, *_ in observed.read_counters())


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


# --- splits


def split(world):
    """Route paths below /api to `b`, and all others by weight to `v1` and `v2`."""
    match = HttpMatch(paths=("/api(/.*)?",), methods=("GET",))
    branches = (HttpBranch(service="b", matches=(match,)), HttpBranch(service="split"))
    router = HttpRouter(entrypoint=5000, hosts=("a.test.maesh",), service="a", branches=branches)
    addresses = {"a": "10.0.2.1", "b": "10.0.2.2", "v1": "10.0.2.3", "v2": "10.0.2.4"}
    services = {name: Service(servers=(Server(address=address, port=80),)) for name, address in addresses.items()}
    services["split"] = Service(parts=(Part(service="v1", weight=2), Part(service="v2", weight=1)))
    section = Section(routers={"a": router}, services=services)
    world.handler.apply_table(world.handler.compile_table(section, middlewares={}, changed=None))


async def test_a_branch_that_matches_is_the_destination(world, observe):
    split(world)
    observed = observe(world)
    _, server = await ask(world, GET.replace(b"GET /", b"GET /api"))
    server.send(OK)
    observed.expect_one(destination="b", branch="b", server="10.0.2.2:80", sent_bytes=2)


async def test_parts_are_counted_by_their_weight(world, observe):
    split(world)
    observed = observe(world)
    for _ in range(6):
        client, server = await ask(world)
        server.send(OK.replace(b"Content", b"Connection: close\r\nContent"))
        await world.settle()
        client.lose()
    assert sorted(record.destination for record in observed.records) == ["v1"] * 4 + ["v2"] * 2
    counters = observed.read_counters()
    branches = {key[2:]: value for key, value in counters.items() if key[0] == "maesh_branch_requests"}
    assert branches == {("v1", "2xx"): 4, ("v2", "2xx"): 2}


async def test_a_path_that_is_ambiguous_is_answered_for_the_service(world, observe):
    split(world)
    observed = observe(world)
    world.open_client().send(GET.replace(b"GET /", b"GET /api/../x"))
    (record,) = observed.records
    assert (record.status, record.service, record.destination) == (403, "a", "a")
