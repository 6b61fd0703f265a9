"""What a tap asks controllers for, and what it makes of their answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from maesh_core.cli.tap.following import _Merging, build_query, parse_line
from maesh_core.errors import MaeshError, SettingsError
from maesh_core.model.tap import TapDrops, TapError
from maesh_core.settings import TapSettings

from .tap_server import build_record, render_record


class FakePrinter:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.notes: list[str] = []

    def show(self, item: Any) -> None:
        self.shown.append(item)

    def note(self, text: str) -> None:
        self.notes.append(text)


class FakeApi:
    """A controller whose stream has these lines; then it ends, fails, or stays silent."""

    def __init__(self, name: str, *lines: bytes, error: str = "", is_silent: bool = False) -> None:
        self.name = name
        self.lines = lines
        self.error = error
        self.is_silent = is_silent

    async def fetch(self, path: str) -> bytes:
        raise NotImplementedError

    async def follow(
        self, path: str, query: Mapping[str, str], *, silence_limit_s: float
    ) -> AsyncIterator[list[bytes]]:
        yield []
        yield list(self.lines)
        await asyncio.sleep(0)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.error:
            raise MaeshError(self.error)


def test_flags_become_parameters_and_invalid_ones_are_refused() -> None:
    settings = TapSettings(method="get", path="/a*", status="5xx", source="shop/web", limit=3)
    assert build_query(settings) == {
        "method": "GET",
        "path": "/a*",
        "status": "5xx",
        "source": "shop/web",
        "limit": "3",
    }
    assert build_query(TapSettings()) == {}
    with pytest.raises(SettingsError, match="--status is a status such as 404"):
        build_query(TapSettings(status="bad"))


def test_a_line_is_a_record_or_says_what_is_missing() -> None:
    assert parse_line(render_record()) == build_record()
    assert parse_line(b'{"dropped": 3}') == TapDrops(3)
    assert parse_line(b'{"error": "e", "node": "n"}') == TapError(error="e", node="n")
    for line in (b"<html>", b"{}", b"[" * 10_000, b'{"error": "\xff", "node": "n"}'):
        with pytest.raises(MaeshError, match="what answered is no controller"):
            parse_line(line)


async def test_controllers_are_merged_and_the_last_one_that_is_lost_is_the_error() -> None:
    printer = FakePrinter()
    first = FakeApi("a", render_record(path="/1"), error="a is lost")
    second = FakeApi("b", b"", b'{"dropped": 1}', render_record(path="/2"))
    with pytest.raises(MaeshError, match=r"is lost|has ended the tap"):
        await _Merging([first, second], {}, printer, 0).run()
    assert len(printer.shown) == 3
    assert len(printer.notes) == 1


async def test_the_limit_ends_it_and_counts_records_of_all_controllers() -> None:
    printer = FakePrinter()
    apis = [FakeApi(name, *[b'{"dropped": 1}', render_record()] * 2, is_silent=True) for name in "ab"]
    await _Merging(apis, {}, printer, 3).run()
    assert sum(item == build_record() for item in printer.shown) == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}
