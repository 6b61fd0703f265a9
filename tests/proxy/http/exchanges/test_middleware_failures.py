"""Middlewares that raise, or that return an invalid result."""

import logging

import pytest

from maesh_core.plugin_system.interfaces import Response

from .middleware_doubles import GET, OK, Recorder, Retry, ask, get_status


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
async def test_an_invalid_answer_of_a_middleware_is_500(open_world, response):
    calls = []
    async with open_world(middlewares=[Recorder("only", calls, on_request=response)]) as world:
        client = world.open_client()
        client.send(GET)
        assert client.take().startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain")
    assert calls == [("only", "request"), ("only", "finished", 500, 0)]


@pytest.mark.parametrize("result", ["yes", True, False])
async def test_a_result_that_is_neither_a_response_nor_a_delay_is_500(open_world, caplog, result):
    async with open_world(middlewares=[Recorder("only", [], on_request=result)]) as world:
        client = world.open_client()
        client.send(GET)
        assert get_status(client) == 500
        assert not world.connects
    assert "Recorder" in caplog.text


@pytest.mark.parametrize("method", ["on_request", "on_attempt_failed", "on_response"])
async def test_a_middleware_that_raises_is_500_and_logged_once_and_no_other_is_called(open_world, caplog, method):
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


async def test_an_error_in_on_finished_has_no_effect_on_others(open_world, caplog):
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


class Misguided:
    """Gives what none of its methods may give."""

    def __init__(self, name, word):
        self.__dict__[name] = lambda *_: word


@pytest.mark.parametrize(
    ("name", "word"),
    [("on_response", "again"), ("on_attempt_failed", b"again"), ("on_attempt", True), ("on_attempt", "no")],
)
async def test_an_invalid_decision_about_a_retry_is_500(open_world, name, word, caplog):
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


async def test_a_middleware_can_set_the_response_to_its_failure(open_world, caplog):
    async with open_world(middlewares=[Refusing()]) as world:
        client = world.open_client()
        client.send(GET)
        assert get_status(client) == 403
    assert "Refusing failed" in caplog.text
