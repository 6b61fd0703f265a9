"""Each request over HTTP/2 is counted once and has one record, with every number right, however it ends."""

import pytest

from maesh_core.model.traffic_record import CLIENT_LEFT
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import (
    BODY_TOO_LARGE,
    CLOSED_LATE,
    NO_SERVER,
    NOT_CONNECTED,
    NOT_READ,
    REFUSED,
    RESPONSE_TIMEOUT,
    UNKNOWN_HOST,
)
from maesh_core.settings import CarryingSettings

from .framing import CANCEL, GET, INTERNAL_ERROR, POST, REFUSED_STREAM, accept_http2, open_http2, rst_stream

FIRST, SECOND = "10.0.1.1:80", "10.0.1.2:80"
CALL = (*POST[:3], (":path", "/shop.Cart/Get"), ("content-type", "application/grpc"), ("te", "trailers"))
OK = ((":status", "200"),)
HEAD = ((":status", "200"), ("content-type", "application/grpc"))
MESSAGE = b"\0\0\0\0\1a"
EJECTED = {("maesh_service_server_ejections", "a"): 1}
NO_ATTEMPT = {"server": "", "attempts": 0, "upstream_s": None}
HTTP2 = {"protocol": "HTTP/2"}


class Middleware:
    """Answers, or asks for another attempt after each 503, UNAVAILABLE and failure."""

    kept_bytes = 1000

    def __init__(self, answer=None, *, repeats=False):
        self.answer, self.repeats = answer, repeats

    def on_request(self, exchange):
        return self.answer

    def on_response(self, exchange):
        return (self.repeats and (exchange.status == 503 or exchange.grpc_status == 14)) or None

    def on_attempt_failed(self, exchange, error):
        return self.repeats or None


async def ask(world, fields=GET, body=b""):
    client = open_http2(world)
    frames = [client.headers(1, fields, is_end=not body)]
    if body:
        frames.append(client.data(1, body, is_end=True))
    client.send(*frames)
    await world.settle()
    return client


async def call(world, fields=CALL, body=MESSAGE):
    client = await ask(world, fields, body)
    server = await accept_http2(world)
    server.take()
    return client, server


async def respond(world, server, head=OK, body=b"", trailers=None):
    frames = [server.headers(1, head, is_end=not body and trailers is None)]
    if body:
        frames.append(server.data(1, body, is_end=trailers is None))
    if trailers is not None:
        frames.append(server.headers(1, trailers))
    server.send(*frames)
    await world.settle()


@pytest.mark.parametrize(
    ("status", "body", "fields"),
    [
        ("200", b"hello", {}),
        ("204", b"", {}),
        ("304", b"", {}),
        ("404", b"none", {}),
        ("503", b"busy", {"outcomes": {(FIRST, "error"): 1}}),
    ],
)
async def test_a_response_is_counted_once(open_h2c, observe, status, body, fields):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world, POST, b"abc")
        await respond(world, server, ((":status", status),), body)
        observed.expect_one(
            status=int(status), received_bytes=3, sent_bytes=len(body), method=b"POST", **HTTP2, **fields
        )
        client.peer.lose()


async def test_a_response_to_head_has_no_body(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world, ((":method", "HEAD"), *GET[1:]), b"")
        await respond(world, server, (*OK, ("content-length", "9")))
        observed.expect_one(method=b"HEAD", **HTTP2)
        client.peer.lose()


async def test_a_response_in_many_frames_is_counted_at_its_end(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world, GET, b"")
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"ab"))
        world.advance(0.5)
        assert not observed.records
        server.send(server.data(1, b"cde", is_end=True))
        await world.settle()
        observed.expect_one(sent_bytes=5, duration_s=0.5, **HTTP2)
        client.peer.lose()


async def test_chunks_of_a_server_of_http_1_are_counted_without_framing(world, observe):
    observed = observe(world)
    client = await ask(world)
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    await world.settle()
    observed.expect_one(sent_bytes=5, **HTTP2)
    client.peer.lose()


async def test_streams_of_one_connection_add_up(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.send(server.headers(3, OK))
        server.send(server.headers(1, OK, is_end=False))
        client.peer.lose()
        await world.settle()
        assert [record.status for record in observed.records] == [200, 499]
        counters = observed.read_counters()
        assert counters["maesh_edge_requests", "10.0.0.9", "a"] == 2
        ((_, counter),) = world.handler.environment.callers._counters.items()
        assert counter.users == 0


# --- calls


@pytest.mark.parametrize("status", [0, 5, 16])
async def test_the_status_of_a_call_is_that_of_its_trailers(open_h2c, observe, status):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world)
        await respond(world, server, HEAD, MESSAGE, (("grpc-status", str(status)),))
        observed.expect_one(grpc_status=status, received_bytes=6, sent_bytes=6, method=b"POST", **HTTP2)
        client.peer.lose()


async def test_the_status_of_a_call_without_a_message_is_that_of_its_head(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world)
        await respond(world, server, (*HEAD, ("grpc-status", "7")))
        observed.expect_one(grpc_status=7, received_bytes=6, method=b"POST", **HTTP2)
        client.peer.lose()


async def test_a_call_that_ends_without_a_status_is_unknown(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world)
        await respond(world, server, HEAD, MESSAGE)
        observed.expect_one(grpc_status=2, received_bytes=6, sent_bytes=6, method=b"POST", **HTTP2)
        client.peer.lose()


@pytest.mark.parametrize(("status", "grpc_status"), [(403, 7), (429, 8), (503, 14)])
async def test_an_answer_of_a_middleware_to_a_call_has_no_body(open_h2c, observe, status, grpc_status):
    answer = Response(status=status, reason="no")
    async with open_h2c(middlewares=[Middleware(answer)]) as world:
        observed = observe(world)
        client = await ask(world, CALL, MESSAGE)
        fields = {**HTTP2, **NO_ATTEMPT, "grpc_status": grpc_status, "is_answer": True}
        observed.expect_one(status=status, reason="no", **fields)
        client.peer.lose()


async def test_a_call_without_a_connection_is_unavailable(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client = await ask(world, CALL, MESSAGE)
        await world.refuse()
        observed.expect_one(
            status=502,
            reason=NOT_CONNECTED,
            grpc_status=14,
            received_bytes=6,
            upstream_s=None,
            is_answer=True,
            outcomes={(FIRST, "failure"): 1},
            others=EJECTED,
            **HTTP2,
        )
        client.peer.lose()


async def test_a_call_whose_connection_is_lost_ends_with_a_status_and_is_cut(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world)
        server.send(server.headers(1, HEAD, is_end=False), server.data(1, MESSAGE))
        server.peer.lose()
        await world.settle()
        fields = {**HTTP2, "received_bytes": 6, "sent_bytes": 6}
        observed.expect_one(grpc_status=14, reason=CLOSED_LATE, cut=CLOSED_LATE, **fields)
        client.peer.lose()


async def test_a_call_whose_stream_is_reset_is_cut(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world)
        server.send(server.headers(1, HEAD, is_end=False), rst_stream(1, INTERNAL_ERROR))
        await world.settle()
        observed.expect_one(grpc_status=13, reason=CLOSED_LATE, cut=CLOSED_LATE, received_bytes=6, **HTTP2)
        client.peer.lose()


async def test_a_call_that_takes_longer_than_its_client_waits_has_exceeded_its_deadline(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, _ = await call(world, (*CALL, ("grpc-timeout", "500m")))
        await world.until(lambda: observed.records)
        (record,) = observed.records
        assert (record.status, record.grpc_status, record.reason) == (504, 4, RESPONSE_TIMEOUT)
        assert observed.read_counters()["maesh_server_attempts", FIRST, "failure"] == 1
        client.peer.lose()


async def test_a_retried_call_has_the_status_of_its_last_attempt(open_h2c, observe):
    async with open_h2c(middlewares=[Middleware(repeats=True)], servers=2) as world:
        observed = observe(world)
        client, first = await call(world)
        await respond(world, first, ((":status", "503"), ("grpc-status", "14")))
        second = await accept_http2(world)
        await respond(world, second, (*HEAD, ("grpc-status", "0")))
        observed.expect_one(
            attempts=2,
            server=SECOND,
            grpc_status=0,
            received_bytes=6,
            outcomes={(FIRST, "error"): 1, (SECOND, "response"): 1},
            **HTTP2,
        )
        client.peer.lose()


async def test_a_retried_call_counts_a_failed_response_for_the_first_server_only(open_h2c, observe):
    async with open_h2c(middlewares=[Middleware(repeats=True)], servers=2) as world:
        observed = observe(world)
        client, first = await call(world)
        await respond(world, first, (*HEAD, ("grpc-status", "14")))
        second = await accept_http2(world)
        await respond(world, second, (*HEAD, ("grpc-status", "0")))
        observed.expect_one(
            attempts=2,
            server=SECOND,
            grpc_status=0,
            received_bytes=6,
            outcomes={(FIRST, "response"): 1, (SECOND, "response"): 1},
            others={("maesh_server_failed_responses", FIRST): 1},
            **HTTP2,
        )
        client.peer.lose()


@pytest.mark.parametrize("status", [400, 404, 408])
async def test_an_answer_that_blames_the_client_of_a_call_has_not_failed(open_h2c, observe, status):
    async with open_h2c(middlewares=[Middleware(Response(status=status, reason="no"))]) as world:
        observed = observe(world)
        client = await ask(world, CALL, MESSAGE)
        (record,) = observed.records
        assert record.grpc_status in (4, 12, 13)
        fields = {**HTTP2, **NO_ATTEMPT, "grpc_status": record.grpc_status, "is_answer": True}
        observed.expect_one(status=status, reason="no", has_failed=False, **fields)
        client.peer.lose()


async def test_a_call_whose_client_does_not_read_it_is_cut_but_has_not_failed(world, observe):
    observed = observe(world)
    client = open_http2(world, INITIAL_WINDOW_SIZE=0)
    client.send(client.headers(1, CALL, is_end=False), client.data(1, MESSAGE, is_end=True))
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 600_000 + b"x" * 300_000)
    await world.settle()
    world.advance(world.handler.environment.settings.body_timeout + 1)
    await world.settle()
    (record,) = observed.records
    assert (record.reason, record.grpc_status) == (NOT_READ, 13)
    counters = observed.read_counters()
    assert counters["maesh_service_cut_responses", "a", NOT_READ] == 1
    assert ("maesh_service_failures", "a") not in counters
    client.peer.lose()


async def test_a_client_that_leaves_before_its_call_is_repeated_is_no_failure(open_h2c, observe):
    class Waiting(Middleware):
        def on_response(self, exchange):
            return 10.0

    async with open_h2c(middlewares=[Waiting()], servers=2) as world:
        observed = observe(world)
        client, server = await call(world)
        await respond(world, server, (*HEAD, ("grpc-status", "14")))
        client.send(rst_stream(1, CANCEL))
        await world.settle()
        (record,) = observed.records
        assert (record.status, record.grpc_status) == (499, 1)
        assert ("maesh_service_failures", "a") not in observed.read_counters()
        client.peer.lose()


# --- what goes wrong


async def test_a_client_that_resets_its_stream_has_an_attempt_without_an_outcome(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, _ = await call(world)
        client.send(rst_stream(1, CANCEL))
        await world.settle()
        fields = {**HTTP2, "received_bytes": 6, "upstream_s": None, "outcomes": {}}
        observed.expect_one(status=499, reason=CLIENT_LEFT, grpc_status=1, **fields)
        client.peer.lose()


async def test_a_refused_stream_is_sent_again_within_one_attempt(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client, server = await call(world, GET, b"")
        for stream_id in (1, 3, 5, 7):
            server.send(rst_stream(stream_id, REFUSED_STREAM))
            await world.settle()
        observed.expect_one(
            status=502,
            reason=REFUSED,
            sent_bytes=len(REFUSED) + 1,
            upstream_s=None,
            is_answer=True,
            outcomes={(FIRST, "failure"): 1},
            **HTTP2,
        )
        client.peer.lose()


async def test_a_service_without_servers_answers(open_h2c, observe):
    async with open_h2c(servers=0) as world:
        observed = observe(world)
        client = await ask(world)
        reason = NO_SERVER.reason
        observed.expect_one(
            status=503, reason=reason, sent_bytes=len(reason) + 1, is_answer=True, **HTTP2, **NO_ATTEMPT
        )
        client.peer.lose()


async def test_a_body_that_is_too_large_is_answered(open_h2c, observe):
    async with open_h2c(settings=CarryingSettings(node="node", body_limit=5)) as world:
        observed = observe(world)
        client = await ask(world, POST, b"abcdef")
        observed.expect_one(
            status=413,
            reason=BODY_TOO_LARGE,
            sent_bytes=len(BODY_TOO_LARGE) + 1,
            is_answer=True,
            upstream_s=None,
            outcomes={},
            **HTTP2,
        )
        client.peer.lose()


async def test_an_unknown_host_is_a_refusal(open_h2c, observe):
    async with open_h2c() as world:
        observed = observe(world)
        client = await ask(world, (*GET[:2], (":authority", "other"), GET[3]))
        reason = UNKNOWN_HOST.reason
        fields = {**HTTP2, **NO_ATTEMPT, "service": "", "sent_bytes": len(reason) + 1}
        observed.expect_one(kind="refused", status=404, reason=reason, **fields)
        client.peer.lose()


@pytest.mark.parametrize(
    "fields",
    [GET[:3], (*GET, ("Upper", "case")), (*GET, ("expect", "tea"))],
    ids=["no path", "upper case", "expectation"],
)
async def test_a_header_list_that_is_no_request_is_a_refusal(open_h2c, observe, fields):
    async with open_h2c() as world:
        observed = observe(world)
        client = await ask(world, fields)
        (record,) = observed.records
        assert record.reason
        status = 417 if ("expect", "tea") in fields else 400
        observed.expect_one(
            kind="refused", status=status, parsed=0, reason=record.reason, service="", **HTTP2, **NO_ATTEMPT
        )
        client.peer.lose()
