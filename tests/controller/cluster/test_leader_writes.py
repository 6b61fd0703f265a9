"""The leader's writes: what is marked before, during and after this controller's term."""

from typing import Any

import pytest

from maesh_core.controller.cluster.leader_writes import LeaderWrites
from maesh_core.model.keys import ObjectKey
from maesh_core.model.shadow_names import is_hashed

SHORT, LONG = ObjectKey("shop", "a"), ObjectKey("shop", "a" * 63)


class Followed:
    """Reports or statuses of an engine; they have one subject."""

    def __init__(self):
        self.callbacks = []

    def on_changed(self, callback):
        self.callbacks.append(callback)

    def list_subjects(self):
        return ["subject"]

    def find_identified(self, subjects):
        return {}


class FakeEngine:
    """An engine with two services, of which one has a shadow service, as has one that is gone."""

    def __init__(self):
        self.reports, self.statuses = Followed(), Followed()
        self.callbacks, self.leading = [], []

    def on_built(self, callback):
        self.callbacks.append(callback)

    def list_services(self):
        return [SHORT, LONG]

    def list_shadowed(self):
        return [SHORT, ObjectKey("shop", "gone")]

    def set_leading(self, *, is_leading):
        self.leading.append(is_leading)


class FakeElection:
    remaining_s = 10.0


class Keeper:
    """Notes what it must check, and is asked to forget."""

    def __init__(self):
        self.marked, self.forgotten = [], 0

    def mark(self, *what):
        self.marked += [set(each) for each in what] or ["everything"]

    def forget(self):
        self.forgotten += 1


@pytest.fixture
def writes():
    engine: Any = FakeEngine()
    election: Any = FakeElection()
    client: Any = None
    found: Any = LeaderWrites(client, engine, election, mesh_namespace="maesh", cluster_domain="cluster.local")
    found.shadows, found.dns, found.statuses, found._recorder = Keeper(), Keeper(), Keeper(), Keeper()
    found.follow_engine()
    return found


def change(writes, services):
    """Let the engine say that services and their reports have changed."""
    for callback in writes.engine.callbacks:
        callback(services)
    for callback in writes.engine.reports.callbacks:
        callback(["subject"])


def test_changes_before_the_term_are_ignored_and_its_beginning_checks_everything_once(writes):
    assert is_hashed("maesh", LONG)
    change(writes, {LONG})
    assert (writes.shadows.marked, writes.dns.marked, writes._recorder.marked) == ([], [], [])
    writes.begin()
    assert writes.shadows.marked == [{SHORT, LONG, ObjectKey("shop", "gone")}]
    assert (writes.dns.marked, writes._recorder.marked) == (["everything"], [{"subject"}])
    assert writes.statuses.marked == [{"subject"}]
    assert writes.engine.leading == [True]


def test_only_services_with_long_names_concern_dns(writes):
    writes.begin()
    writes.dns.marked.clear()
    change(writes, {SHORT})
    assert (writes.shadows.marked[1:], writes.dns.marked) == ([{SHORT}], [])
    change(writes, {LONG})
    assert writes.dns.marked == ["everything"]


def test_nothing_is_marked_after_the_term(writes):
    writes.begin()
    writes.end()
    marked = list(writes.shadows.marked)
    change(writes, {SHORT})
    assert writes.shadows.marked == marked
    assert (writes.shadows.forgotten, writes.statuses.forgotten, writes.engine.leading) == (1, 1, [True, False])
