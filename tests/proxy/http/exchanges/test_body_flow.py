"""The uses of one body, whatever its direction: their order, sizes, waits, and what they may return."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.plugin_system.interfaces import Response, WholeBody
from maesh_core.proxy.http.collected import COLLECTED_BYTES_LIMIT
from maesh_core.proxy.http.exchanges.body_flow import PIECE_BYTES, WHOLE_LIMIT_BYTES
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES

from .body_doubles import Tap, Upper, Uses
from .middleware_doubles import OK, POST, get_status

HEAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\n"


class Sizes(Tap):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def observe(self, data):
        self.sizes.append(len(data))


async def test_a_stage_gets_no_larger_piece_than_the_limit(open_world):
    first, second = Sizes(), Sizes()
    whole = WholeBody(limit_bytes=10**6, decide=lambda body: body)
    async with open_world(middlewares=[Uses(first), Uses(whole), Uses(second)]) as world:
        client = world.open_client()
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * PIECE_BYTES + 1))
        client.send(b"a" * (2 * PIECE_BYTES + 1))
        server = await world.accept()
        assert server.take().endswith(b"\r\n\r\n" + b"a" * (2 * PIECE_BYTES + 1))
        assert first.sizes == second.sizes == [PIECE_BYTES, PIECE_BYTES, 1]
        server.send(OK)
        client.expect(OK)


async def test_a_whole_body_is_never_larger_than_the_limit(open_world):
    whole = WholeBody(limit_bytes=10**9, decide=lambda body: pytest.fail("called"))
    async with open_world(middlewares=[Uses(whole)]) as world:
        client = world.open_client()
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % (WHOLE_LIMIT_BYTES + 1))
        assert get_status(client) == 413
        client = world.open_client()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (WHOLE_LIMIT_BYTES + 1))
        client.send(b"a" * WHOLE_LIMIT_BYTES)
        client.expect(b"")
        client.send(b"a")
        assert get_status(client) == 413


async def test_content_waits_within_bounds_until_the_middlewares_have_decided_about_the_request(open_world):
    event = asyncio.Event()

    class Waits(Uses):
        async def on_request(self, exchange):
            await event.wait()

    tap = Tap()
    async with open_world(middlewares=[Waits(Upper), Uses(tap)]) as world:
        client = world.open_client()
        client.send(HEAD + b"Content-Length: %d\r\n\r\nabc" % (PENDING_LIMIT_BYTES + 4))
        assert client.transport.is_reading
        client.send(b"d" * PENDING_LIMIT_BYTES)
        assert not client.transport.is_reading
        event.set()
        server = await world.accept()
        assert client.transport.is_reading
        assert tap.seen == b"ABC" + b"D" * PENDING_LIMIT_BYTES
        client.send(b"e")
        assert tap.ends == [True]
        assert server.take().endswith(b"1\r\nE\r\n1\r\n!\r\n0\r\n\r\n")
        server.send(OK)
        client.expect(OK)


async def test_nothing_is_processed_while_the_server_is_slower(open_world):
    tap = Tap()
    async with open_world(middlewares=[Uses(tap)]) as world:
        client = world.open_client()
        client.send(HEAD + b"Content-Length: 4\r\n\r\na")
        server = await world.accept()
        server.stop_taking()
        assert not client.transport.is_reading
        client.protocol.data_received(b"bc")  # what the event loop had read already
        assert tap.seen == b"a"
        server.take_again()
        await world.settle()
        assert tap.seen == b"abc"
        client.send(b"d")
        assert server.take().endswith(b"\r\n\r\nabcd")
        server.send(OK)
        client.expect(OK)


async def test_a_use_that_is_awaited_is_cancelled_with_the_body(open_world):
    cancelled = []

    class Slow(Upper):
        async def feed(self, data):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(data)
                raise

    async with open_world(middlewares=[Uses(Slow)]) as world:
        client = world.open_client()
        client.send(POST)
        await world.settle()
        client.lose()
        await world.settle()
        assert cancelled == [b"abc"]
        assert not world.handler.environment.failures.collect().samples


@pytest.mark.parametrize("result", [None, "a", 3, bytearray(b"a"), Response(status=400, reason="")])
async def test_a_transform_must_return_bytes(open_world, result):
    class Bad(Upper):
        def feed(self, data):
            return result

    async with open_world(middlewares=[Uses(Bad)]) as world:
        client = world.open_client()
        client.send(POST)
        assert get_status(client) == 500


def double(data):
    return bytes(byte for byte in data for _ in range(2))


class Doubling:
    """Repeats each byte, one call later than it gets it."""

    def __init__(self, *, is_async=False):
        self.held, self.is_async = b"", is_async

    def feed(self, data):
        out, self.held = double(self.held), data
        return self.later(out) if self.is_async else out

    async def later(self, out):
        await asyncio.sleep(0)
        return out

    def end(self, trailers):
        return double(self.held)

    def close(self):
        pass


async def reverse_later(body):
    await asyncio.sleep(0)
    return body[::-1]


USES = {
    "tap": (Tap, lambda body: body),
    "double": (Doubling, double),
    "double later": (lambda: Doubling(is_async=True), double),
    "reverse": (WholeBody(limit_bytes=10**6, decide=lambda body: body[::-1]), lambda body: body[::-1]),
    "reverse later": (WholeBody(limit_bytes=10**6, decide=reverse_later), lambda body: body[::-1]),
    "small": (WholeBody(limit_bytes=5, decide=lambda body: body, is_passed_if_larger=True), lambda body: body),
}


def render_chunks(pieces):
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


def read_content(message):
    """Read the content of a message with a length or with chunks, as a plain reader does."""
    head, _, body = message.partition(b"\r\n\r\n")
    if b"content-length" in head.lower():
        return body
    content = b""
    while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
        start = body.index(b"\r\n") + 2
        content, body = content + body[start : start + size], body[start + size + 2 :]
    assert body == b"0\r\n\r\n"
    return content


def has_ended(message):
    head, _, body = message.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            return len(body) == int(line[16:])
    return body.endswith(b"0\r\n\r\n")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(USES)), max_size=4),
    st.lists(st.binary(min_size=1, max_size=7), max_size=6),
    st.lists(st.integers(0, 6), max_size=3),
)
def test_the_result_depends_neither_on_how_the_content_arrives_nor_on_slow_peers(open_world, names, pieces, slow_at):
    wanted_request = wanted_response = b"".join(pieces)
    for name in names:
        wanted_request = USES[name][1](wanted_request)
        wanted_response = USES[name][1](wanted_response)

    async def run():
        middlewares = [Uses(USES[name][0], USES[name][0]) for name in names]
        async with open_world(middlewares=middlewares) as world:
            client = world.open_client()
            client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for piece in (*render_chunks(pieces), b"0\r\n\r\n"):
                await world.until(lambda: client.transport.is_reading)
                client.send(piece)
            await world.until(lambda: world.connects)
            server = await world.accept()
            await world.until(lambda: has_ended(server.transport.sent))
            assert read_content(server.take()) == wanted_request
            server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at, piece in enumerate((*render_chunks(pieces), b"0\r\n\r\n")):
                await world.until(lambda: server.transport.is_reading)
                server.send(piece)
                if at in slow_at:
                    client.stop_taking()
                    await asyncio.sleep(0)
                    client.take_again()
            await world.until(lambda: has_ended(client.transport.sent))
            assert read_content(client.take()) == wanted_response

    asyncio.run(run())


@pytest.mark.parametrize("is_passed", [False, True])
async def test_bodies_are_collected_only_while_the_worker_has_room(open_world, is_passed):
    whole = WholeBody(limit_bytes=10, decide=lambda body: body, is_passed_if_larger=is_passed)
    async with open_world(middlewares=[Uses(whole)]) as world:
        room = world.handler.environment.collected
        first = world.open_client()
        first.send(POST[:-1])
        assert room.size_bytes == 2
        assert room.reserve(COLLECTED_BYTES_LIMIT - 2)
        second = world.open_client()
        second.send(POST)
        if is_passed:
            server = await world.accept()
            server.send(OK)
            second.expect(OK)
        else:
            assert get_status(second) == 413
        room.release(COLLECTED_BYTES_LIMIT - 2)
        first.lose()
        await world.settle()
        assert room.size_bytes == 0
        third = world.open_client()
        third.send(POST)
        if not is_passed:  # otherwise the connection is in the pool
            server = await world.accept()
        assert room.size_bytes == 0
        server.send(OK)
        third.expect(OK)


async def test_uses_end_when_a_later_one_cannot_begin(open_world):
    tap = Tap()

    class Closing(Upper):
        def close(self):
            raise RuntimeError("no")

    async with open_world(middlewares=[Uses(tap), Uses(Closing), Uses(3)]) as world:
        client = world.open_client()
        client.send(POST)
        assert get_status(client) == 500
    assert tap.ends == [False]


async def test_a_use_that_raises_when_it_is_closed_changes_nothing(open_world):
    tap = Tap()

    class Closing(Upper):
        def close(self):
            raise RuntimeError("no")

    async with open_world(middlewares=[Uses(Closing), Uses(tap)]) as world:
        client = world.open_client()
        client.send(POST[:-1])
        await world.settle()
        client.lose()
        await world.settle()
        assert world.handler.environment.failures.collect().samples
    assert tap.ends == [False]
