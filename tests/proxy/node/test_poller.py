"""Scripts of answers on a fake clock: what is asked, what is applied, how long it waits."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import PullError, StartupError, UpdateRejectedError
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.node.fetch import Answer
from maesh_core.proxy.node.poller import Poller


class ScriptEndedError(Exception):
    """Ends the poller at the end of a script."""


class Script:
    """Answers pulls from a list, on a clock that only pauses and held answers move."""

    def __init__(self, *answers: Answer | Exception, held_s: float = 60.0) -> None:
        self.answers = list(answers)
        self.held_s = held_s
        self.now_s = 0.0
        self.admin_port: int | None = 8080
        self.queries: list[str] = []
        self.holds: list[float] = []
        self.pauses: list[float] = []
        self.failures: list[float] = []
        self.applied: list[tuple[str, str | None]] = []
        self.refuse: Callable[[Update], bool] = lambda update: False
        self.poller = Poller(
            self,
            self.apply,
            node="node 1",
            find_admin_port=lambda: self.admin_port,
            on_failure=lambda: self.failures.append(self.now_s),
            backoff=Backoff(chance=lambda: 1.0),
            pause=self.pause,
            clock=lambda: self.now_s,
        )

    async def fetch(self, query: str, *, hold_s: float = 0.0) -> Answer:
        self.queries.append(query)
        self.holds.append(hold_s)
        if not self.answers:
            raise ScriptEndedError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer.status == 304:
            self.now_s += self.held_s
        return answer

    async def apply(self, body: bytes, since: str | None) -> str:
        update = parse_update(body, {})
        if self.refuse(update):
            raise UpdateRejectedError("refused")
        self.applied.append((update.revision, since))
        return update.revision

    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        self.now_s += delay_s

    async def run(self) -> "Script":
        with pytest.raises(ScriptEndedError):
            await self.poller.run()
        return self


def full(revision: str) -> Answer:
    return Answer(200, render_update(Update(revision=revision, full=True)))


def delta(revision: str) -> Answer:
    return Answer(200, render_update(Update(revision=revision, full=False)))


HELD = Answer(304, b"")
DOWN = PullError("cannot connect")


async def test_the_first_pull_asks_for_the_whole_and_the_next_for_what_changed() -> None:
    script = await Script(full("e.1"), delta("e.2"), HELD).run()
    assert script.queries == [
        "node=node%201&admin=8080",
        "since=e.1&wait=60&node=node%201&admin=8080",
        "since=e.2&wait=60&node=node%201&admin=8080",
        "since=e.2&wait=60&node=node%201&admin=8080",
    ]
    assert script.holds == [0, 60, 60, 60]
    assert script.applied == [("e.1", None), ("e.2", "e.1")]
    assert script.pauses == []


async def test_a_node_without_an_admin_port_sends_none() -> None:
    script = Script(full("e.1"))
    script.admin_port = None
    await script.run()
    assert script.queries == ["node=node%201", "since=e.1&wait=60&node=node%201"]


async def test_a_revision_is_quoted_in_the_query() -> None:
    script = await Script(full("a&b=c d")).run()
    assert script.queries[1] == "since=a%26b%3Dc%20d&wait=60&node=node%201&admin=8080"


@pytest.mark.parametrize("failure", [DOWN, Answer(503, b""), Answer(500, b"{}"), Answer(200, b"{"), Answer(404, b"")])
async def test_it_comes_back_after_a_failure_and_logs_once(
    failure: Answer | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    script = await Script(full("e.1"), *[failure] * 9, full("f.1")).run()
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert [revision for revision, _ in script.applied] == ["e.1", "f.1"]
    assert len(caplog.records) == 2
    assert (script.poller.failures, script.poller.pulls, script.poller.is_connected) == (9, 12, True)


async def test_each_failure_is_reported_at_once() -> None:
    script = await Script(DOWN, Answer(200, b"{"), full("e.1"), DOWN).run()
    assert script.failures == [0.0, 0.1, pytest.approx(0.3)]


async def test_the_backoff_begins_anew_with_every_outage() -> None:
    script = await Script(DOWN, DOWN, full("e.1"), DOWN, delta("e.2")).run()
    assert script.pauses == [0.1, 0.2, 0.1]


async def test_an_outage_keeps_the_revision() -> None:
    script = await Script(full("e.1"), DOWN, delta("e.2")).run()
    assert script.applied[-1] == ("e.2", "e.1")


async def test_a_refused_update_is_followed_by_a_pull_of_the_whole() -> None:
    script = Script(full("e.1"), delta("e.2"), full("e.3"))
    script.refuse = lambda update: update.revision == "e.2"
    await script.run()
    assert script.queries[2] == "node=node%201&admin=8080"
    assert script.pauses == [0.1]
    assert script.applied == [("e.1", None), ("e.3", None)]


async def test_garbage_is_followed_by_a_pull_of_the_whole() -> None:
    script = await Script(full("e.1"), Answer(200, b"\xff"), full("e.1")).run()
    assert script.queries[2] == "node=node%201&admin=8080"


async def test_a_304_to_the_first_pull_is_a_failure() -> None:
    script = await Script(HELD, full("e.1")).run()
    assert script.poller.failures == 1


async def test_a_server_that_holds_nothing_back_is_not_flooded() -> None:
    script = await Script(full("e.1"), full("e.1"), HELD, full("e.1"), held_s=0.0).run()
    assert script.pauses == [1.0, 1.0, 1.0]


async def test_another_error_of_applying_ends_it() -> None:
    async def refuse(body: bytes, since: str | None) -> str:
        raise StartupError("port taken")

    script = Script(full("e.1"))
    script.poller = Poller(script, refuse, node="n", find_admin_port=lambda: None)
    with pytest.raises(StartupError):
        await script.poller.run()


ANSWERS = st.one_of(
    st.just(DOWN),
    st.builds(Answer, st.integers(0, 999), st.binary(max_size=30)),
    st.builds(full, st.text("ab", min_size=1, max_size=2)),
    st.builds(delta, st.text("ab", min_size=1, max_size=2)),
)


@given(answers=st.lists(ANSWERS, max_size=12))
def test_whatever_comes_every_answer_is_followed_by_another_pull(answers: list[Any]) -> None:
    script = Script(*answers)
    asyncio.run(script.run())
    assert len(script.queries) == len(answers) + 1


async def test_facts_are_reported_with_each_pull() -> None:
    script = Script(full("e.1"))
    facts = {"ends": "5", "trust": "a b"}
    script.poller = Poller(
        script, script.apply, node="n", find_admin_port=lambda: None, read_facts=lambda: facts, pause=script.pause
    )
    await script.run()
    assert script.queries[0] == "node=n&transport.ends=5&transport.trust=a%20b"
    assert script.queries[1].endswith("&node=n&transport.ends=5&transport.trust=a%20b")


class Holding(Script):
    """Holds pulls until they are cancelled."""

    def __init__(self) -> None:
        super().__init__(full("e.1"))
        self.held = asyncio.Event()
        self.cancelled = 0

    async def fetch(self, query: str, *, hold_s: float = 0.0) -> Answer:
        if self.answers:
            return await super().fetch(query, hold_s=hold_s)
        self.queries.append(query)
        self.held.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


async def test_a_held_pull_is_sent_again_if_there_are_new_facts() -> None:
    script, facts = Holding(), {"ends": "5"}
    script.poller = Poller(
        script, script.apply, node="n", find_admin_port=lambda: None, read_facts=lambda: facts, pause=script.pause
    )
    polling = asyncio.create_task(script.poller.run())
    await script.held.wait()
    script.held.clear()
    facts["ends"] = "6"
    script.poller.report_facts()
    await script.held.wait()
    assert [query.rpartition("=")[2] for query in script.queries] == ["5", "5", "6"]
    assert (script.cancelled, script.poller.failures, script.poller.is_connected) == (1, 0, True)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    assert script.cancelled == 2
