"""The controller's metrics: what it holds, what it did, and how it is."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.metrics import BuildCounts, MetricsPage, collect_engine_metrics, collect_status_metrics
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import ControllerReport, TransportReport
from maesh_core.model.resources import Pod, Service

from .rebuilds.engine_setup import BOOM, build_engine, build_pod, build_service, start


def scrape(*sources):
    """Return the samples by name and label values."""
    text = MetricsPage(*sources).render()[0].decode()
    return {
        (sample.name.removeprefix("maesh_controller_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Source:
    name = "s"

    def watch_events(self, kinds):
        raise NotImplementedError


class FollowedSource(Source):
    """A source that has lost one kind."""

    def is_followed(self, kind):
        return kind.name != "Pod"


class Status:
    is_current = False

    def report(self):
        return ControllerReport(name="me", ready=False, leads=True, leader="me", revision="e.1")


def test_events_are_counted_by_source_kind_and_event():
    counts = BuildCounts(CORE_KINDS)
    service = build_service("a")
    other: Any = str  # not a kind of resources
    events: list[Any] = [
        Replaced(Service, [service]),
        Applied(service),
        Deleted(Pod, ObjectKey("n", "p")),
        Problem("a.yaml", "broken"),
        Problem("x", "invalid", "Service"),
        Problem("y", "invalid", "Invented" * 100),
        Deleted(other, ObjectKey("n", "p")),
    ]
    counts.count(events, source="s", duration_s=0.002)
    found = scrape(counts.collect)
    assert {key[1:]: value for key, value in found.items() if key[0] == "events_total"} == {
        ("listed", "Service", "s"): 1,
        ("applied", "Service", "s"): 1,
        ("deleted", "Pod", "s"): 1,
        ("problem", "Service", "s"): 1,
        ("problem", "other", "s"): 2,
        ("deleted", "other", "s"): 1,
    }


def test_the_time_of_builds_and_of_the_revision_is_kept():
    counts = BuildCounts(CORE_KINDS, wall_clock=lambda: 1234.5)
    for duration_s in (0.001, 0.002, 100.0):
        counts.count([], source="s", duration_s=duration_s)
    assert scrape(counts.collect)["revision_timestamp_seconds",] == 0
    counts.note_revision()
    found = scrape(counts.collect)
    buckets = [found["build_duration_seconds_bucket", bound] for bound in ("0.001", "0.005", "60.0", "+Inf")]
    assert buckets == [1, 2, 2, 3]
    assert found["build_duration_seconds_count",] == 3
    assert found["revision_timestamp_seconds",] == 1234.5


def test_objects_services_findings_and_lists_are_those_of_the_engine():
    engine = start(build_service("a"), build_service("b", annotations={"stamp": "boom"}), build_pod("p", "10.0.0.1"))
    found = scrape(lambda: collect_engine_metrics(engine, CORE_KINDS, [Source()]))
    assert (found["objects", "Service"], found["objects", "Pod"], found["objects", "EndpointSlice"]) == (2, 1, 0)
    assert found["services",] == 2
    assert found["service_builds_total",] == 2
    assert found["revision_info", engine.revision] == 1
    assert found["watch_synced", "Pod", "s"] == 1


def test_findings_are_counted_by_kind_and_problems_of_files_as_other():
    friend = build_service("b", annotations={BOOM: ""})
    engine = start(build_service("a", annotations={"example.org/friend": "b"}), friend)
    engine.apply([Problem("a.yaml", "broken"), Problem("sub", "ignored", is_notice=True)], source="s")
    found = scrape(lambda: collect_engine_metrics(engine, CORE_KINDS, [Source()]))
    assert found["findings", "Service", "error"] == 1
    assert (found["findings", "other", "error"], found["findings", "other", "notice"]) == (1, 1)
    status = scrape(lambda: collect_status_metrics(engine, Status(), NodeRegistry()))
    assert status["problems",] == 1


def test_a_list_that_is_missing_or_not_followed_is_not_synced():
    engine = build_engine()
    found = scrape(lambda: collect_engine_metrics(engine, CORE_KINDS, [Source()]))
    assert {value for key, value in found.items() if key[0] == "watch_synced"} == {0}
    engine = start()
    found = scrape(lambda: collect_engine_metrics(engine, CORE_KINDS, [FollowedSource()]))
    assert (found["watch_synced", "Pod", "s"], found["watch_synced", "Service", "s"]) == (0, 1)


@pytest.mark.parametrize(("revision", "state"), [("e.1", "ready"), (None, "not_ready")])
def test_proxies_are_counted_by_state(revision, state):
    nodes = NodeRegistry()
    with nodes.hold_pull("node-1", "10.0.0.1", revision):
        found = scrape(lambda: collect_status_metrics(start(), Status(), nodes))
    assert {key[1]: value for key, value in found.items() if key[0] == "proxies"} == {
        "ready": 0,
        "not_ready": 0,
        state: 1,
    }
    assert (found["ready",], found["leader",], found["current",]) == (0, 1, 0)


class RefusingReader:
    """Accepts no facts."""

    def accept_facts(self, facts):
        raise ValueError

    def describe_facts(self, facts):
        return TransportReport(facts=facts)


def test_facts_that_the_transport_refuses_are_counted():
    nodes = NodeRegistry(reader=RefusingReader())
    for index in range(2):
        nodes.note_refused_pull("node-1", "10.0.0.1", None, facts={"ends": str(index)})
    assert scrape(lambda: collect_status_metrics(start(), Status(), nodes))["refused_facts_total",] == 2
