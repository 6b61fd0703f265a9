"""Sums of what several workers counted, dead ones included."""

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maesh_core.model.metrics import OTHER, Exemplar, Histogram, MetricFamily
from maesh_core.proxy.callers import UNUSED_S, Caller, CallerCounts, EntrypointCounter
from maesh_core.proxy.workers.counters import NodeCounters, add_families


def build_counter(samples: dict[str, float], *, name: str = "c", type_: str = "counter") -> MetricFamily:
    return MetricFamily(
        name=name,
        type=type_,  # type: ignore[arg-type]
        help="h",
        labels=("service",),
        samples=[((key,), value) for key, value in samples.items()],
    )


def read(families: list[MetricFamily]) -> dict[tuple[str, tuple[str, ...]], object]:
    return {(family.name, labels): value for family in families for labels, value in family.samples}


def test_counters_and_gauges_are_added_by_label() -> None:
    found = add_families(
        [
            build_counter({"a": 1, "b": 2}),
            build_counter({"b": 3, "c": 4}),
            build_counter({"a": 5}, name="g", type_="gauge"),
        ]
    )
    assert read(found) == {("c", ("a",)): 1, ("c", ("b",)): 5, ("c", ("c",)): 4, ("g", ("a",)): 5}


def test_histograms_are_added_bucket_by_bucket() -> None:
    one = MetricFamily(name="t", type="histogram", help="h", samples=(((), Histogram((1.0,), (1, 2), 3.0)),))
    other = MetricFamily(name="t", type="histogram", help="h", samples=(((), Histogram([1.0], [4, 5], 6.0)),))
    assert read(add_families([one, other])) == {("t", ()): Histogram((1.0,), (5, 7), 9.0)}


def test_each_bucket_keeps_the_latest_exemplar_of_all_workers() -> None:
    early, late, other = Exemplar("a", 0.5, 1.0), Exemplar("b", 0.6, 2.0), Exemplar("c", 3.0, 1.5)
    families = [
        MetricFamily(name="t", type="histogram", help="h", samples=(((), Histogram((1.0,), (1, 1), 1.0, exemplars)),))
        for exemplars in ({0: early, 1: other}, {0: late}, {})
    ]
    for order in permutations(families):
        (value,) = read(add_families(order)).values()
        assert isinstance(value, Histogram)
        assert value.exemplars == {0: late, 1: other}


@pytest.mark.parametrize(
    "other",
    [
        MetricFamily(name="c", type="gauge", help="h", labels=("service",), samples=((("a",), 1),)),
        MetricFamily(name="c", type="counter", help="h", labels=("other",), samples=((("a",), 1),)),
        MetricFamily(
            name="c", type="counter", help="h", labels=("service",), samples=((("a",), Histogram((), (1,), 1.0)),)
        ),
    ],
)
def test_what_does_not_fit_is_left_out(other: MetricFamily) -> None:
    assert read(add_families([build_counter({"a": 7}), other])) == {("c", ("a",)): 7}


def read_node(counters: NodeCounters) -> dict[tuple[str, tuple[str, ...]], object]:
    return read(counters.sum_up())


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), max_size=5))
def test_no_counter_decreases_when_a_worker_ends(workers: list[dict[str, float]]) -> None:
    counters = NodeCounters()
    for worker, samples in enumerate(workers):
        counters.report(worker, [build_counter(samples)])
    before = read_node(counters)
    for worker in range(len(workers)):
        counters.retire(worker)
        assert read_node(counters) == before


def test_gauges_and_services_that_are_gone_end_with_their_worker() -> None:
    known = {"a", "b"}
    counters = NodeCounters(known.__contains__)
    plain = MetricFamily(name="plain", type="counter", help="h", samples=(((), 1),))
    gauge = build_counter({"a": 3}, name="g", type_="gauge")
    counters.report(1, [build_counter({"a": 1, "b": 1, "gone": 2, "": 5}), gauge, plain])
    counters.retire(1)
    kept = {("c", ("a",)): 1, ("c", ("b",)): 1, ("c", ("",)): 5, ("plain", ()): 1}
    assert read_node(counters) == kept
    known.remove("b")
    counters.report(2, [build_counter({"a": 4})])
    assert read_node(counters) == {("c", ("a",)): 5, ("c", ("",)): 5, ("plain", ()): 1}


def test_a_series_that_one_worker_drops_stays_until_the_last_one_drops_it() -> None:
    counters = NodeCounters()
    for worker, value in ((1, 5), (2, 7)):
        counters.report(worker, [build_counter({"a": value, "b": 1})])
    counters.report(1, [build_counter({"b": 1})])
    assert read_node(counters) == {("c", ("a",)): 12, ("c", ("b",)): 2}
    counters.report(1, [build_counter({"a": 1, "b": 1})])
    assert read_node(counters)["c", ("a",)] == 13
    counters.report(1, [build_counter({"b": 1})])
    counters.report(2, [build_counter({"b": 1})])
    assert read_node(counters) == {("c", ("b",)): 2}


def test_a_series_that_a_worker_counts_from_0_again_goes_on() -> None:
    def observe(*counts: int) -> list[MetricFamily]:
        samples = ((("a",), Histogram((1.0,), counts, float(sum(counts)))),)
        family = MetricFamily(name="t", type="histogram", help="h", labels=("service",), samples=samples)
        return [family, build_counter({"a": sum(counts)})]

    counters = NodeCounters()
    for counts in ((3, 4), (1, 1), (1, 2)):
        counters.report(1, observe(*counts))
    assert read_node(counters) == {("t", ("a",)): Histogram((1.0,), (4, 6), 10.0), ("c", ("a",)): 10}


def build_edges(samples: dict[tuple[str, str], float]) -> MetricFamily:
    return MetricFamily(
        name="edge", type="counter", help="h", labels=("client", "service"), samples=list(samples.items())
    )


def test_a_client_that_no_worker_counts_apart_any_more_is_added_to_the_others() -> None:
    counters = NodeCounters({"a"}.__contains__)
    for worker in (1, 2, 3):
        counters.report(worker, [build_edges({("x", "a"): worker, ("x", "gone"): 9, (OTHER, "a"): 10})])
    counters.retire(3)
    for worker in (1, 2):
        counters.report(worker, [build_edges({("y", "a"): 1, (OTHER, "a"): 10})])
    assert read_node(counters) == {("edge", ("y", "a")): 2, ("edge", (OTHER, "a")): 36}


def test_series_without_a_worker_are_limited_and_the_oldest_vanish() -> None:
    counters = NodeCounters(orphan_limit=2)
    for worker, client in enumerate(("x", "y", "z")):
        counters.report(worker, [build_edges({(client, "a"): 1}), build_counter({client: 1})])
        counters.retire(worker)
    services = {("c", (client,)): 1 for client in ("x", "y", "z")}
    edges = {("edge", (client, "a")): 1 for client in ("y", "z", OTHER)}
    assert read_node(counters) == services | edges


class Worker:
    """Counts as a worker does; what it has counted since its last report is lost with it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.now = 0.0
        self.calls = CallerCounts(2, lambda: self.now)
        self.attempts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.unreported: Counter[str] = Counter()

    def call(self, client: str, service: str, server: str) -> None:
        caller = Caller(client, EntrypointCounter())
        self.calls.switch(caller, service).durations.add(0.001)
        self.calls.leave(caller)
        self.attempts[server] += 1
        self.requests[service] += 1
        self.unreported[service] += 1

    def report(self) -> list[MetricFamily]:
        attempts = [((server,), count) for server, count in self.attempts.items()]
        return [
            *self.calls.collect_metrics(),
            build_counter(dict(self.requests)),
            MetricFamily(name="attempts", type="counter", help="h", labels=("server",), samples=attempts),
        ]


def count_value(value: Any) -> Any:
    """Return a number, or how much a histogram has counted."""
    return sum(value.counts) if isinstance(value, Histogram) else value


class Node(RuleBasedStateMachine):
    """Three workers that call, report, die, and drop clients, servers and the service `b`, each in its own time."""

    ORPHANS = 3

    def __init__(self) -> None:
        super().__init__()
        self.known = {"a", "b"}
        self.counters = NodeCounters(lambda service: service in self.known, orphan_limit=self.ORPHANS)
        self.workers = [Worker(number) for number in range(3)]
        self.started = 3
        self.seen: dict[tuple[str, tuple[str, ...]], Any] = {}
        self.reported: Counter[str] = Counter()

    @rule(slot=st.integers(0, 2), client=st.sampled_from("uvwxyz"), server=st.sampled_from("123"), b=st.booleans())
    def call(self, slot: int, client: str, server: str, b: bool) -> None:
        self.workers[slot].call(client, "b" if b else "a", server)

    @rule(slot=st.integers(0, 2))
    def report(self, slot: int) -> None:
        worker = self.workers[slot]
        self.counters.report(worker.number, worker.report())
        self.reported += worker.unreported
        worker.unreported.clear()

    @rule(slot=st.integers(0, 2))
    def die(self, slot: int) -> None:
        self.counters.retire(self.workers[slot].number)
        self.workers[slot] = Worker(self.started)
        self.started += 1

    @rule()
    def wait(self) -> None:
        for slot, worker in enumerate(self.workers):
            self.report(slot)
            self.check_that_nothing_decreases()
            worker.now += 2 * UNUSED_S

    @rule(slot=st.integers(0, 2), server=st.sampled_from("123"))
    def drop_server(self, slot: int, server: str) -> None:
        self.workers[slot].attempts.pop(server, None)

    @rule()
    def change_services(self) -> None:
        self.known ^= {"b"}

    @rule(slot=st.integers(0, 2))
    def drop_service(self, slot: int) -> None:
        if "b" not in self.known:
            self.workers[slot].calls.keep_only(self.known.__contains__)
            self.workers[slot].requests.pop("b", None)

    @invariant()
    def check_that_nothing_decreases(self) -> None:
        now = read_node(self.counters)
        decreased = {
            key: (value, now[key])
            for key, value in self.seen.items()
            if key in now and count_value(now[key]) < count_value(value)
        }
        assert not decreased
        self.seen = now

    @invariant()
    def check_that_sums_are_exact(self) -> None:
        found = read_node(self.counters)
        for name, index in (("maesh_edge_requests", 1), ("maesh_edge_request_duration_seconds", 1), ("c", 0)):
            counts = [
                count_value(value)
                for (metric, labels), value in found.items()
                if metric == name and labels[index] == "a"
            ]
            assert sum(counts) == self.reported["a"]

    @invariant()
    def check_that_memory_is_bounded(self) -> None:
        living = {
            (metric, labels)
            for reported in self.counters._living.values()
            for metric, series in reported.items()
            for labels in series
        }
        orphans = [each for each in self.counters._list_orphans() if self.counters._is_limited(*each)]
        assert len(orphans) <= self.ORPHANS
        kept = sum(map(len, self.counters._kept.values()))
        assert kept <= len(living) + self.ORPHANS + 3 * len({"a", "b"})


Node.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestNode = pytest.mark.slow(Node.TestCase)
