"""Requests that the only middleware of their route lets pass."""

import pytest

from maesh_core.plugin import SkipCount

from .middleware_doubles import GET, OK, Recorder, Retry, ask


class Skipping(Recorder):
    """Skips as `answer` says, or raises it."""

    def __init__(self, calls, answer=True):
        super().__init__("skipping", calls)
        self.answer = answer

    def skips_request(self, head):
        self.calls.append(("skips", head.method, head.host, head.client_headers.get(b"x-a")))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Counting(Skipping):
    """Skips as many requests without a call as `skip_count` says."""

    def __init__(self, calls, count):
        super().__init__(calls, answer=False)
        self.skip_count = count


REQUEST = GET.replace(b"\r\n\r\n", b"\r\nX-A: b\r\n\r\n")
ASKED = ("skips", b"GET", b"a.test.maesh", b"b")
CALLED = [("skipping", "request"), ("skipping", "response", 200), ("skipping", "finished", 200, 1)]


async def test_no_other_method_is_called_for_a_skipped_request(open_world):
    calls = []
    async with open_world(middlewares=[Skipping(calls)]) as world:
        client, server = await ask(world, REQUEST)
        server.send(OK)
        client.expect(OK)
    assert calls == [ASKED]


@pytest.mark.parametrize("answer", [False, None, 1, "yes"])
async def test_an_answer_other_than_true_does_not_skip_the_middleware(open_world, answer):
    calls = []
    async with open_world(middlewares=[Skipping(calls, answer)]) as world:
        client, server = await ask(world, REQUEST)
        server.send(OK)
        client.expect(OK)
    assert calls == [ASKED, *CALLED]


async def test_a_request_is_not_skipped_if_the_method_raises(open_world, caplog):
    calls = []
    async with open_world(middlewares=[Skipping(calls, ValueError("broken"))]) as world:
        client, server = await ask(world, REQUEST)
        server.send(OK)
        client.expect(OK)
        ((_, count),) = world.handler.environment.failures.collect().samples
    assert calls == [ASKED, *CALLED]
    assert count == 1
    assert "middleware Skipping failed; the request is not skipped" in caplog.text


async def test_beside_another_middleware_nothing_is_skipped(open_world):
    calls = []
    async with open_world(middlewares=[Skipping(calls), Retry()]) as world:
        client, server = await ask(world, REQUEST)
        server.send(OK)
        client.expect(OK)
    assert calls == CALLED


async def test_an_offer_of_an_upgrade_is_not_skipped(open_world):
    calls = []
    async with open_world(middlewares=[Skipping(calls)]) as world:
        client, server = await ask(world, GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
        server.send(OK)
        client.expect(OK)
    assert calls == CALLED


async def serve(world, *requests):
    client, server = await ask(world, requests[0])
    server.send(OK)
    client.expect(OK)
    for request in requests[1:]:
        client.send(request)
        server.send(OK)
        client.expect(OK)


async def test_as_many_requests_as_are_counted_pass_without_a_call(open_world):
    calls, count = [], SkipCount(2)
    async with open_world(middlewares=[Counting(calls, count)]) as world:
        await serve(world, REQUEST, REQUEST, REQUEST)
    assert (calls, count.left) == ([ASKED, *CALLED], 0)


@pytest.mark.parametrize("field", [b"traceparent: 1", b"B3: 0", b"x-b3-Sampled: 1"])
async def test_a_request_with_a_trace_context_is_not_counted(open_world, field):
    calls, count = [], SkipCount(2)
    async with open_world(middlewares=[Counting(calls, count)]) as world:
        await serve(world, REQUEST.replace(b"X-A: b", b"X-A: b\r\n" + field))
    assert (calls, count.left) == ([ASKED, *CALLED], 2)


async def test_a_count_that_is_no_count_skips_nothing(open_world):
    calls = []
    async with open_world(middlewares=[Counting(calls, 5)]) as world:
        await serve(world, REQUEST)
    assert calls == [ASKED, *CALLED]
