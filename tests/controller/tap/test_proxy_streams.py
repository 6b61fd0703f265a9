"""Which proxies a tap follows, as they come, move, fail and vanish, and what it says of those that are missing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING
from maesh_core.controller.tap import proxy_streams as module
from maesh_core.controller.tap.proxy_streams import NOT_ASKED, ProxyStreams
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.tap import TapError

from .fake_proxies import FakeProxies

GONE = NodeUnreachableError("the proxy cannot be reached")


class Viewer:
    """Keeps lines and errors."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.errors: list[TapError] = []

    def on_line(self, name: str, line: bytes) -> None:
        self.lines.append(line)

    def on_missing(self, error: TapError) -> None:
        self.errors.append(error)


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> FakeProxies:
    monkeypatch.setattr(module, "REFRESH_S", 0)
    return FakeProxies("a")


@pytest.fixture
async def viewer(proxies: FakeProxies) -> AsyncIterator[Viewer]:
    """Run the streams for a viewer."""
    viewer = Viewer()
    streams = ProxyStreams(proxies, "path=%2F", viewer, count_spare=lambda: proxies.connections_limit - len(streams))
    running = asyncio.create_task(streams.run(proxies))
    await proxies.settle()
    yield viewer
    assert len(streams) <= proxies.connections_limit
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_lines_of_all_proxies_arrive_and_empty_ones_do_not(proxies: FakeProxies, viewer: Viewer) -> None:
    proxies.change("b")
    await proxies.send("a", b"1", b"")
    await proxies.send("b", b"2")
    await proxies.settle()
    assert sorted(viewer.lines) == [b"1", b"2"]
    assert proxies.queries == [("a", "path=%2F"), ("b", "path=%2F")]


async def test_a_proxy_that_cannot_be_reached_is_named_once_and_asked_again(
    proxies: FakeProxies, viewer: Viewer
) -> None:
    for asked in (1, 2):
        await proxies.send("a", GONE)
        await proxies.settle()
        assert len(proxies.queries) == asked + 1
    error = TapError(error="the proxy cannot be reached", node="a")
    assert viewer.errors == [error]
    await proxies.send("a", b"1", GONE)
    await proxies.settle()
    assert viewer.errors == [error, error]


async def test_a_proxy_that_does_not_pull_is_named_and_not_asked(proxies: FakeProxies, viewer: Viewer) -> None:
    proxies.change("old", ready=False)
    await proxies.settle()
    assert viewer.errors == [TapError(error=NOT_PULLING, node="old")]
    assert [name for name, _ in proxies.queries] == ["a"]


async def test_a_proxy_whose_pulls_are_refused_is_followed_and_not_left(proxies: FakeProxies, viewer: Viewer) -> None:
    proxies.change("a", ready=False, refused=True)
    proxies.change("b", ready=False, refused=True)
    await proxies.settle()
    await proxies.send("a", b"1")
    await proxies.send("b", b"2")
    await proxies.settle()
    assert sorted(viewer.lines) == [b"1", b"2"]
    assert (proxies.left, viewer.errors) == ([], [])


async def test_a_proxy_that_pulls_from_another_controller_is_followed_once(
    proxies: FakeProxies, viewer: Viewer
) -> None:
    changes: list[dict[str, Any]] = [{"ready": False}, {"last_seen": "later", "revision": "f.1"}]
    for fields in changes:
        proxies.change("a", **fields)
        await proxies.settle()
    proxies.reports.clear()  # the controller that knows it does not answer
    await proxies.settle()
    await proxies.send("a", b"1")
    await proxies.settle()
    assert viewer.lines == [b"1"]
    assert (len(proxies.queries), viewer.errors) == (1, [])


async def test_a_proxy_with_another_address_is_followed_there(proxies: FakeProxies, viewer: Viewer) -> None:
    for number, (ip, port) in enumerate((("10.1.0.2", 8080), ("10.1.0.2", 8081)), 2):
        proxies.change("a", ip=ip, admin_port=port)
        await proxies.settle()
        assert [name for name, _ in proxies.queries] == ["a"] * number
        assert proxies.left == ["a"] * (number - 1)
    await proxies.send("a", b"1")
    await proxies.settle()
    assert viewer.lines == [b"1"]
    assert viewer.errors == []


async def test_an_address_is_followed_once_whatever_names_it_has(proxies: FakeProxies, viewer: Viewer) -> None:
    port = proxies.reports["a"].admin_port
    proxies.change("b", ip="::ffff:10.1.0.1", admin_port=port)
    await proxies.settle()
    proxies.change("a", ready=False)
    await proxies.settle()
    del proxies.reports["a"]
    await proxies.settle()
    await proxies.send("a", b"1")
    await proxies.settle()
    assert viewer.lines == [b"1"]
    assert ([name for name, _ in proxies.queries], viewer.errors) == (["a"], [])
    await proxies.send("a", GONE)  # it was started again, with its new name
    await proxies.send("b", b"2")
    await proxies.settle()
    assert viewer.lines == [b"1", b"2"]


async def test_proxies_with_one_address_and_unknown_ports_are_asked_each(proxies: FakeProxies, viewer: Viewer) -> None:
    for name in "bc":
        proxies.change(name, admin_port=None)
    await proxies.settle()
    assert [name for name, _ in proxies.queries] == ["a", "b", "c"]


async def test_proxies_above_the_limit_of_connections_are_named(proxies: FakeProxies, viewer: Viewer) -> None:
    proxies.connections_limit = 1
    proxies.change("b")
    await proxies.settle()
    assert viewer.errors == [TapError(error=NOT_ASKED, node="b")]
    assert [name for name, _ in proxies.queries] == ["a"]


async def test_at_the_limit_the_first_proxies_are_followed_and_others_are_left(
    proxies: FakeProxies, viewer: Viewer
) -> None:
    proxies.connections_limit = 2
    proxies.change("b")
    await proxies.settle()
    known = proxies.reports
    proxies.reports = {}
    proxies.change("own")
    proxies.reports |= known
    await proxies.settle()
    assert proxies.left == ["b"]
    assert viewer.errors == [TapError(error=NOT_ASKED, node="b")]
    del proxies.reports["own"]
    proxies.change("a", ready=False)
    proxies.change("c")
    await proxies.settle()
    assert sorted(proxies.left) == ["a", "b", "own"]
    assert viewer.errors[1:] == [TapError(error=NOT_PULLING, node="a")]


async def test_a_controller_that_does_not_answer_is_named_once_each_time(proxies: FakeProxies, viewer: Viewer) -> None:
    error = TapError(error="the controller cannot be reached", controller="c-2")
    for count in (1, 2):
        proxies.missing = {"c-2": error.error}
        await proxies.settle()
        assert viewer.errors == [error] * count
        proxies.missing = {}
        await proxies.settle()


async def test_what_was_said_of_names_that_are_gone_is_forgotten(proxies: FakeProxies, viewer: Viewer) -> None:
    for _ in range(2):
        proxies.change("old", ready=False)
        await proxies.settle()
        del proxies.reports["old"]
        await proxies.settle()
    assert viewer.errors == [TapError(error=NOT_PULLING, node="old")] * 2
