"""Middlewares that delay a request, and async middlewares: body limits, time-outs, and clients that leave."""

import asyncio
import contextlib

import pytest

from maesh_core.plugin_system.interfaces import Response

from .middleware_doubles import GET, OK, POST, Recorder, get_status


async def test_a_delayed_request_buffers_a_bounded_part_of_its_body(open_world):
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


async def test_a_delayed_request_over_a_pooled_connection_is_read_and_has_a_time_out(open_world):
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
async def test_an_exchange_waits_for_an_async_middleware(open_world, result, status, is_hidden):
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
async def test_a_late_async_middleware_is_504_and_counted_and_cancelled(open_world, caplog, is_stubborn):
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


async def test_each_async_middleware_has_its_own_time_out(open_world):
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
