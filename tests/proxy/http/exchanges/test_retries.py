"""Further attempts of an exchange: which server, how many, their pauses and time-outs, and the request's body."""

import pytest

from maesh_core.errors import ConnectTimeoutError, UpstreamNotReachedError, UpstreamTimeoutError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.exchanges.exchange_view import ATTEMPT_LIMIT
from maesh_core.settings import CarryingSettings

from .middleware_doubles import BUSY, GET, OK, POST, Recorder, Retry, ask, get_status


async def test_retry_uses_another_server_and_asks_all_middlewares_each_time(open_world):
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


async def test_a_request_whose_body_was_sent_is_not_retried(open_world):
    async with open_world(middlewares=[Recorder("only", [], repeats=[True] * 9)]) as world:
        client, server = await ask(world, POST)
        server.send(BUSY)
        client.expect(BUSY)
        client.send(POST)
        server.lose()
        await world.settle()
        assert get_status(client) == 502
        assert not world.connects


async def test_attempts_end_at_the_limit(open_world):
    async with open_world(middlewares=[Recorder("only", [], repeats=[True] * 200)]) as world:
        client = world.open_client()
        client.send(GET)
        for _ in range(ATTEMPT_LIMIT):
            await world.refuse()
        assert get_status(client) == 502
        assert not world.connects


async def test_an_attempt_after_a_time_out_has_a_time_out(open_world):
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


async def test_an_attempt_does_not_see_the_response_of_the_previous_one(open_world):
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


async def test_a_pause_before_a_retry_needs_no_task_and_ends_when_the_client_leaves(open_world, pass_time):
    async with open_world(middlewares=[Retry(7.0)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert not world.connects
        pass_time(7.0)
        (await world.accept()).send(OK)
        client.expect(OK)
        assert world.handler.current.table.counters["a"].retries == 1
    async with open_world(middlewares=[Retry(60.0)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        client.lose()
        pass_time(60.0)
        await world.settle()
        assert not world.connects


async def test_a_middleware_that_forbids_a_retry_overrides_others(open_world):
    for middlewares in ([Guard(word=False), Retry()], [Retry(), Guard(word=False)]):
        async with open_world(middlewares=middlewares, servers=2) as world:
            client = world.open_client()
            client.send(GET)
            await world.refuse()
            assert get_status(client) == 502
            client, server = await ask(world)
            server.send(BUSY)
            client.expect(BUSY)


async def test_the_longest_requested_pause_is_used(open_world):
    async with open_world(middlewares=[Retry(60.0), Retry(True), Retry(0.0)], servers=2) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert not world.connects
        client.lose()


@pytest.mark.parametrize("pause_s", [True, 0.001])
async def test_a_middleware_can_answer_instead_of_a_retry_but_not_instead_of_the_first_attempt(open_world, pause_s):
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


async def test_the_client_gets_the_error_of_the_last_attempt_if_no_server_is_left(open_world):
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
async def test_a_body_is_sent_again_if_all_of_it_was_kept(open_world, body, kept_bytes, is_repeated, is_chunked):
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


async def test_an_incomplete_body_is_not_sent_again(open_world):
    async with open_world(middlewares=[Retry(kept_bytes=100)], servers=2) as world:
        client, server = await ask(world, POST[:-1])
        server.send(BUSY)
        assert get_status(client) == 503
        assert not world.connects


async def test_an_unsent_body_is_sent_with_the_next_attempt(open_world):
    async with open_world(middlewares=[Retry()], servers=2) as world:
        client = world.open_client()
        client.send(POST)
        await world.refuse()
        server = await world.accept()
        assert server.take().endswith(b"\r\n\r\nabc")
        server.send(OK)
        client.expect(OK)


async def test_a_middleware_sets_the_time_out_of_each_attempt(open_world, pass_time):
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


async def test_the_time_out_of_an_attempt_includes_connecting(open_world, pass_time):
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


async def test_a_failed_connect_has_its_own_error(open_world):
    retry = Retry(word=None)
    async with open_world(middlewares=[retry]) as world:
        client = world.open_client()
        client.send(GET)
        await world.refuse()
        assert retry.errors == [UpstreamNotReachedError]


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


async def test_a_balancer_of_a_plugin_reads_the_exchange_for_every_attempt(open_world):
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
async def test_no_retry_starts_after_the_client_has_ended_its_side(open_world, has_paused, outcome):
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
