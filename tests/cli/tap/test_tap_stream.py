"""Controllers that are followed one after the other, in a time that the tests move."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest

from maesh_core.cli.tap.tap_stream import PAUSE_S, SHORT_S, TapStream, parse_line
from maesh_core.errors import MaeshError
from maesh_core.model.tap import TapDrops, TapError, TappedRecord

from .tap_server import build_record, render_record


class Time:
    """The time, which pauses and controllers move."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def read(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.pauses.append(seconds)


class FakeApi:
    """A controller whose stream has these lines after 10 s; then it is silent for 2 s, and ends or fails."""

    def __init__(self, name: str, *lines: bytes, error: str = "", refusal: str = "", lives_s: float = 10.0) -> None:
        self.name = name
        self.lines = lines
        self.error, self.refusal, self.lives_s = error, refusal, lives_s
        self.time = Time()
        self.queries: list[Mapping[str, str]] = []
        self.open = 0

    async def fetch(self, path: str) -> bytes:
        raise NotImplementedError

    async def post(self, path: str, body: bytes) -> bytes:
        raise NotImplementedError

    async def follow(
        self, path: str, query: Mapping[str, str], *, silence_limit_s: float
    ) -> AsyncGenerator[list[bytes], None]:
        self.queries.append(query)
        if self.refusal:
            raise MaeshError(self.refusal)
        self.open += 1
        try:
            yield []
            self.time.now_s += self.lives_s
            yield list(self.lines)
            self.time.now_s += 2
            if self.error:
                raise MaeshError(self.error)
        finally:
            self.open -= 1


class Following:
    """A tap, its printer, and its time."""

    def __init__(self, **more: Any) -> None:
        self.shown: list[Any] = []
        self.time = Time()
        self.stream = TapStream({"path": "/"}, self, clock=self.time.read, pause=self.time.pause, **more)

    def show(self, item: Any) -> None:
        self.shown.append(item)

    async def follow(self, *apis: FakeApi) -> bool:
        for api in apis:
            api.time = self.time
        is_lost = await self.stream.follow_one(apis)
        assert not any(api.open for api in apis), "the tap of a lost controller is closed"
        return is_lost

    def list_paths(self) -> Sequence[str]:
        return [item.path for item in self.shown if isinstance(item, TappedRecord)]


def test_a_line_is_a_record_or_says_what_is_missing() -> None:
    assert parse_line(render_record()) == build_record()
    assert parse_line(b'{"dropped": 3}') == TapDrops(3)
    assert parse_line(b'{"error": "e", "node": "n"}') == TapError(error="e", node="n")
    assert parse_line(b'{"error": "e", "controller": "c"}') == TapError(error="e", controller="c")
    for line in (b"<html>", b"{}", b"[" * 10_000, b'{"error": "\xff", "node": "n"}'):
        with pytest.raises(MaeshError, match="what answered is no controller"):
            parse_line(line)


async def test_the_first_controller_that_answers_is_followed_and_no_other() -> None:
    full, first, other = FakeApi("a", refusal="503"), FakeApi("b", render_record(), b""), FakeApi("c")
    following = Following()
    assert await following.follow(full, first, other)
    assert following.shown == [build_record()]
    assert (first.queries, other.queries) == ([{"path": "/"}], [])


async def test_equal_records_of_a_controller_are_all_shown() -> None:
    following = Following()
    await following.follow(FakeApi("a", render_record(), render_record()))
    assert following.shown == [build_record()] * 2


@pytest.mark.parametrize(
    ("error", "reason"), [("", "it has ended the tap"), ("Connection reset by peer", "Connection reset by peer")]
)
async def test_another_controller_is_followed_when_one_is_lost_and_the_gap_is_named(error: str, reason: str) -> None:
    following = Following()
    first = FakeApi("a", render_record(path="/1"), error=error)
    assert await following.follow(first, FakeApi("b"))
    assert await following.follow(first, FakeApi("gone", refusal="no answer"), FakeApi("b", render_record(path="/2")))
    gap = TapError(error=f"{reason}; b is followed after a gap of 2.0 s or more", controller="a")
    assert following.shown == [build_record(path="/1"), gap, build_record(path="/2")]
    assert len(first.queries) == 1
    assert following.time.pauses == []
    assert await following.follow(first, FakeApi("b"))  # it may have started again meanwhile
    assert len(first.queries) == 2


async def test_controllers_that_end_at_once_are_asked_with_pauses() -> None:
    following = Following()
    apis = [FakeApi(name, lives_s=SHORT_S - 1) for name in "ab"]
    for _ in range(4):
        assert await following.follow(*apis)
    assert following.time.pauses == [PAUSE_S] * 3
    assert [len(api.queries) for api in apis] == [2, 2]


async def test_the_loss_is_the_error_if_no_other_controller_answers() -> None:
    for others in ((), (FakeApi("b", refusal="no answer"),)):
        following = Following()
        await following.follow(first := FakeApi("a"))
        with pytest.raises(MaeshError, match="lost the controller at a: it has ended the tap"):
            await following.follow(first, *others)
        assert following.shown == []


async def test_the_first_reason_is_the_error_if_no_controller_answers() -> None:
    with pytest.raises(MaeshError, match="one"):
        await Following().follow(FakeApi("a", refusal="one"), FakeApi("b", refusal="two"))
    with pytest.raises(MaeshError, match="there is no controller"):
        await Following().follow()


async def test_what_is_no_controller_is_lost() -> None:
    following = Following()
    api = FakeApi("a", b"<html>")
    assert await following.follow(api)
    with pytest.raises(MaeshError, match="what answered is no controller"):
        await following.follow(api)


async def test_the_limit_counts_the_records_of_all_controllers() -> None:
    following = Following(limit=3)
    first = FakeApi("a", b'{"dropped": 1}', render_record(path="/1"), render_record(path="/2"))
    second = FakeApi("b", b'{"dropped": 1}', *[render_record(path=f"/{number}") for number in (3, 4)])
    assert await following.follow(first)
    assert not await following.follow(second)
    assert following.list_paths() == ["/1", "/2", "/3"]
    assert [*first.queries, *second.queries] == [{"path": "/", "limit": "3"}, {"path": "/", "limit": "1"}]
    assert asyncio.all_tasks() == {asyncio.current_task()}
