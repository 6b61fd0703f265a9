"""The task in a proxy's parent, with lookups and a clock of the test: what it publishes, and when."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from maesh_egress.allowed_names import AllowedNames
from maesh_egress.lookup import IPV4, MISSING, Answer, Failure, Lookup
from maesh_egress.name_table import NameTable, Times
from maesh_egress.resolving import (
    LOOKUPS_AT_ONCE,
    PUBLISHING_PAUSE_S,
    REFUSED_HERE,
    Resolving,
    has_route,
    wait_at_most,
)

from maesh_core.plugin import MetricFamily, NameAddresses

NAME = "api.example.com"
TURNS = 20
"""Turns of the event loop in which everything that can run has run."""


class FakeParent:
    def __init__(self) -> None:
        self.settings: Any = None
        self.name = "n1"
        self.published: list[Mapping[str, NameAddresses]] = []
        self.families: list[MetricFamily] = []
        self.state: Mapping[str, str] = {}

    def publish_addresses(self, table: Mapping[str, NameAddresses]) -> None:
        self.published.append(table)

    def report(self, families: Any, state: Mapping[str, str]) -> None:
        self.families, self.state = list(families), state


class FakeClient:
    """Answers as the test says; with a gate, not before it opens."""

    def __init__(self) -> None:
        self.results: dict[str, Lookup] = {}
        self.asked: list[str] = []
        self.under_way = self.most_under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def look_up(self, name: str) -> Lookup:
        self.asked.append(name)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        return self.results.get(name, {IPV4: Failure("does not answer")})


class World:
    """The task with its surroundings, and a clock that only the test moves."""

    def __init__(self, allowed: tuple[str, ...] = ("*.example.com",)) -> None:
        self.now = 0.0
        self.parent, self.client = FakeParent(), FakeClient()
        times = Times(shortest_s=5.0, longest_s=3600.0, stale_s=600.0, chance=lambda: 1.0)
        self.timers: list[tuple[float, asyncio.Event]] = []
        self.task = Resolving(
            self.parent,  # type: ignore[arg-type]
            NameTable(times, is_usable=lambda _: True),
            self.client,
            AllowedNames(allowed),
            clock=lambda: self.now,
            wait=self.wait,
        )

    async def wait(self, event: asyncio.Event, limit_s: float | None) -> None:
        if limit_s is not None:
            self.timers.append((self.now + limit_s, event))
        await event.wait()

    async def advance(self, seconds: float = 0.0) -> None:
        """Move the clock, and let everything run that then can."""
        self.now += seconds
        due = [event for at, event in self.timers if at <= self.now]
        self.timers = [(at, event) for at, event in self.timers if at > self.now]
        for event in due:
            event.set()
        for _ in range(TURNS):
            await asyncio.sleep(0)


def run_in(script: Callable[[World], Any], allowed: tuple[str, ...] = ("*.example.com",)) -> World:
    async def run() -> World:
        world = World(allowed)
        task = asyncio.create_task(world.task.run())
        try:
            await script(world)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return world

    return asyncio.run(run())


def test_names_are_looked_up_and_published() -> None:
    async def script(world: World) -> None:
        world.client.results[NAME] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task.receive_names({NAME})
        assert world.task.is_starting
        await world.advance()
        assert not world.task.is_starting

    world = run_in(script)
    assert world.parent.published == [{NAME: NameAddresses(("203.0.113.1",))}]
    assert world.parent.state == {"names": "1"}


def test_a_name_is_looked_up_again_at_its_ttl_and_only_changes_are_published() -> None:
    async def script(world: World) -> None:
        world.client.results[NAME] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task.receive_names({NAME})
        await world.advance()
        await world.advance(59.0)
        assert world.client.asked == [NAME]
        await world.advance(1.0)
        assert world.client.asked == [NAME, NAME]
        world.client.results[NAME] = {IPV4: Answer(("203.0.113.2",), 60.0)}
        await world.advance(60.0)

    world = run_in(script)
    assert [table[NAME].addresses for table in world.parent.published] == [("203.0.113.1",), ("203.0.113.2",)]


def test_a_failure_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def script(world: World) -> None:
        world.task.receive_names({NAME})
        await world.advance()
        await world.advance(1.0)
        await world.advance(2.0)

    world = run_in(script)
    text = "cannot be resolved: DNS does not answer"
    assert [record.getMessage() for record in caplog.records] == [f"{NAME} {text}"]
    assert world.parent.state == {"names": "1", NAME: text}
    (counts,) = [family for family in world.parent.families if family.name == "maesh_egress_lookups_total"]
    assert dict(counts.samples) == {("ok",): 0.0, ("not-found",): 0.0, ("failed",): 3.0}


def test_stale_addresses_are_reported() -> None:
    async def script(world: World) -> None:
        world.client.results[NAME] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task.receive_names({NAME})
        await world.advance()
        world.client.results.clear()
        await world.advance(60.0)

    world = run_in(script)
    assert len(world.parent.published) == 1
    assert world.parent.state == {"names": "1", "stale": "1"}


def test_a_name_that_does_not_exist_counts_as_not_found() -> None:
    async def script(world: World) -> None:
        world.client.results[NAME] = {IPV4: Answer((), 60.0, MISSING)}
        world.task.receive_names({NAME})
        await world.advance()

    world = run_in(script)
    assert world.parent.published == [{NAME: NameAddresses(problem=MISSING)}]
    (counts,) = [family for family in world.parent.families if family.name == "maesh_egress_lookups_total"]
    assert dict(counts.samples)["not-found",] == 1.0


def test_a_name_that_this_proxy_does_not_allow_is_never_looked_up() -> None:
    async def script(world: World) -> None:
        world.task.receive_names({NAME})
        await world.advance()
        assert world.client.asked == []

    world = run_in(script, allowed=("other.example.com",))
    assert world.parent.published == [{NAME: NameAddresses(problem=REFUSED_HERE)}]


def test_names_of_a_new_configuration_replace_the_former_ones() -> None:
    async def script(world: World) -> None:
        for name in (NAME, "new.example.com"):
            world.client.results[name] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task.receive_names({NAME})
        await world.advance()
        world.task.receive_names({"new.example.com"})
        await world.advance()
        await world.advance(PUBLISHING_PAUSE_S)

    assert run_in(script).parent.published[-1] == {"new.example.com": NameAddresses(("203.0.113.1",))}


def test_a_bounded_number_of_lookups_runs_at_once() -> None:
    async def script(world: World) -> None:
        world.client.gate.clear()
        world.task.receive_names({f"n{number}.example.com" for number in range(3 * LOOKUPS_AT_ONCE)})
        await world.advance()
        assert world.client.most_under_way == LOOKUPS_AT_ONCE
        world.client.gate.set()
        await world.advance()
        await world.advance()
        assert len(world.client.asked) == 3 * LOOKUPS_AT_ONCE

    run_in(script)


def test_results_that_arrive_together_are_published_together() -> None:
    names = [f"n{number}.example.com" for number in range(9)]

    async def script(world: World) -> None:
        for name in names:
            world.client.results[name] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task.receive_names(names[:1])
        await world.advance()
        for name in names:
            world.task.receive_names({*names[:1], name})
            await world.advance()
        world.task.receive_names(names)
        await world.advance()
        assert len(world.parent.published) == 1
        await world.advance(PUBLISHING_PAUSE_S)

    world = run_in(script)
    assert [len(table) for table in world.parent.published] == [1, len(names)]


def test_a_lookup_that_raises_is_a_failure_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenClient(FakeClient):
        async def look_up(self, name: str) -> Lookup:
            if name == NAME:
                raise AssertionError("what the library did not expect")
            return await super().look_up(name)

    async def script(world: World) -> None:
        broken = BrokenClient()
        broken.results["b.example.com"] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.task._client = broken
        world.task.receive_names({NAME, "b.example.com"})
        await world.advance()
        await world.advance(PUBLISHING_PAUSE_S)

    world = run_in(script)
    assert world.parent.published[-1] == {
        NAME: NameAddresses(problem="cannot be resolved: DNS failed: AssertionError"),
        "b.example.com": NameAddresses(("203.0.113.1",)),
    }
    assert f"the lookup of {NAME} failed" in caplog.text


def test_a_task_that_is_started_again_looks_up_what_was_under_way() -> None:
    async def run() -> None:
        world = World()
        world.client.results[NAME] = {IPV4: Answer(("203.0.113.1",), 60.0)}
        world.client.gate.clear()
        world.task.receive_names({NAME})
        first = asyncio.create_task(world.task.run())
        await world.advance()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        world.client.gate.set()
        second = asyncio.create_task(world.task.run())
        await world.advance()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert world.client.asked == [NAME, NAME]
        assert world.parent.published == [{NAME: NameAddresses(("203.0.113.1",))}]

    asyncio.run(run())


def test_a_wait_ends_at_its_event_and_at_its_limit() -> None:
    async def run() -> None:
        event = asyncio.Event()
        await wait_at_most(event, 0.0)
        event.set()
        await wait_at_most(event, None)

    asyncio.run(run())


def test_an_address_of_this_machine_has_a_route() -> None:
    assert has_route("127.0.0.1")
