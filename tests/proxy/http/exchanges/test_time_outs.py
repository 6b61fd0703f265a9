"""Time-outs that middlewares set: of the whole exchange, and of each attempt until the end of its response."""

import math

import pytest

from maesh_core.errors import UpstreamTimeoutError
from maesh_core.plugin_system.interfaces import WholeBody
from maesh_core.proxy.http.answers import ATTEMPT_TIMEOUT, REQUEST_TIMEOUT

from ..http2.framing import GET as HTTP2_GET
from ..http2.framing import OK as HTTP2_OK
from ..http2.framing import accept_http2, open_http2
from ..http2.test_grpc_calls import HEAD, MESSAGE, call_server
from ..observed import Observed
from .middleware_doubles import BUSY, GET, OK, POST, Retry, ask

UPGRADE = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class Limiter(Retry):
    """Sets time-outs; of further attempts, it asks for as many as there are results in `repeats`."""

    def __init__(self, *, timeout_s=0.0, attempt_total_s=0.0, repeats=()):
        super().__init__()
        self.limits, self.repeats, self.seen = (timeout_s, attempt_total_s), list(repeats), []

    def on_request(self, exchange):
        exchange.timeout_s, exchange.attempt_total_s = self.limits

    def on_attempt_failed(self, exchange, error):
        self.seen.append((type(error), exchange.can_repeat))
        return self.repeats.pop(0) if self.repeats else None

    def on_response(self, exchange):
        return self.repeats.pop(0) if self.repeats else None

    def on_finished(self, exchange):
        self.seen.append(exchange.reason)


def answers_504(client, reason):
    answer = client.take()
    return answer.startswith(b"HTTP/1.1 504 ") and reason.encode() in answer


# --- of the exchange


async def test_an_exchange_without_a_response_is_answered_at_its_time_out(open_world, pass_time):
    limiter = Limiter(timeout_s=7.0)
    async with open_world(middlewares=[limiter]) as world:
        observed = Observed(world)
        client, server = await ask(world)
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        assert server.is_closed
        observed.expect_one(
            duration_s=7.0,
            status=504,
            reason=REQUEST_TIMEOUT,
            is_answer=True,
            sent_bytes=len(REQUEST_TIMEOUT) + 1,
            outcomes={("10.0.1.1:80", "failure"): 1},
            upstream_s=None,
        )
    assert limiter.seen == [(UpstreamTimeoutError, False), REQUEST_TIMEOUT]


async def test_the_time_out_of_an_exchange_includes_connecting(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0, repeats=[True])], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        await world.settle()
        for _, _, waiting in world.connects:
            assert waiting.cancelled()


async def test_the_time_out_of_an_exchange_includes_the_request_s_body(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0)]) as world:
        client, server = await ask(world, POST[:-1])
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        assert server.is_closed
        await world.settle()
        client.send(b"c")
        assert not client.take()
        client.lose()


async def test_a_response_that_is_not_complete_at_the_time_out_is_cut(open_world, pass_time):
    limiter = Limiter(timeout_s=7.0)
    async with open_world(middlewares=[limiter]) as world:
        observed = Observed(world)
        client, server = await ask(world)
        server.send(OK[:-1])
        client.expect(OK[:-1])
        pass_time(7.0)
        assert client.transport.is_reset
        assert server.is_closed
        observed.expect_one(duration_s=7.0, reason=REQUEST_TIMEOUT, cut=REQUEST_TIMEOUT, sent_bytes=1)
    assert limiter.seen == [REQUEST_TIMEOUT]


async def test_a_client_that_reads_slowly_is_the_cause_of_the_cut(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0)]) as world:
        observed = Observed(world)
        client, server = await ask(world)
        server.send(OK[:-1])
        client.stop_taking()
        pass_time(7.0)
        assert client.transport.is_reset
        observed.expect_one(duration_s=7.0, reason=REQUEST_TIMEOUT, cut=REQUEST_TIMEOUT, sent_bytes=1, has_failed=False)


@pytest.mark.parametrize("limits", [{"timeout_s": 7.0}, {"attempt_total_s": 7.0}])
async def test_a_response_in_time_stops_the_timer_and_the_connection_is_used_again(open_world, pass_time, limits):
    async with open_world(middlewares=[Limiter(**limits)]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)
        client.send(GET)
        server.take()
        server.send(OK[:-1])
        server.send(OK[-1:])
        client.expect(OK)
        pass_time(7.0)
        client.send(GET)
        assert server.take()
        server.send(OK)
        client.expect(OK)


@pytest.mark.parametrize("limits", [{"timeout_s": 7.0}, {"attempt_total_s": 7.0}])
async def test_a_client_that_leaves_stops_the_timer(open_world, pass_time, limits):
    limiter = Limiter(**limits)
    async with open_world(middlewares=[limiter]) as world:
        client, _ = await ask(world)
        client.lose()
        await world.settle()
        pass_time(7.0)
    assert len(limiter.seen) == 1


async def test_attempts_share_the_time_out_of_the_exchange(open_world, pass_time):
    limiter = Limiter(timeout_s=7.0, repeats=[True, True])
    async with open_world(middlewares=[limiter], servers=2) as world:
        client, server = await ask(world)
        server.send(BUSY)
        other = await world.accept()
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        assert other.is_closed
        assert not world.connects


async def test_an_attempt_that_could_only_begin_after_the_time_out_does_not_wait(open_world, pass_time):
    limiter = Limiter(timeout_s=7.0, repeats=[6.0, 6.0])
    async with open_world(middlewares=[limiter], servers=2) as world:
        client, server = await ask(world)
        server.send(BUSY)
        world.advance(6.0)
        pass_time(6.0)
        other = await world.accept()
        other.send(BUSY)
        client.expect(BUSY)


async def test_a_pause_that_outlasts_the_time_out_ends_with_it(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0, repeats=[6.0])], servers=2) as world:
        client, server = await ask(world)
        server.lose()
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        assert not world.connects


@pytest.mark.parametrize("limits", [{"timeout_s": 7.0}, {"attempt_total_s": 7.0}])
async def test_a_tunnel_has_no_time_out(open_world, pass_time, limits):
    async with open_world(middlewares=[Limiter(**limits)]) as world:
        client, server = await ask(world, UPGRADE)
        server.send(SWITCHING)
        await world.settle()
        pass_time(7.0)
        assert client.take().startswith(b"HTTP/1.1 101 ")
        assert not client.is_closed
        client.lose()
        await world.settle()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
async def test_no_time_is_no_time_out(open_world, pass_time, timeout_s):
    async with open_world(middlewares=[Limiter(timeout_s=timeout_s, attempt_total_s=timeout_s)]) as world:
        client, server = await ask(world)
        pass_time(timeout_s)
        server.send(OK)
        client.expect(OK)


# --- of an attempt


async def test_an_attempt_without_a_response_fails_at_its_time_out_and_another_may_follow(open_world, pass_time):
    limiter = Limiter(attempt_total_s=7.0, repeats=[True])
    async with open_world(middlewares=[limiter], servers=2) as world:
        client, slow = await ask(world)
        pass_time(7.0)
        assert slow.is_closed
        other = await world.accept()
        other.send(OK)
        client.expect(OK)
    assert limiter.seen == [(UpstreamTimeoutError, True), ""]


async def test_an_attempt_whose_response_is_not_complete_is_cut(open_world, pass_time):
    async with open_world(middlewares=[Limiter(attempt_total_s=7.0, repeats=[None, True])], servers=2) as world:
        observed = Observed(world)
        client, server = await ask(world)
        server.send(OK[:-1])
        client.expect(OK[:-1])
        pass_time(7.0)
        assert client.transport.is_reset
        assert server.is_closed
        observed.expect_one(duration_s=7.0, reason=ATTEMPT_TIMEOUT, cut=ATTEMPT_TIMEOUT, sent_bytes=1)


async def test_every_attempt_has_a_time_out_of_its_own(open_world, pass_time):
    async with open_world(middlewares=[Limiter(attempt_total_s=7.0, repeats=[True])], servers=2) as world:
        client, server = await ask(world)
        server.send(BUSY)
        other = await world.accept()
        other.send(OK[:-1])
        client.expect(OK[:-1])
        pass_time(7.0)
        assert client.transport.is_reset
        assert other.is_closed


# --- HTTP/2


@pytest.mark.parametrize("limits", [{"timeout_s": 7.0}, {"attempt_total_s": 7.0}])
async def test_a_call_whose_response_has_begun_ends_with_trailers(open_world, pass_time, limits):
    limiter = Limiter(**limits)
    async with open_world(middlewares=[limiter], scheme="h2c") as world:
        client, server = await call_server(world)
        server.send(server.headers(1, HEAD, is_end=False), server.data(1, MESSAGE))
        await world.settle()
        pass_time(7.0)
        await world.settle()
        reason = REQUEST_TIMEOUT if "timeout_s" in limits else ATTEMPT_TIMEOUT
        assert client.take_streams()[-1] == (
            "headers",
            1,
            [(b"grpc-status", b"4"), (b"grpc-message", reason.encode())],
            True,
        )
        assert server.take_streams()[-1][:2] == ("reset", 1)
        assert limiter.seen == [reason]
        client.peer.lose()


async def test_a_call_without_a_response_gets_deadline_exceeded(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0)], scheme="h2c") as world:
        client, _ = await call_server(world)
        pass_time(7.0)
        await world.settle()
        ((_, _, fields, is_end),) = client.take_streams()
        assert dict(fields)[b"grpc-status"] == b"4"
        assert is_end
        client.peer.lose()


async def test_a_stream_that_is_not_a_call_is_reset(open_world, pass_time):
    async with open_world(middlewares=[Limiter(timeout_s=7.0)], scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, HTTP2_GET))
        server = await accept_http2(world)
        server.send(server.headers(1, HTTP2_OK, is_end=False), server.data(1, b"a"))
        await world.settle()
        pass_time(7.0)
        await world.settle()
        assert client.take_streams()[-1][:2] == ("reset", 1)
        assert server.take_streams()[-1][:2] == ("reset", 1)
        client.peer.lose()


async def test_the_time_out_of_an_exchange_includes_gathering_the_request_s_body(open_world, pass_time):
    class Gatherer(Limiter):
        def on_request_body(self, exchange):
            return WholeBody(limit_bytes=1000, decide=bytes)

    limiter = Gatherer(timeout_s=7.0, repeats=[True])
    async with open_world(middlewares=[limiter]) as world:
        client = world.open_client()
        client.send(POST[:-1])
        pass_time(7.0)
        assert answers_504(client, REQUEST_TIMEOUT)
        assert limiter.seen == [REQUEST_TIMEOUT]
        assert not world.connects


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"timeout_s": 7.0}, REQUEST_TIMEOUT), ({"attempt_total_s": 7.0}, ATTEMPT_TIMEOUT)],
)
async def test_a_response_that_is_held_back_is_replaced_at_the_time_out(open_world, pass_time, limits, reason):
    class Gatherer(Limiter):
        def on_response_body(self, exchange):
            return WholeBody(limit_bytes=1000, decide=bytes)

    async with open_world(middlewares=[Gatherer(**limits)]) as world:
        client, server = await ask(world)
        server.send(OK[:-1])
        assert not client.take()
        pass_time(7.0)
        assert answers_504(client, reason)
        assert server.is_closed


# --- longer than the proxy's own limit


LIMITS = [{"timeout_s": 700.0}, {"attempt_total_s": 700.0}, {"timeout_s": math.inf}, {"attempt_total_s": math.inf}]


@pytest.mark.parametrize("limits", LIMITS)
async def test_a_response_is_waited_for_longer_than_the_proxy_s_own_limit(open_world, pass_time, limits):
    async with open_world(middlewares=[Limiter(**limits)]) as world:
        client, server = await ask(world)
        for _ in range(3):
            world.advance(120)
        server.send(OK)
        client.expect(OK)
        client.send(GET)
        world.advance(120)
        pass_time(700.0)
        assert answers_504(client, "in time") == (math.inf not in limits.values())
        client.lose()


@pytest.mark.parametrize("limits", LIMITS)
async def test_a_longer_time_out_does_not_allow_longer_pauses_in_bodies(open_world, pass_time, limits):
    async with open_world(middlewares=[Limiter(**limits)]) as world:
        client, _ = await ask(world, POST[:-1])
        world.advance(120)
        assert client.take().startswith(b"HTTP/1.1 408 ")
        client.lose()
        await world.settle()
        client, server = await ask(world)
        server.send(OK[:-1])
        world.advance(120)
        assert client.transport.is_reset
