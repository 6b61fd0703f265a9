"""What a node has in force, over workers and entrypoints that do as they are told."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.proxy.node.configuration import NodeConfiguration
from maesh_core.proxy.routing.refusals import RefusedRouter
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.workers.messages import Applied, Failed, Report

WANTED = WantedEntrypoint("TCP", 5000, "http")


class FakeNode:
    """A pool and its entrypoints in one."""

    def __init__(self) -> None:
        self.has_joined = asyncio.Event()
        self.joined: list[Any] = []
        self.reports: list[Report] = [Applied(entrypoints=[WANTED], refused={})]
        self.payloads: list[bytes] = []
        self.sinces: list[str | None] = []
        self.opened: frozenset[WantedEntrypoint] = frozenset()
        self.closed: Mapping[WantedEntrypoint, str] = {}
        self.firsts: list[bool] = []
        self.configuration = NodeConfiguration(self, self, clock=lambda: 42.0)  # type: ignore[arg-type]
        self.join("one")

    def join(self, link: Any) -> None:
        self.joined.append(link)
        self.has_joined.set()

    async def ask_all(self, order: Any, *, payload: bytes = b"") -> dict[Any, Report]:
        self.payloads.append(payload)
        self.sinces.append(order.since)
        return dict(enumerate(self.reports))

    async def ask(self, link: Any, order: Any, *, payload: bytes = b"") -> Report:
        self.payloads.append(payload)
        return self.reports[0]

    async def apply(self, wanted: frozenset[WantedEntrypoint], *, is_first: bool) -> None:
        self.opened = wanted
        self.firsts.append(is_first)

    async def hand_over(self, link: Any) -> None:
        self.join(link)


def full(revision: str = "e.1") -> bytes:
    router = HttpRouter(entrypoint=5000, hosts=("h",))
    return render_update(Update(revision=revision, full=True, sections={"http": Section(routers={"r": router})}))


def delta(revision: str) -> bytes:
    return render_update(Update(revision=revision, full=False, removed=("http/routers/r",)))


async def test_what_is_in_force_is_rendered_whole_and_there_is_nothing_before_the_first() -> None:
    node = FakeNode()
    assert node.configuration.render() is None
    await node.configuration.apply(full(), None)
    assert node.configuration.render() == full()
    await node.configuration.apply(delta("e.2"), "e.1")
    rendered = parse_update(node.configuration.render() or b"", {})
    assert (rendered.revision, rendered.full, rendered.sections["http"].routers) == ("e.2", True, {})


async def test_an_update_goes_to_the_workers_as_it_came_and_opens_what_they_want() -> None:
    node = FakeNode()
    assert await node.configuration.apply(full(), None) == "e.1"
    assert await node.configuration.apply(delta("e.2"), "e.1") == "e.2"
    assert (node.payloads, node.sinces) == ([full(), delta("e.2")], [None, "e.1"])
    assert (node.opened, node.firsts) == (frozenset({WANTED}), [True, False])
    configuration = node.configuration
    assert (configuration.revision, configuration.applied, configuration.applied_at_s) == ("e.2", 2, 42.0)


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ([Applied(entrypoints=[]), Failed(text="no such thing")], "no such thing"),
        ([], "every worker ended while applying it"),
    ],
)
async def test_what_a_worker_refuses_or_none_survives_is_not_in_force(reports: list[Report], text: str) -> None:
    node = FakeNode()
    await node.configuration.apply(full(), None)
    node.reports = reports
    with pytest.raises(UpdateRejectedError, match=text):
        await node.configuration.apply(delta("e.2"), "e.1")
    assert (node.configuration.revision, node.configuration.rejected) == ("e.1", 1)
    assert node.opened == frozenset({WANTED})


async def test_garbage_reaches_no_worker() -> None:
    node = FakeNode()
    with pytest.raises(UpdateRejectedError):
        await node.configuration.apply(b"{", None)
    assert (node.payloads, node.configuration.rejected) == ([], 1)


async def test_a_new_worker_gets_the_whole_that_deltas_have_made() -> None:
    node = FakeNode()
    await node.configuration.introduce("first")  # type: ignore[arg-type]
    assert node.payloads == []
    await node.configuration.apply(full(), None)
    await node.configuration.apply(delta("e.2"), "e.1")
    await node.configuration.introduce("late")  # type: ignore[arg-type]
    assert node.payloads[-1] == render_update(Update(revision="e.2", full=True))
    assert node.joined == ["one", "first", "late"]


async def test_a_new_worker_that_refuses_the_whole_does_not_join() -> None:
    node = FakeNode()
    await node.configuration.apply(full(), None)
    node.reports = [Failed(text="no")]
    with pytest.raises(ValueError, match="refused the current configuration: no"):
        await node.configuration.introduce("late")  # type: ignore[arg-type]
    assert node.joined == ["one"]


async def test_an_update_waits_for_a_worker() -> None:
    node = FakeNode()
    node.joined.clear()
    node.has_joined.clear()
    applying = asyncio.create_task(node.configuration.apply(full(), None))
    await asyncio.sleep(0)
    assert not applying.done()
    await node.configuration.introduce("one")  # type: ignore[arg-type]
    assert await applying == "e.1"


async def test_a_cached_configuration_counts_only_as_the_first() -> None:
    node = FakeNode()
    assert await node.configuration.apply_first(full("cached.1"))
    await node.configuration.apply(full("e.1"), None)
    assert not await node.configuration.apply_first(full("cached.1"))
    assert node.configuration.revision == "e.1"


async def test_refused_routers_are_those_of_the_last_report_and_of_closed_entrypoints() -> None:
    node = FakeNode()
    node.reports = [Applied(entrypoints=[], refused={"udp/routers/u": "not loaded"})]
    await node.configuration.apply(full(), None)
    node.reports = [Applied(entrypoints=[], refused=None)]
    await node.configuration.apply(full("e.2"), None)
    node.closed = {WANTED: "in use"}
    assert node.configuration.list_refused() == [
        RefusedRouter("http/routers/r", "in use"),
        RefusedRouter("udp/routers/u", "not loaded"),
    ]
    assert node.configuration.refused_count == 1
