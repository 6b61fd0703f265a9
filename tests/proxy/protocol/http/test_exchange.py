"""Exchanges: what goes upstream, bodies on their way, and what middlewares may do and cause."""

import asyncio
import contextlib
import gc
import logging

import pytest

from maesh_core.hookspecs import Response
from maesh_core.proxy.protocol.http.exchange import Exchange
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


async def test_forwarded_port_is_that_of_the_host(world):
    _, server = await ask(world, b"GET / HTTP/1.1\r\nHost: A.Test.maesh.:8080\r\n\r\n")
    assert b"\r\nX-Forwarded-Host: A.Test.maesh.:8080\r\nX-Forwarded-Port: 8080\r\n" in server.take()


# --- bodies

CHUNKED = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n"


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
        assert world.handler.current.table.counters["a"].statuses[status] == 1 + (status == 200)
        assert not world.connects


# --- middlewares


class Recorder:
    """Does what it was told to, and keeps what it was called for."""

    def __init__(self, name, calls, *, on_request=None, repeats=()):
        self.name, self.calls, self.result, self.repeats = name, calls, on_request, list(repeats)

    def on_request(self, exchange):
        self.calls.append((self.name, "request"))
        return self.result

    def on_attempt_failed(self, exchange, error):
        self.calls.append((self.name, "failed", getattr(error, "status", None)))
        return self.repeats.pop(0) if self.repeats else None

    def on_response(self, exchange):
        self.calls.append((self.name, "response", exchange.status))
        return self.repeats.pop(0) if self.repeats else None

    def on_finished(self, exchange):
        self.calls.append((self.name, "finished", exchange.status, exchange.attempts))


async def test_middlewares_are_called_outermost_first_on_the_way_in_and_innermost_first_back(open_world):
    calls = []
    async with open_world(middlewares=[Recorder("outer", calls), Recorder("inner", calls)]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)
    assert calls == [
        ("outer", "request"),
        ("inner", "request"),
        ("inner", "response", 200),
        ("outer", "response", 200),
        ("inner", "finished", 200, 1),
        ("outer", "finished", 200, 1),
    ]


async def test_an_answer_of_a_middleware_ends_the_way_in_and_only_those_it_passed_hear_of_the_end(open_world):
    calls = []
    denied = Response(status=403, reason="not you", headers=((b"X-A", b"b"),))
    middlewares = [Recorder("outer", calls), Recorder("middle", calls, on_request=denied), Recorder("inner", calls)]
    async with open_world(middlewares=middlewares) as world:
        client = world.open_client()
        client.send(GET + b"HEAD" + GET[3:])
        answer = (
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n"
            b"X-Maesh-Reason: not you\r\nX-A: b\r\n\r\n"
        )
        client.expect(answer + b"not you\n" + answer)
        assert not world.connects
    once = [("outer", "request"), ("middle", "request"), ("middle", "finished", 403, 0), ("outer", "finished", 403, 0)]
    assert calls == once * 2


@pytest.mark.parametrize(
    "response",
    [
        Response(status=200, reason="x", headers=((b"A\r\nB", b"c"),)),
        Response(status=200, reason="x", headers=((b"A", b"b\r\nC: d"),)),
        Response(status=200, reason="x", headers=((b"Content-Length", b"9"),)),
        Response(status=200, reason="x", headers=(("A", "b"),)),
        Response(status=200, reason=None),
        Response(status=200, reason="a\0b"),
        Response(status=100, reason="x"),
        Response(status=1000, reason="x"),
    ],
)
async def test_an_answer_that_may_not_be_sent_is_500(open_world, response):
    calls = []
    async with open_world(middlewares=[Recorder("only", calls, on_request=response)]) as world:
        client = world.open_client()
        client.send(GET)
        assert client.take().startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain")
    assert calls == [("only", "request"), ("only", "finished", 500, 0)]


async def test_no_text_of_a_reason_makes_a_header(open_world):
    denied = Response(status=403, reason="a\r\nX-Evil: é")
    async with open_world(middlewares=[Recorder("only", [], on_request=denied)]) as world:
        client = world.open_client()
        client.send(GET)
        assert b"\r\nX-Maesh-Reason: a  X-Evil: ?\r\n" in client.take()


class Changer:
    def on_request(self, exchange):
        headers = exchange.request_headers
        assert headers.get(b"USER-agent") == b"curl"
        assert headers.get(b"Host") is None
        headers.set(b"User-Agent", b"maesh")
        headers.add(b"X-A", b"1")
        headers.add(b"x-a", b"2")
        assert headers.get_all(b"X-A") == [b"1", b"2"]
        headers.remove(b"Accept")
        for name in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection", b"X-Real-Ip", b"Expect", b"a b"):
            with pytest.raises(ValueError):
                headers.set(name, b"1")
        for value in (b"a\r\nb", b"a\0", b"\n"):
            with pytest.raises(ValueError):
                headers.add(b"X-B", value)

    def on_response(self, exchange):
        exchange.response_headers.set(b"Server", b"maesh")


async def test_middlewares_change_headers_but_not_framing(open_world, forwarded):
    async with open_world(middlewares=[Changer()]) as world:
        request = POST.replace(b"\r\n\r\n", b"\r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n")
        client, server = await ask(world, request)
        server.expect(
            b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nUser-Agent: maesh\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n"
            + forwarded
            + b"abc"
        )
        server.send(OK.replace(b"\r\n\r\n", b"\r\nServer: x\r\n\r\n"))
        client.expect(b"HTTP/1.1 200 OK\r\nServer: maesh\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("result", [None, 0, 0.0, -1.0, float("nan")])
async def test_what_is_no_wait_and_no_answer_goes_on_at_once(open_world, result):
    async with open_world(middlewares=[Recorder("only", [], on_request=result)]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)


@pytest.mark.parametrize("result", ["yes", True, False])
async def test_a_result_that_is_neither_answer_nor_wait_is_500(open_world, caplog, result):
    async with open_world(middlewares=[Recorder("only", [], on_request=result)]) as world:
        client = world.open_client()
        client.send(GET)
        assert get_status(client) == 500
        assert not world.connects
    assert "Recorder" in caplog.text


async def test_a_delay_holds_the_request_and_its_body_is_bounded_meanwhile(open_world):
    recorder = Recorder("only", [], on_request=0.001)
    async with open_world(middlewares=[recorder]) as world:
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 70000\r\n\r\n" + b"x" * 66000)
        assert not client.transport.is_reading
        world.advance(1000.0)
        client.expect(b"")
        await world.until(lambda: world.connects)
        server = await world.accept()
        assert client.transport.is_reading
        client.send(b"x" * 4000)
        server.send(OK)
        client.expect(OK)


async def test_a_delayed_request_over_a_pooled_connection_is_read_on_and_timed(open_world):
    recorder = Recorder("only", [])
    async with open_world(middlewares=[recorder]) as world:
        server = await world.pool()
        recorder.result = 0.001
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 70000\r\n\r\n" + b"x" * 66000)
        assert not client.transport.is_reading
        await world.until(lambda: server.transport.sent)
        client.send(b"x" * 4000)
        world.advance(60.0)
        assert get_status(client) == 504


async def test_a_client_that_leaves_during_a_delay_ends_it(open_world):
    calls = []
    async with open_world(middlewares=[Recorder("only", calls, on_request=0.001)]) as world:
        client = world.open_client()
        client.send(GET)
        client.lose()
        assert calls == [("only", "request"), ("only", "finished", 0, 0)]
        await asyncio.sleep(0.005)
        assert not world.connects
    assert len(calls) == 2


class Waiter:
    def __init__(self):
        self.gate = asyncio.Event()
        self.result = None
        self.seen = []

    async def on_request(self, exchange):
        self.seen.append("request")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def on_finished(self, exchange):
        self.seen.append("finished")


@pytest.mark.parametrize(
    ("result", "status"),
    [(None, 200), (0.001, 200), (Response(status=403, reason="no"), 403), (RuntimeError("boom"), 500), ("yes", 500)],
)
@pytest.mark.parametrize("is_hidden", [False, True])
async def test_an_async_middleware_is_waited_for(open_world, result, status, is_hidden):
    waiter = Waiter()
    middleware = waiter
    if is_hidden:
        middleware = Recorder("hidden", [])
        middleware.on_request = lambda exchange: waiter.on_request(exchange)
        middleware.on_finished = waiter.on_finished
    async with open_world(middlewares=[middleware]) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        assert waiter.seen == ["request"]
        waiter.result = result
        waiter.gate.set()
        if status == 200:
            await world.until(lambda: world.connects)
            (await world.accept()).send(OK)
        await world.settle()
        assert get_status(client) == status
        assert waiter.seen == ["request", "finished"]


@pytest.mark.parametrize("rounds", [0, 3])
async def test_a_client_that_leaves_cancels_an_async_middleware(open_world, rounds):
    waiter = Waiter()
    async with open_world(middlewares=[waiter]) as world:
        client = world.open_client()
        client.send(GET)
        for _ in range(rounds):
            await asyncio.sleep(0)
        client.lose()
        await world.settle()
        assert waiter.seen == (["request", "finished", "cancelled"] if rounds else ["finished"])


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_an_async_middleware_that_does_not_end_in_time_is_504_counted_and_cancelled(
    open_world, caplog, is_stubborn
):
    class Stubborn(Waiter):
        async def on_request(self, exchange):
            with contextlib.suppress(asyncio.CancelledError):
                await super().on_request(exchange)

    waiter = Stubborn() if is_stubborn else Waiter()
    async with open_world(middlewares=[waiter]) as world:
        client = world.open_client()
        client.send(POST[:-1])
        await world.settle()
        client.send(POST[-1:])
        world.advance(59.0)
        client.expect(b"")
        world.advance(1.0)
        assert get_status(client) == 504
        await world.settle()
        assert waiter.seen == ["request", "finished", "cancelled"]
        assert not world.connects
        client.send(GET)
        waiter.gate.set()
        (await world.accept()).send(OK)
        client.expect(OK)
        metrics = {metric.name: list(metric.samples) for metric in world.handler.collect_metrics()}
        assert [count for _, count in metrics["maesh_middleware_failures"]] == [1]
    assert len(caplog.records) == 1
    assert "504" in caplog.text


async def test_each_async_middleware_has_its_own_time(open_world):
    first, second = Waiter(), Waiter()
    async with open_world(middlewares=[first, second]) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        for waiter in (first, second):
            world.advance(59.0)
            waiter.gate.set()
            await world.settle()
        (await world.accept()).send(OK)
        client.expect(OK)


async def test_a_middleware_reads_what_the_client_sent_and_the_request_goes_on_as_it_came(open_world):
    seen = []

    class Reader:
        def on_request(self, exchange):
            seen.append([exchange.client_headers.get(name) for name in (b"Host", b"X-Forwarded-For", b"x-user")])

    async with open_world(middlewares=[Reader()]) as world:
        request = GET[:-2] + b"X-USER: me\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
        client, server = await ask(world, request)
        assert server.take().startswith(GET[:-2] + b"X-USER: me\r\nX-Forwarded-For: 1.1.1.1, 10.0.0.9\r\n")
        server.send(OK)
        client.expect(OK)
    assert seen == [[b"a.test.maesh", b"1.1.1.1", b"me"]]


async def test_another_attempt_goes_to_another_server_and_all_are_asked_each_time(open_world):
    calls = []
    middlewares = [Recorder("outer", calls), Recorder("inner", calls, repeats=[True, True])]
    async with open_world(middlewares=middlewares, servers=3) as world:
        client = world.open_client()
        client.send(GET)
        tried = {await world.refuse()}
        server = await world.accept()
        server.send(BUSY)
        assert server.is_closed
        client.expect(b"")
        last = await world.accept()
        assert {server.transport.peer, last.transport.peer} | tried == {"10.0.1.1", "10.0.1.2", "10.0.1.3"}
        last.send(OK)
    assert calls == [
        ("outer", "request"),
        ("inner", "request"),
        ("inner", "failed", 502),
        ("outer", "failed", 502),
        ("inner", "response", 503),
        ("outer", "response", 503),
        ("inner", "response", 200),
        ("outer", "response", 200),
        ("inner", "finished", 200, 3),
        ("outer", "finished", 200, 3),
    ]


async def test_a_request_whose_body_was_sent_is_not_repeated(open_world):
    async with open_world(middlewares=[Recorder("only", [], repeats=[True] * 9)]) as world:
        client, server = await ask(world, POST)
        server.send(BUSY)
        client.expect(BUSY)
        client.send(POST)
        server.lose()
        await world.settle()
        assert get_status(client) == 502
        assert not world.connects


async def test_attempts_end_at_a_limit_whatever_middlewares_ask_for(open_world):
    async with open_world(middlewares=[Recorder("only", [], repeats=[True] * 99)]) as world:
        client = world.open_client()
        client.send(GET)
        for _ in range(16):
            await world.refuse()
        assert get_status(client) == 502
        assert not world.connects


async def test_an_attempt_after_a_time_out_is_timed_too(open_world):
    recorder = Recorder("only", [])
    async with open_world(middlewares=[recorder]) as world:
        first, second = world.open_client(), world.open_client()
        first.send(GET)
        second.send(GET)
        servers = [await world.accept(), await world.accept()]
        for server in servers:
            server.send(OK)
        recorder.repeats = [True]
        first.take()
        first.send(GET)
        world.advance(60.0)
        first.expect(b"")
        world.advance(60.0)
        assert get_status(first) == 504
        assert all(server.is_closed for server in servers)


async def test_an_attempt_sees_nothing_of_the_response_before_it(open_world):
    seen = []

    class Watcher(Recorder):
        def on_attempt_failed(self, exchange, error):
            seen.append((exchange.status, exchange.response_headers.lines))

    async with open_world(middlewares=[Watcher("only", [], repeats=[True])], servers=2) as world:
        client, server = await ask(world)
        server.send(BUSY.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"))
        await world.refuse()
        assert get_status(client) == 502
    assert seen == [(0, [])]


@pytest.mark.parametrize("method", ["on_request", "on_attempt_failed", "on_response"])
async def test_a_middleware_that_raises_is_500_logged_once_and_ends_the_asking(open_world, caplog, method):
    calls = []

    class Raiser(Recorder):
        pass

    def fail(self, *_):
        raise RuntimeError("boom")

    setattr(Raiser, method, fail)
    middlewares = [Recorder("outer", calls), Raiser("inner", calls, repeats=[True] * 9)]
    async with open_world(middlewares=middlewares) as world:
        for _ in range(2):
            client = world.open_client()
            client.send(GET)
            if method == "on_attempt_failed":
                await world.refuse()
            elif method == "on_response":
                (await world.accept()).send(OK)
            await world.settle()
            assert get_status(client) == 500
            assert not world.connects
            assert not client.is_closed
        metrics = {metric.name: list(metric.samples) for metric in world.handler.collect_metrics()}
        ((_, count),) = metrics["maesh_middleware_failures"]
        assert count == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "boom" in caplog.text
    outer = [call for call in calls if call[0] == "outer"]
    assert [call[1] for call in outer] == ["request", "finished"] * 2


async def test_a_middleware_that_raises_at_the_end_harms_nothing(open_world, caplog):
    class Raiser:
        def on_finished(self, exchange):
            raise RuntimeError("boom")

    calls = []
    async with open_world(middlewares=[Recorder("outer", calls), Raiser()]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)
        client.send(GET)
        server.send(OK)
        client.expect(OK)
    assert calls.count(("outer", "finished", 200, 1)) == 2


@pytest.mark.parametrize("stage", ["connecting", "waiting", "in the body"])
async def test_middlewares_hear_of_the_end_once_when_the_client_leaves(open_world, stage):
    calls = []
    async with open_world(middlewares=[Recorder("only", calls)]) as world:
        client = world.open_client()
        client.send(GET)
        if stage != "connecting":
            server = await world.accept()
            if stage == "in the body":
                server.send(OK[:-1])
        client.lose()
        await world.settle()
        if stage != "connecting":
            assert server.is_closed
    assert [call[1] for call in calls].count("finished") == 1


async def test_an_exchange_keeps_the_route_it_began_with(open_world):
    calls = []
    async with open_world(middlewares=[Recorder("before", calls)]) as world:
        client, server = await ask(world)
        world.apply(middlewares=[Recorder("after", calls)], servers=1)
        server.send(OK)
        client.expect(OK)
        client.send(GET)
        server.send(OK)
        client.expect(OK)
    assert [call[0] for call in calls] == ["before"] * 3 + ["after"] * 3


async def test_a_host_without_servers_is_503_and_a_closed_one_what_it_says(world):
    world.apply(servers=0)
    client = world.open_client()
    client.send(GET)
    assert get_status(client) == 503
    assert not client.is_closed


def list_exchanges():
    return {id(each) for each in gc.get_objects() if isinstance(each, Exchange)}


@pytest.mark.parametrize("middlewares", [(), (Recorder("only", []),)])
async def test_an_exchange_leaves_no_reference_cycle_behind(open_world, middlewares):
    async with open_world(middlewares=middlewares) as world:
        client = world.open_client()
        gc.collect()
        before = list_exchanges()  # what the logs of other tests hold
        gc.disable()
        try:
            client.send(GET)
            server = await world.accept()
            server.send(OK)
            client.send(POST)
            server.send(BUSY)
            client.send(GET)
            client.lose()
            await world.settle()
            assert list_exchanges() <= before
        finally:
            gc.enable()


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


async def test_whoever_keeps_a_100_waiting_or_a_body_behind_it_is_who_is_blamed(open_world):
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
