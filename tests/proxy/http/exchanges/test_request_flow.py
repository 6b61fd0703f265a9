"""Request bodies that go through middlewares: their framing, back-pressure, ends and errors."""

import asyncio

import pytest

from maesh_core.plugin_system.interfaces import Response, WholeBody

from .body_doubles import Tap, Upper, Uses
from .middleware_doubles import GET, OK, POST, Retry, ask, get_status

HEAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
WITH_TRAILERS = CHUNKED[:-2] + b"X-End: 1\r\n\r\n"


def split(data):
    return [data[at : at + 1] for at in range(len(data))]


async def run(world, request, *, pieces=False):
    client = world.open_client()
    for part in split(request) if pieces else [request]:
        client.send(part)
    server = await world.accept()
    return client, server


@pytest.mark.parametrize("pieces", [False, True])
async def test_a_tap_sees_the_content_and_changes_nothing(open_world, forwarded, pieces):
    tap = Tap()
    async with open_world(middlewares=[Uses(tap)]) as world:
        client, server = await run(world, POST, pieces=pieces)
        server.expect(HEAD + b"Content-Length: 3\r\n" + forwarded + b"abc")
        assert (tap.seen, tap.ends) == (b"abc", [True])
        server.send(OK)
        client.expect(OK)
    assert tap.ends == [True]


@pytest.mark.parametrize("pieces", [False, True])
async def test_a_tap_sees_a_chunked_body_without_framing_and_its_trailers_are_kept(open_world, forwarded, pieces):
    tap = Tap()
    async with open_world(middlewares=[Uses(tap)]) as world:
        client, server = await run(world, WITH_TRAILERS, pieces=pieces)
        server.expect(HEAD + b"Transfer-Encoding: chunked\r\n" + forwarded + b"5\r\nabcde\r\n0\r\nX-End: 1\r\n\r\n")
        assert (tap.seen, tap.ends) == (b"abcde", [True])
        server.send(OK)
        client.expect(OK)


async def test_requests_without_a_body_and_upgrades_have_no_flow(open_world):
    middleware = Uses(lambda: pytest.fail("called"))
    async with open_world(middlewares=[middleware]) as world:
        client, server = await ask(world, GET)
        server.send(OK)
        client.expect(OK)
        client.send(HEAD + b"Content-Length: 1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\na")
        server = await world.accept() if world.connects else server
        server.take()
        server.send(OK)
        client.expect(OK)


@pytest.mark.parametrize("request_", [POST, CHUNKED, WITH_TRAILERS])
@pytest.mark.parametrize("pieces", [False, True])
async def test_a_body_that_no_middleware_uses_is_forwarded(open_world, forwarded, request_, pieces):
    async with open_world(middlewares=[Uses(None), Uses(None)]) as world:
        client, server = await run(world, request_, pieces=pieces)
        got = server.take()
        if request_ is POST:
            assert got == HEAD + b"Content-Length: 3\r\n" + forwarded + b"abc"
        else:
            assert got.endswith(
                b"\r\n5\r\nabcde\r\n0\r\n" + (b"X-End: 1\r\n\r\n" if request_ is WITH_TRAILERS else b"\r\n")
            )
        server.send(OK)
        client.expect(OK)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_transform_of_a_body_that_arrives_later_is_chunked(open_world, forwarded, is_async):
    calls = []
    async with open_world(middlewares=[Uses(lambda: Upper(calls, is_async=is_async))]) as world:
        client, server = await run(world, POST[:-2])
        client.send(b"b")
        await world.settle()
        client.send(b"c")
        await world.settle()
        got = server.take()
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"Content-Length" not in head
        assert body == b"1\r\nA\r\n1\r\nB\r\n1\r\nC\r\n1\r\n!\r\n0\r\n\r\n"
        server.send(OK)
        client.expect(OK)
    assert calls == [("end", b"")]


async def test_the_length_of_a_transformed_body_that_has_arrived_is_declared(open_world, forwarded):
    async with open_world(middlewares=[Uses(Upper)]) as world:
        client, server = await run(world, POST)
        server.expect(HEAD + b"Content-Length: 4\r\n" + forwarded + b"ABC!")
        server.send(OK)
        client.expect(OK)


async def test_trailers_pass_a_transform(open_world, forwarded):
    calls = []
    async with open_world(middlewares=[Uses(lambda: Upper(calls))]) as world:
        client, server = await run(world, WITH_TRAILERS)
        server.expect(HEAD + b"Transfer-Encoding: chunked\r\n" + forwarded + b"6\r\nABCDE!\r\n0\r\nX-End: 1\r\n\r\n")
        server.send(OK)
        client.expect(OK)
    assert calls == [("end", b"X-End: 1\r\n")]


async def test_uses_are_chained_outermost_first(open_world, forwarded):
    outer, inner = Tap(), Tap()
    async with open_world(middlewares=[Uses(outer), Uses(Upper), Uses(inner)]) as world:
        client, server = await run(world, POST)
        assert (outer.seen, inner.seen) == (b"abc", b"ABC!")
        server.send(OK)
        client.expect(OK)


async def test_a_whole_body_is_decided_about_before_the_first_attempt(open_world, forwarded):
    seen = []

    def decide(body):
        seen.append(body)
        return body[::-1] * 2

    async with open_world(middlewares=[Uses(WholeBody(limit_bytes=3, decide=decide))]) as world:
        client = world.open_client()
        for part in split(POST[:-1]):
            client.send(part)
        await world.settle()
        assert not world.connects
        client.send(b"c")
        server = await world.accept()
        server.expect(HEAD + b"Content-Length: 6\r\n" + forwarded + b"cbacba")
        server.send(OK)
        client.expect(OK)
    assert seen == [b"abc"]


async def test_an_async_decision_may_answer(open_world):
    async def decide(body):
        return Response(status=422, reason="not this one")

    async with open_world(middlewares=[Uses(WholeBody(limit_bytes=3, decide=decide))]) as world:
        client = world.open_client()
        client.send(POST)
        await world.settle()
        assert get_status(client) == 422
        assert not world.connects


@pytest.mark.parametrize("request_", [POST, CHUNKED])
async def test_a_body_above_the_limit_is_refused_or_passed(open_world, forwarded, request_):
    whole = WholeBody(limit_bytes=2, decide=lambda body: pytest.fail("called"))
    async with open_world(middlewares=[Uses(whole)]) as world:
        client = world.open_client()
        client.send(request_)
        await world.settle()
        assert get_status(client) == 413
        assert not world.connects
    whole = WholeBody(limit_bytes=2, decide=lambda body: pytest.fail("called"), is_passed_if_larger=True)
    async with open_world(middlewares=[Uses(whole)]) as world:
        client, server = await run(world, request_)
        assert server.take().endswith(b"\r\n\r\nabc" if request_ is POST else b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
        server.send(OK)
        client.expect(OK)


async def test_the_mesh_asks_for_a_whole_body_that_the_client_holds_back(open_world, forwarded):
    request = HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    whole = WholeBody(limit_bytes=3, decide=lambda body: body)
    async with open_world(middlewares=[Uses(whole)]) as world:
        client = world.open_client()
        client.send(request)
        client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc")
        server = await world.accept()
        server.expect(HEAD + b"Content-Length: 3\r\n" + forwarded + b"abc")
        server.send(OK)
        client.expect(OK)


async def test_a_tap_leaves_an_expectation_to_the_server(open_world, forwarded):
    request = HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with open_world(middlewares=[Uses(Tap)]) as world:
        client, server = await run(world, request)
        server.expect(HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\n" + forwarded)
        server.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"abc")
        server.expect(b"abc")
        server.send(OK)
        client.expect(OK)


async def test_another_attempt_sends_the_transformed_body_again(open_world, forwarded):
    class Both(Retry, Uses):
        def __init__(self):
            Retry.__init__(self, kept_bytes=100)
            Uses.__init__(self, Upper)
            self.response = None

    async with open_world(middlewares=[Both()], servers=2) as world:
        client, server = await run(world, POST)
        wanted = HEAD + b"Content-Length: 4\r\n" + forwarded + b"ABC!"
        server.expect(wanted)
        server.lose()
        server = await world.accept()
        server.expect(wanted)
        server.send(OK)
        client.expect(OK)


class Failing:
    def __init__(self, where):
        self.where = where

    def feed(self, data):
        if self.where == "feed":
            raise RuntimeError("no")
        return None if self.where == "type" else data

    def end(self, trailers):
        if self.where == "end":
            raise RuntimeError("no")
        return b""

    def close(self):
        if self.where == "close":
            raise RuntimeError("no")


@pytest.mark.parametrize("where", ["feed", "type", "end"])
async def test_a_transform_that_raises_is_answered_with_500(open_world, where):
    async with open_world(middlewares=[Uses(lambda: Failing(where))]) as world:
        client = world.open_client()
        client.send(POST)
        await world.settle()
        assert get_status(client) == 500
        assert not world.connects


async def test_a_transform_that_raises_after_the_response_has_begun_resets_the_client(open_world):
    async with open_world(middlewares=[Uses(lambda: Failing("end"))]) as world:
        client, server = await run(world, POST[:-1])
        server.send(OK[:-1])
        client.send(b"c")
        await world.settle()
        assert client.transport.is_reset
        assert server.is_closed


async def test_a_tap_that_raises_does_not_affect_the_request(open_world):
    class Bad(Tap):
        def observe(self, data):
            raise RuntimeError("no")

    async with open_world(middlewares=[Uses(Bad)]) as world:
        client, server = await run(world, POST)
        assert server.take().endswith(b"abc")
        server.send(OK)
        client.expect(OK)
        assert world.handler.environment.failures.collect().samples


@pytest.mark.parametrize("use", [3, "tap", object()])
async def test_what_is_not_a_use_of_a_body_fails_the_middleware(open_world, use):
    async with open_world(middlewares=[Uses(use)]) as world:
        client = world.open_client()
        client.send(POST)
        assert get_status(client) == 500


async def test_uses_end_early_when_the_client_leaves(open_world):
    tap, calls = Tap(), []
    async with open_world(middlewares=[Uses(tap), Uses(lambda: Upper(calls))]) as world:
        client, _ = await run(world, POST[:-1])
        client.lose()
        await world.settle()
    assert tap.ends == [False]
    assert calls == ["close"]


async def test_a_body_that_a_middleware_waits_for_has_a_time_limit(open_world):
    whole = WholeBody(limit_bytes=3, decide=lambda body: body)
    async with open_world(middlewares=[Uses(whole)]) as world:
        client = world.open_client()
        client.send(POST[:-1])
        world.advance(world.handler.environment.settings.body_timeout + 1)
        assert get_status(client) == 408


async def test_a_decision_has_a_time_limit(open_world):
    async def decide(body):
        await asyncio.Event().wait()

    async with open_world(middlewares=[Uses(WholeBody(limit_bytes=3, decide=decide))]) as world:
        client = world.open_client()
        client.send(POST)
        await world.settle()
        world.advance(world.handler.environment.settings.response_timeout + 1)
        assert get_status(client) == 504
        await world.settle()


async def test_the_client_is_not_read_while_the_server_is_slower_or_a_use_is_awaited(open_world):
    event = asyncio.Event()

    class Slow(Upper):
        async def feed(self, data):
            await event.wait()
            return data

    request = HEAD + b"Content-Length: 300000\r\n\r\n"
    async with open_world(middlewares=[Uses(Slow)]) as world:
        client, server = await run(world, request)
        client.send(b"a" * 70000)
        assert not client.transport.is_reading
        event.set()
        await world.settle()
        assert client.transport.is_reading
        server.take()
        server.stop_taking()
        assert not client.transport.is_reading
        server.take_again()
        await world.settle()
        client.send(b"b" * 230000)
        await world.until(lambda: server.transport.sent.endswith(b"0\r\n\r\n"))
        assert client.transport.is_reading
        server.send(OK)
        client.expect(OK)


async def test_a_rewritten_request_keeps_the_framing_of_its_body(open_world):
    class Both(Uses):
        def on_request(self, exchange):
            exchange.new_target = b"/other"

        def on_attempt_failed(self, exchange, error):
            return True

        def on_attempt(self, exchange):
            exchange.new_target = b"/again"

        kept_bytes = 100

    async with open_world(middlewares=[Both(Upper)], servers=2) as world:
        client, server = await run(world, POST)
        got = server.take()
        assert got.startswith(b"POST /other HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 4\r\n")
        assert got.endswith(b"\r\n\r\nABC!")
        server.lose()
        server = await world.accept()
        got = server.take()
        assert got.startswith(b"POST /again HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 4\r\n")
        assert got.endswith(b"\r\n\r\nABC!")
        server.send(OK)
        client.expect(OK)
