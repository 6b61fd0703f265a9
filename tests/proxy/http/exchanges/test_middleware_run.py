"""Exchanges with middlewares: the order of their calls, what they may answer and change, and what they read."""

import gc
import re

import pytest

from maesh_core.model.traffic_record import CLIENT_LEFT, UPSTREAM_LOST
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.settings import CarryingSettings

from .middleware_doubles import BUSY, GET, OK, POST, Recorder, ask


async def test_requests_pass_middlewares_outermost_first_and_responses_innermost_first(open_world):
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


async def test_on_finished_runs_only_for_a_middleware_that_answers_and_those_outside_it(open_world):
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


async def test_line_breaks_in_a_reason_add_no_header(open_world):
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
async def test_a_result_without_delay_forwards_the_request_at_once(open_world, result):
    async with open_world(middlewares=[Recorder("only", [], on_request=result)]) as world:
        client, server = await ask(world)
        server.send(OK)
        client.expect(OK)


async def test_every_attempt_omits_forwarded_headers_of_an_untrusted_client(open_world, forwarded):
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


@pytest.mark.parametrize("stage", ["connecting", "waiting", "in the body"])
async def test_on_finished_runs_once_when_the_client_leaves(open_world, stage):
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


async def test_an_exchange_keeps_its_first_route(open_world):
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
async def test_an_exchange_leaves_no_reference_cycle(open_world, middlewares):
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


class Witness:
    """Records what an exchange says of itself at its end."""

    def __init__(self):
        self.seen = []

    def on_request(self, exchange):
        assert (exchange.server, exchange.reason) == (None, "")

    def on_finished(self, exchange):
        self.seen.append((exchange.protocol, exchange.server, exchange.reason))


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_exchange_names_its_protocol_and_server_and_has_no_reason_for_a_response(open_world, version):
    witness = Witness()
    async with open_world(middlewares=[witness]) as world:
        client, server = await ask(world, GET.replace(b"1.1", version))
        server.send(OK)
        assert client.take()
    ((protocol, (address, port), reason),) = witness.seen
    assert (protocol, reason) == (f"HTTP/{version.decode()}", "")
    assert address
    assert port


async def test_an_exchange_has_the_reason_of_the_meshs_answer(open_world):
    witness = Witness()
    denied = Recorder("inner", [], on_request=Response(status=403, reason="not you"))
    async with open_world(middlewares=[witness, denied]) as world:
        world.open_client().send(GET)
    assert witness.seen == [("HTTP/1.1", None, "not you")]


@pytest.mark.parametrize("is_client", [True, False])
async def test_an_exchange_has_the_reason_of_an_end_in_the_middle_of_the_response(open_world, is_client):
    witness = Witness()
    async with open_world(middlewares=[witness]) as world:
        client, server = await ask(world)
        server.send(OK[:-1])
        (client if is_client else server).lose()
        await world.settle()
    assert witness.seen[0][2] == (CLIENT_LEFT if is_client else UPSTREAM_LOST)


async def test_a_middleware_can_search_the_head_of_every_request(open_world):
    seen, searches = [], [re.compile(text).search for text in (rb"(?i)\nx-(?:user:|b3-)", rb"\nHost: a\.test")]

    class Searcher:
        def on_request(self, exchange):
            seen.append(tuple(exchange.head_matches(search) for search in (searches[0], *searches)))

    async with open_world(middlewares=[Searcher()]) as world:
        client = world.open_client()
        for field in (b"", b"X-USER: me\r\n", b"", b"", b"x: x-user: me\r\n", b"X-B3-TraceId: 1\r\n"):
            client.send(GET[:-2] + field + b"\r\n")
            (await world.accept() if len(seen) == 1 else world.servers[-1]).send(OK)
            client.expect(OK)
    assert seen == [(is_found, is_found, True) for is_found in (False, True, False, False, False, True)]
