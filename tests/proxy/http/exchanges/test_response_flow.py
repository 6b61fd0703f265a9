"""Response bodies that go through middlewares: their framing, back-pressure, ends and errors."""

import asyncio

import pytest

from maesh_core.plugin_system.interfaces import Response, WholeBody

from .body_doubles import Tap, Upper, Uses
from .middleware_doubles import GET, OK, Retry, ask, get_status

START = b"HTTP/1.1 200 OK\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nfoo\r\n0\r\n\r\n"
WITH_TRAILERS = CHUNKED[:-2] + b"X-End: 1\r\n\r\n"
UNTIL_CLOSE = START + b"\r\nok"


def split(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (OK, OK),
        (CHUNKED, START + b"Transfer-Encoding: chunked\r\n\r\n"),
        (WITH_TRAILERS, START + b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
)
async def test_a_tap_sees_the_content_and_changes_nothing(open_world, response, wanted, pieces):
    tap = Tap()
    uses = Uses(response=tap)
    async with open_world(middlewares=[uses]) as world:
        client, server = await ask(world)
        for part in split(response) if pieces else [response]:
            server.send(part)
        got = client.take()
        assert got.startswith(wanted)
        assert tap.seen == (b"ok" if response is OK else b"okfoo")
        assert tap.ends == [True]
        assert uses.lengths == [2 if response is OK else None]
        if response is WITH_TRAILERS:
            assert got.endswith(b"\r\n0\r\nX-End: 1\r\n\r\n")
        client.send(GET)
        server.send(response)
        assert client.take() == got or pieces


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_length_of_a_transformed_response_that_has_arrived_is_declared(open_world, observe, is_async):
    async with open_world(middlewares=[Uses(response=lambda: Upper(is_async=is_async))]) as world:
        observed = observe(world)
        client, server = await ask(world)
        server.send(OK)
        await world.settle()
        client.expect(START + b"Content-Length: 3\r\n\r\nOK!")
        observed.expect_one(sent_bytes=3)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("response", [OK, CHUNKED, WITH_TRAILERS])
async def test_a_transform_of_a_response_that_arrives_later_is_chunked(open_world, response, is_async):
    calls = []
    async with open_world(middlewares=[Uses(response=lambda: Upper(calls, is_async=is_async))]) as world:
        client, server = await ask(world)
        for part in split(response):
            server.send(part)
            await world.settle()
        head, _, body = client.take().partition(b"\r\n\r\n")
        assert head == START + b"Transfer-Encoding: chunked"
        content = b"OK!" if response is OK else b"OKFOO!"
        trailers = b"X-End: 1\r\n" if response is WITH_TRAILERS else b""
        assert body == b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n" + trailers + b"\r\n"
        assert calls == [("end", trailers)]
        client.send(GET)
        await world.settle()
        server.take()
        server.send(OK)
        await world.settle()
        client.expect(START + b"Content-Length: 3\r\n\r\nOK!")


async def test_a_response_that_ends_with_its_connection_becomes_chunked(open_world):
    async with open_world(middlewares=[Uses(response=Upper)]) as world:
        client, server = await ask(world)
        server.send(UNTIL_CLOSE)
        server.lose()
        await world.settle()
        client.expect(START + b"Transfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n1\r\n!\r\n0\r\n\r\n")
        assert not client.is_closed


async def test_a_client_of_http_1_0_gets_a_transformed_response_without_chunks(open_world):
    async with open_world(middlewares=[Uses(response=Upper)]) as world:
        client, server = await ask(world, GET.replace(b"1.1", b"1.0"))
        server.send(OK[:-1])
        server.send(b"k")
        client.expect(START + b"Connection: close\r\n\r\nOK!")
        assert client.is_closed


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (GET.replace(b"GET", b"HEAD"), OK[:-2]),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_a_response_without_a_body_has_no_flow(open_world, request_, response):
    async with open_world(middlewares=[Uses(response=lambda: pytest.fail("called"))]) as world:
        client, server = await ask(world, request_)
        server.send(response)
        client.expect(response)


async def test_informational_responses_are_not_affected(open_world):
    async with open_world(middlewares=[Uses(response=Upper)]) as world:
        client, server = await ask(world)
        server.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
        client.expect(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + START + b"Content-Length: 3\r\n\r\nOK!")


async def test_headers_can_be_changed_together_with_the_body(open_world):
    class Both(Uses):
        def on_response_body(self, exchange):
            exchange.response_headers.remove(b"X-Old")
            exchange.response_headers.set(b"X-New", b"1")
            return Upper()

    async with open_world(middlewares=[Both()]) as world:
        client, server = await ask(world)
        server.send(START + b"X-Old: 1\r\nX-Keep: 2\r\nContent-Length: 2\r\n\r\nok")
        client.expect(START + b"X-Keep: 2\r\nX-New: 1\r\nContent-Length: 3\r\n\r\nOK!")


async def test_uses_are_chained_innermost_first(open_world):
    outer, inner = Tap(), Tap()
    middlewares = [Uses(response=outer), Uses(response=Upper), Uses(response=inner)]
    async with open_world(middlewares=middlewares) as world:
        _, server = await ask(world)
        server.send(OK)
        assert (inner.seen, outer.seen) == (b"ok", b"OK!")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_whole_response_is_decided_about_before_its_head_is_sent(open_world, is_async):
    async def decide_later(body):
        await asyncio.sleep(0)
        return body * 2

    whole = WholeBody(limit_bytes=5, decide=decide_later if is_async else lambda body: body * 2)
    async with open_world(middlewares=[Uses(response=whole)]) as world:
        client, server = await ask(world)
        for part in split(CHUNKED):
            server.send(part)
            if part != CHUNKED[-1:]:
                client.expect(b"")
        await world.settle()
        client.expect(START + b"Content-Length: 10\r\n\r\nokfoookfoo")
        client.send(GET)
        await world.settle()
        server.take()
        server.send(WITH_TRAILERS)
        await world.settle()
        client.expect(START + b"Transfer-Encoding: chunked\r\n\r\na\r\nokfoookfoo\r\n0\r\nX-End: 1\r\n\r\n")


async def test_a_decision_may_replace_the_response(open_world):
    whole = WholeBody(limit_bytes=5, decide=lambda body: Response(status=418, reason="no"))
    async with open_world(middlewares=[Uses(response=whole)]) as world:
        client, server = await ask(world)
        server.send(CHUNKED)
        assert get_status(client) == 418
        client.send(GET)
        await world.settle()
        server.take()
        server.send(OK)
        assert get_status(client) == 418


@pytest.mark.parametrize("response", [OK, CHUNKED])
async def test_a_response_above_the_limit_is_502_or_passed(open_world, response):
    whole = WholeBody(limit_bytes=1, decide=lambda body: pytest.fail("called"))
    async with open_world(middlewares=[Uses(response=whole)]) as world:
        client, server = await ask(world)
        server.send(response)
        assert get_status(client) == 502
        assert server.is_closed
    whole = WholeBody(limit_bytes=1, decide=lambda body: pytest.fail("called"), is_passed_if_larger=True)
    async with open_world(middlewares=[Uses(response=whole)]) as world:
        client, server = await ask(world)
        server.send(response)
        assert get_status(client) == 200


@pytest.mark.parametrize("is_whole", [False, True])
async def test_a_server_that_is_lost_is_502_while_the_head_is_withheld_and_a_reset_afterwards(open_world, is_whole):
    calls = []
    use = WholeBody(limit_bytes=5, decide=lambda body: body) if is_whole else lambda: Upper(calls)
    async with open_world(middlewares=[Uses(response=use), Retry()], servers=2) as world:
        client, server = await ask(world)
        server.send(OK[:-1])
        server.lose()
        await world.settle()
        assert not world.connects
        if is_whole:
            assert get_status(client) == 502
        else:
            assert client.transport.is_reset
            assert calls == ["close"]


async def test_a_transform_that_raises_is_500_while_the_head_is_withheld_and_a_reset_afterwards(open_world):
    class Bad(Upper):
        def end(self, trailers):
            raise RuntimeError("no")

    async with open_world(middlewares=[Uses(response=Bad)]) as world:
        client, server = await ask(world)
        server.send(OK)
        assert get_status(client) == 500
        client.send(GET)
        await world.settle()
        server.send(OK[:-1])
        server.send(b"k")
        assert client.transport.is_reset


async def test_a_use_that_takes_too_long_is_504_or_a_reset(open_world):
    class Slow(Upper):
        async def feed(self, data):
            await asyncio.Event().wait()

    async with open_world(middlewares=[Uses(response=Slow)]) as world:
        for parts in ([OK], [OK[:-1], b"k"]):
            client, server = await ask(world)
            for part in parts:
                server.send(part)
            await world.settle()
            world.advance(world.handler.environment.settings.upstream_body_timeout + 1)
            if len(parts) == 1:
                assert get_status(client) == 504
            else:
                assert client.transport.is_reset
            await world.settle()


async def test_the_server_is_not_read_while_the_client_is_slower(open_world):
    tap = Tap()
    async with open_world(middlewares=[Uses(response=tap)]) as world:
        client, server = await ask(world)
        server.send(START + b"Content-Length: 100000\r\n\r\n")
        client.stop_taking()
        assert not server.transport.is_reading
        client.take_again()
        assert server.transport.is_reading
        server.send(b"a" * 99999)
        assert len(tap.seen) == 99999
        server.send(b"a")
        await world.settle()
        assert len(client.take().partition(b"\r\n\r\n")[2]) == 100000


async def test_an_expanding_transform_waits_for_a_slow_client(open_world):
    class Expanding(Upper):
        def feed(self, data):
            client.stop_taking()
            return data * 3

    async with open_world(middlewares=[Uses(response=Expanding)]) as world:
        client, server = await ask(world)
        server.send(START + b"Content-Length: 200000\r\n\r\n")
        server.send(b"a" * 200000)
        await world.settle()
        assert len(client.transport.sent) < 65536 * 3 + 200
        for _ in range(4):
            client.take_again()
            await world.settle()
        got = client.take()
        assert got.endswith(b"a\r\n1\r\n!\r\n0\r\n\r\n")
        assert got.count(b"a") >= 600000


async def test_the_server_is_not_read_while_a_use_is_awaited(open_world):
    event = asyncio.Event()

    class Slow(Upper):
        async def feed(self, data):
            await event.wait()
            return data

    async with open_world(middlewares=[Uses(response=Slow)]) as world:
        client, server = await ask(world)
        server.send(START + b"Content-Length: 3\r\n\r\n")
        server.send(b"a")
        assert server.transport.is_reading
        server.send(b"b")
        assert not server.transport.is_reading
        event.set()
        await world.settle()
        assert server.transport.is_reading
        server.send(b"c")
        await world.settle()
        assert client.take().endswith(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\n!\r\n0\r\n\r\n")


async def test_uses_end_early_when_the_client_leaves(open_world):
    tap, calls = Tap(), []
    async with open_world(middlewares=[Uses(response=tap), Uses(response=lambda: Upper(calls))]) as world:
        client, server = await ask(world)
        server.send(OK[:-1])
        client.lose()
        await world.settle()
        assert server.is_closed
    assert tap.ends == [False]
    assert calls == ["close"]


async def test_a_response_that_is_retried_has_no_flow(open_world):
    uses = Uses(response=Upper)
    async with open_world(middlewares=[uses, Retry()], servers=2) as world:
        client, server = await ask(world)
        server.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\na")
        other = await world.accept()
        assert uses.lengths == []
        other.send(OK)
        client.expect(START + b"Content-Length: 3\r\n\r\nOK!")


@pytest.mark.parametrize("response", [OK, CHUNKED])
@pytest.mark.parametrize("is_split", [False, True])
async def test_a_connection_whose_response_a_middleware_has_refused_is_not_used_again(open_world, response, is_split):
    class Bad(Upper):
        def feed(self, data):
            raise RuntimeError("no")

    async with open_world(middlewares=[Uses(response=Bad)]) as world:
        client, server = await ask(world)
        at = response.index(b"\r\n\r\n") + 4 if is_split else len(response)
        server.send(response[:at])
        if is_split:
            server.send(response[at:])
        assert server.is_closed
        assert not world.idle
        await world.settle()
        assert client.transport.is_reset if is_split or response is CHUNKED else get_status(client) == 500
