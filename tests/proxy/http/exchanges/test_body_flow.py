"""The stages of one body: their order, sizes, ends and waits, without an exchange."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plugin_system.interfaces import Response, WholeBody
from maesh_core.proxy.http.exchanges.body_flow import PIECE_BYTES, WHOLE_LIMIT_BYTES, BodyFlow, build_stage

from .body_doubles import Tap, Upper

TOO_LARGE = Response(status=413, reason="too large")


class Out:
    """What a flow has passed on."""

    def __init__(self):
        self.data, self.pieces, self.ends, self.failures, self.answers, self.has_room = b"", [], [], [], [], True


def open_flow(*uses):
    """Make a flow through these uses; gives it and what it passes on."""
    out = Out()

    class Flow(BodyFlow):
        @property
        def can_write(self):
            return out.has_room

        def write_output(self, data):
            out.data += data
            out.pieces.append(data)

        def end_output(self, trailers):
            out.ends.append(trailers)

        def on_failed(self, call, error):
            out.failures.append(error)

        def on_answer(self, response):
            out.answers.append(response)

        def on_pumped(self):
            pass

    flow = Flow()
    return flow, out, [build_stage(use, use, too_large=TOO_LARGE, note_failure=lambda *_: None) for use in uses]


class Sizes(Tap):
    def __init__(self):
        super().__init__()
        self.sizes = []

    def observe(self, data):
        self.sizes.append(len(data))


def test_a_stage_gets_no_larger_piece_than_the_limit():
    first, second = Sizes(), Sizes()
    flow, out, stages = open_flow(first, WholeBody(limit_bytes=10**6, decide=lambda body: body), second)
    flow.start(stages)
    flow.feed(b"a" * (2 * PIECE_BYTES + 1))
    flow.end(b"")
    assert first.sizes == second.sizes == [PIECE_BYTES, PIECE_BYTES, 1]
    assert out.data == b"a" * (2 * PIECE_BYTES + 1)


def test_a_whole_body_is_never_larger_than_the_limit():
    flow, out, stages = open_flow(WholeBody(limit_bytes=10**9, decide=lambda body: body))
    flow.start(stages)
    flow.feed(b"a" * WHOLE_LIMIT_BYTES)
    assert not out.answers
    flow.feed(b"a")
    assert out.answers == [TOO_LARGE]
    assert flow.is_closed


def test_content_before_the_start_is_kept_and_so_is_its_end():
    flow, out, stages = open_flow(Upper())
    flow.feed(b"ab")
    flow.feed(b"c")
    flow.end(b"X: y\r\n")
    assert not flow.is_held_up
    flow.feed(b"a" * PIECE_BYTES)
    assert flow.is_held_up
    flow.start(stages)
    assert out.data == b"ABC" + b"A" * PIECE_BYTES + b"!"
    assert out.ends == [b"X: y\r\n"]
    assert flow.is_complete


def test_nothing_is_processed_while_the_output_is_full():
    tap = Tap()
    flow, out, stages = open_flow(tap)
    flow.start(stages)
    out.has_room = False
    flow.feed(b"abc")
    flow.end(b"")
    assert (tap.seen, flow.is_held_up, flow.is_complete) == (b"", True, False)
    out.has_room = True
    flow.pump()
    assert (tap.seen, out.data, out.ends) == (b"abc", b"abc", [b""])


def test_each_use_ends_once_whether_the_body_does_or_not():
    for is_complete in (True, False):
        tap, calls = Tap(), []
        flow, _, stages = open_flow(tap, Upper(calls))
        flow.start(stages)
        flow.feed(b"a")
        if is_complete:
            flow.end(b"")
        flow.close()
        flow.close()
        flow.end(b"")
        flow.feed(b"b")
        assert tap.ends == [is_complete]
        assert calls == [("end", b"")] if is_complete else ["close"]


async def test_a_use_that_is_awaited_is_cancelled_with_the_body():
    cancelled = []

    class Slow(Upper):
        async def feed(self, data):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(data)
                raise

    flow, out, stages = open_flow(Slow())
    flow.start(stages)
    flow.feed(b"a")
    await asyncio.sleep(0)
    assert flow.is_waiting
    flow.close()
    await asyncio.sleep(0)
    assert cancelled == [b"a"]
    assert not out.failures


@pytest.mark.parametrize("result", [None, "a", 3, bytearray(b"a"), Response(status=400, reason="")])
def test_a_transform_must_return_bytes(result):
    class Bad(Upper):
        def feed(self, data):
            return result

    flow, out, stages = open_flow(Bad())
    flow.start(stages)
    flow.feed(b"a")
    assert isinstance(out.failures[0], TypeError)
    assert flow.is_closed


def double(data):
    return bytes(byte for byte in data for _ in range(2))


class Doubling:
    """Repeats each byte, one call later than it gets it."""

    def __init__(self, *, is_async):
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


USES = {
    "tap": lambda: Tap(),
    "double": lambda: Doubling(is_async=False),
    "reverse": lambda: WholeBody(limit_bytes=10**6, decide=lambda body: body[::-1]),
    "small": lambda: WholeBody(limit_bytes=5, decide=lambda body: body, is_passed_if_larger=True),
}


def predict(names, body):
    """Give what these uses make of a body."""
    for name in names:
        if name == "double":
            body = double(body)
        elif name == "reverse":
            body = body[::-1]
    return body


@given(
    st.lists(st.sampled_from(sorted(USES)), max_size=4),
    st.lists(st.binary(max_size=7), max_size=6),
)
def test_the_result_does_not_depend_on_how_the_content_arrives(names, pieces):
    flow, out, stages = open_flow(*[USES[name]() for name in names])
    flow.start(stages)
    for piece in pieces:
        flow.feed(piece)
    flow.end(b"")
    assert out.data == predict(names, b"".join(pieces))
    assert out.ends == [b""]


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=6), st.integers(0, 6), st.booleans())
def test_awaited_uses_keep_the_order(pieces, full_at, is_chained):
    async def run():
        uses = [Doubling(is_async=True), Doubling(is_async=False)] if is_chained else [Doubling(is_async=True)]
        flow, out, stages = open_flow(*uses)
        flow.start(stages)
        for index, piece in enumerate(pieces):
            out.has_room = index != full_at
            flow.feed(piece)
            await asyncio.sleep(0)
        out.has_room = True
        flow.end(b"")
        while not flow.is_complete:
            flow.pump()
            await asyncio.sleep(0)
        return out.data

    data = asyncio.run(run())
    wanted = double(b"".join(pieces))
    assert data == (double(wanted) if is_chained else wanted)
