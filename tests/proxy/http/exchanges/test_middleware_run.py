"""Exchanges with middlewares: who is called when, what they may do and cause, and other attempts."""

import asyncio
import contextlib
import gc
import logging
import weakref

import pytest

from maesh_core.errors import ConnectTimeoutError, UpstreamNotReachedError, UpstreamTimeoutError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.middleware_run import ATTEMPT_LIMIT
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
        Response(status=200, reason="x", headers=(("A", "b"),)),  # type: ignore[arg-type]
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
    middleware: object = waiter
    if is_hidden:
        middleware = hidden = Recorder("hidden", [])
        hidden.on_request = lambda exchange: waiter.on_request(exchange)
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
        assert [count for _, count in world.handler.environment.failures.collect().samples] == [1]
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


async def test_every_attempt_goes_without_the_claims_of_a_client_that_is_not_trusted(open_world, forwarded):
    seen = []

    class Reads:
        def on_request(self, exchange):
            seen.append(
                [exchange.client_headers.get(name) for name in (b"X-Forwarded-For", b"Forwarded", b"x-real_ip")]
            )
            exchange.request_headers.set(b"X-Seen", b"1")

        def on_attempt_failed(self, exchange, failure):
            return True

    settings = CarryingSettings(node="node", forwarded_headers=())
    async with open_world(middlewares=[Reads()], servers=2, settings=settings) as world:
        client = world.open_client()
        client.send(GET[:-2] + b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nx-real_ip: 1.1.1.1\r\n\r\n")
        await world.refuse()
        server = await world.accept()
        server.expect(GET[:-2] + b"X-Seen: 1\r\n" + forwarded)
        assert seen == [[None, None, None]]


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
    async with open_world(middlewares=[Recorder("only", [], repeats=[True] * 200)]) as world:
        client = world.open_client()
        client.send(GET)
        for _ in range(ATTEMPT_LIMIT):
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
        ((_, count),) = world.handler.environment.failures.collect().samples
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


async def test_a_middleware_may_keep_notes_by_exchange_and_on_it_and_weak_references_harm_nothing(open_world):
    class Keeper:
        def __init__(self):
            self.by_exchange, self.weakly, self.notes = {}, weakref.WeakKeyDictionary(), []

        def on_request(self, exchange):
            exchange.note = self.by_exchange[exchange] = len(self.notes)
            with contextlib.suppress(TypeError):  # a compiled exchange cannot be referred to weakly
                self.weakly[exchange] = True

        def on_finished(self, exchange):
            self.notes.append((exchange.note, self.by_exchange.pop(exchange)))

    keeper = Keeper()
    async with open_world(middlewares=[keeper]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.send(GET)
        server.send(OK)
        client.expect(OK * 2)
    gc.collect()
    assert keeper.notes == [(0, 0), (1, 1)]
    assert not keeper.weakly


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


# --- other attempts: their pauses, their time, their body, and who has something against them


class Retry:
    """Asks for another attempt after every failure and every 503, or says what it was told to."""

    def __init__(self, word=True, *, kept_bytes=0, timeout_s=0.0):
        self.word, self.kept_bytes, self.timeout_s, self.errors = word, kept_bytes, timeout_s, []

    def on_request(self, exchange):
        exchange.attempt_timeout_s = self.timeout_s

    def on_attempt_failed(self, exchange, error):
        self.errors.append(type(error))
        return self.word

    def on_response(self, exchange):
        return self.word if exchange.status == 503 else None


class Guard:
    """Has something against another attempt when told so."""

    def __init__(self, *, word=None, answer=None):
        self.word, self.answer, self.asked = word, answer, 0

    def on_attempt(self, exchange):
        self.asked += 1
        return self.answer

    def on_attempt_failed(self, exchange, error):
        return self.word

    def on_response(self, exchange):
        return self.word


async def test_an_attempt_is_put_off_without_a_task_and_its_client_may_leave_meanwhile(open_world):
    async with open_world(middlewares=[Retry(0.001)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert not world.connects
        await world.until(lambda: world.connects)
        (await world.accept()).send(OK)
        client.expect(OK)
        assert world.handler.current.table.counters["a"].retries == 1
    async with open_world(middlewares=[Retry(60.0)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        client.lose()
        await world.settle()
        assert not world.connects


async def test_whoever_forbids_another_attempt_has_the_last_word(open_world):
    for middlewares in ([Guard(word=False), Retry()], [Retry(), Guard(word=False)]):
        async with open_world(middlewares=middlewares, servers=2) as world:
            client = world.open_client()
            client.send(GET)
            await world.refuse()
            assert get_status(client) == 502
            client, server = await ask(world)
            server.send(BUSY)
            client.expect(BUSY)


async def test_the_longest_pause_that_is_asked_for_is_kept(open_world):
    async with open_world(middlewares=[Retry(60.0), Retry(True), Retry(0.0)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert not world.connects
        client.lose()


@pytest.mark.parametrize("pause_s", [True, 0.001])
async def test_a_middleware_may_answer_in_place_of_another_attempt_but_is_not_asked_about_the_first(
    open_world, pause_s
):
    guard = Guard(answer=Response(status=503, reason="open"))
    async with open_world(middlewares=[guard, Retry(pause_s)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        assert guard.asked == 0
        await world.refuse()
        await world.until(lambda: guard.asked)
        assert client.take().endswith(b"\r\n\r\nopen\n")
        assert not world.connects


async def test_when_no_server_is_left_the_client_hears_why_the_last_attempt_failed(open_world):
    async with open_world(middlewares=[Retry()], servers=1) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        while world.connects:
            await world.refuse()
        answer = client.take()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"no usable server" not in answer


@pytest.mark.parametrize(
    ("body", "kept_bytes", "is_repeated"),
    [(b"abc", 3, True), (b"abc", 2, False), (b"abc", 0, False), (b"", 3, True)],
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_was_sent_is_sent_again_if_it_was_kept_whole(
    open_world, body, kept_bytes, is_repeated, is_chunked
):
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    if is_chunked:
        body = b"%x\r\n%b\r\n" % (len(body), body) * bool(body) + b"0\r\n\r\n"
        kept_bytes += 10 * bool(kept_bytes > 2)
    request = b"PUT / HTTP/1.1\r\nHost: a.test.maesh\r\n%b\r\n\r\n" % framing
    async with open_world(middlewares=[Retry(kept_bytes=kept_bytes)], servers=2) as world:
        client, server = await ask(world, request + body)
        first = server.take()
        assert first.endswith(b"\r\n\r\n" + body)
        server.send(BUSY)
        if not is_repeated and not (is_chunked and not kept_bytes and body == b""):
            client.expect(BUSY)
            return
        other = await world.accept()
        other.expect(first)
        other.send(OK)
        client.expect(OK)


async def test_a_body_of_which_a_part_is_missing_is_not_sent_again(open_world):
    async with open_world(middlewares=[Retry(kept_bytes=100)], servers=2) as world:
        client, server = await ask(world, POST[:-1])
        server.send(BUSY)
        assert get_status(client) == 503
        assert not world.connects


async def test_a_body_that_never_left_is_sent_whole_with_the_next_attempt(open_world):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        client = world.open_client()
        client.send(POST)
        await world.refuse()
        server = await world.accept()
        assert server.take().endswith(b"\r\n\r\nabc")
        server.send(OK)
        client.expect(OK)


@pytest.fixture
async def pass_time(monkeypatch):
    """Run what the loop was asked to call after so many seconds; nothing of it runs by itself."""
    loop, timers = asyncio.get_running_loop(), []

    def call_later(delay_s, callback, *arguments):
        timers.append((delay_s, asyncio.TimerHandle(loop.time() + delay_s, callback, arguments, loop)))
        return timers[-1][1]

    def run(seconds):
        due = [timer for delay_s, timer in timers if delay_s == seconds and not timer.cancelled()]
        timers.clear()
        for timer in due:
            timer._run()

    monkeypatch.setattr(loop, "call_later", call_later)
    return run


async def test_each_attempt_has_the_time_that_a_middleware_gives_it(open_world, pass_time):
    retry = Retry(timeout_s=7.0)
    async with open_world(middlewares=[retry], servers=2) as world:
        client, slow = await ask(world)
        pass_time(7.0)
        await world.until(lambda: slow.is_closed)
        other = await world.accept()
        other.send(OK)
        client.expect(OK)
        assert retry.errors == [UpstreamTimeoutError]
        client.send(GET)
        await world.settle()
        pass_time(7.0)
        await world.until(lambda: len(retry.errors) > 1)
        client.lose()


async def test_the_time_of_an_attempt_holds_while_its_connection_is_made(open_world, pass_time):
    retry = Retry(timeout_s=7.0)
    async with open_world(middlewares=[retry], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.settle()
        pass_time(7.0)
        await world.until(lambda: retry.errors)
        assert retry.errors[0] is ConnectTimeoutError
        assert world.handler.current.table.count_aside()
        client.lose()
        await world.settle()
        for _, _, waiting in world.connects:
            waiting.cancel()


async def test_a_failed_connect_is_told_apart_from_what_came_after_it(open_world):
    retry = Retry(word=None)
    async with open_world(middlewares=[retry]) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert retry.errors == [UpstreamNotReachedError]


class Misguided:
    """Gives what none of its methods may give."""

    def __init__(self, name, word):
        self.__dict__[name] = lambda *_: word


@pytest.mark.parametrize(
    ("name", "word"),
    [("on_response", "again"), ("on_attempt_failed", b"again"), ("on_attempt", True), ("on_attempt", "no")],
)
async def test_a_word_that_means_nothing_is_a_failure_of_the_middleware(open_world, name, word, caplog):
    async with open_world(middlewares=[Misguided(name, word), Retry()], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        if name == "on_response":
            (await world.accept()).send(OK)
        else:
            await world.refuse()
        await world.settle()
        assert get_status(client) == 500
    assert "failed; the exchange is answered with 500" in caplog.text


class Refusing:
    """Decides about access, and cannot."""

    failure_response = Response(status=403, reason="nobody can say whether you may")

    def on_request(self, exchange):
        raise RuntimeError


async def test_a_middleware_says_what_its_failure_is_answered_with(open_world, caplog):
    async with open_world(middlewares=[Refusing()]) as world:
        client = world.open_client()
        client.send(GET)
        assert get_status(client) == 403
    assert "Refusing failed" in caplog.text


class LastByHeader:
    """Chooses the last server, and keeps what it read of the exchange."""

    name = "last"
    settings_type = dict

    def __init__(self):
        self.read = []

    def build_balancer(self, settings, servers, former):
        return self

    def choose(self, exchange, servers):
        self.read.append((exchange.client_headers.get(b"x-user"), len(servers)))
        return servers[-1]


async def test_a_balancer_of_a_plugin_reads_the_exchange_and_is_asked_for_every_attempt(open_world):
    balancer = LastByHeader()
    middlewares = [Recorder("retry", [], repeats=[True])]
    for chain, count in ((), 1), (middlewares, 2):
        async with open_world(
            middlewares=chain, servers=3, load_balancer="last", balancers=BalancerKinds({"last": balancer})
        ) as world:
            client = world.open_client()
            client.send(b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nX-User: me\r\n\r\n")
            hosts = ["10.0.1.3"]
            if count > 1:
                hosts.append("10.0.1.2")
                assert await world.refuse() == hosts[0]
            server = await world.accept()
            assert server.transport.peer == hosts[-1]
            server.send(OK)
            client.expect(OK)
    assert balancer.read == [(b"me", 3), (b"me", 3), (b"me", 2)]


@pytest.mark.parametrize("has_paused", [True, False])
@pytest.mark.parametrize("outcome", ["no response", "503"])
async def test_no_attempt_is_begun_for_a_client_that_has_ended_its_side(open_world, has_paused, outcome):
    settings = CarryingSettings(node="node", half_closed_clients="serve")
    repeater = Recorder("retry", [], repeats=[60.0 if has_paused else True])
    async with open_world(middlewares=[repeater], servers=2, settings=settings) as world:
        client, server = await ask(world)
        if not has_paused:
            client.end()
        if outcome == "503":
            server.send(BUSY)
        else:
            server.lose()
        await world.settle()
        if has_paused:
            client.expect(b"")
            client.end()
            client.protocol.exchange.run._timer.cancel()
            client.protocol.exchange.run._begin_retry()
        assert get_status(client) == (502 if outcome == "no response" else 503)
        await world.settle()
        assert not world.connects
        assert len(world.servers) == 1
