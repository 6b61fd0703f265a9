"""Who calls whom: counters are shared, bounded and forgotten, and nothing is counted twice or lost."""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from maesh_core.model.metrics import OTHER
from maesh_core.proxy.callers import (
    SEARCH_LIMIT,
    UNUSED_S,
    Caller,
    CallerCounts,
    EntrypointCounter,
    collect_entrypoints,
)
from maesh_core.proxy.workers.counters import NodeCounters


class Counted:
    """Counts as an exchange does, with a clock that a test moves."""

    def __init__(self, limit=1000):
        self.now = 1000.0
        self.counts = CallerCounts(limit, lambda: self.now)

    def connect(self, address="10.0.0.1"):
        return Caller(address, EntrypointCounter())

    def request(self, caller, service="a", *, has_failed=False, seconds=0.001):
        counter = caller.counter
        if counter is None or counter.service != service:
            counter = self.counts.switch(caller, service)
        counter.durations.add(seconds)
        counter.failures += has_failed

    def read(self, noun="requests"):
        families = [each for each in self.counts.collect_metrics() if each.name == f"maesh_edge_{noun}"]
        return {labels: value for family in families for labels, value in family.samples}


@pytest.fixture
def counted():
    return Counted()


def test_connections_of_one_address_share_their_counter(counted):
    one, other = counted.connect(), counted.connect()
    for caller in (one, other, one):
        counted.request(caller)
    counted.request(counted.connect("10.0.0.2"), has_failed=True)
    assert counted.read() == {("10.0.0.1", "a"): 3, ("10.0.0.2", "a"): 1}
    assert counted.read("failures") == {("10.0.0.2", "a"): 1}
    assert one.counter is other.counter
    assert one.counter.users == 2


def test_an_address_of_ipv4_that_arrives_over_ipv6_is_the_same(counted):
    counted.request(counted.connect("::ffff:10.0.0.1"))
    counted.request(counted.connect("10.0.0.1"))
    assert counted.read() == {("10.0.0.1", "a"): 2}


def test_a_connection_that_changes_its_service_holds_one_counter(counted):
    caller = counted.connect()
    for service in ("a", "b", "a"):
        counted.request(caller, service)
    assert counted.read() == {("10.0.0.1", "a"): 2, ("10.0.0.1", "b"): 1}
    assert [counter.users for counter in counted.counts._counters.values()] == [0, 1]


def test_exchanges_that_end_after_their_client_has_left_are_counted_and_hold_nothing(counted):
    caller = counted.connect()
    counted.request(caller)
    counted.counts.leave(caller)
    counted.request(caller)
    counted.request(caller, "b")
    counted.counts.leave(caller)
    assert counted.read() == {("10.0.0.1", "a"): 2, ("10.0.0.1", "b"): 1}
    assert not any(counter.users for counter in counted.counts._counters.values())


def test_above_the_limit_further_pairs_are_summed_up_by_service():
    counted = Counted(limit=2)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.1"):
        counted.request(counted.connect(address))
    counted.request(counted.connect("10.0.0.1"), "b")
    assert counted.read() == {
        ("10.0.0.1", "a"): 2,
        ("10.0.0.2", "a"): 1,
        (OTHER, "a"): 2,
        (OTHER, "b"): 1,
    }


def test_at_the_limit_one_that_was_not_used_for_an_hour_makes_room():
    counted = Counted(limit=1)
    caller = counted.connect("10.0.0.1")
    counted.request(caller)
    counted.counts.leave(caller)
    counted.now += UNUSED_S
    counted.request(counted.connect("10.0.0.2"))
    counted.now += 1
    counted.request(counted.connect("10.0.0.3"))
    assert counted.read() == {("10.0.0.3", "a"): 1, (OTHER, "a"): 1}


def test_one_that_made_room_goes_on_if_it_is_needed_before_the_next_report():
    counted = Counted(limit=2)

    def call(*addresses):
        for address in addresses:
            caller = counted.connect(address)
            counted.request(caller)
            counted.counts.leave(caller)

    call("10.0.0.1", "10.0.0.2")
    assert counted.read() == {("10.0.0.1", "a"): 1, ("10.0.0.2", "a"): 1}
    counted.now += UNUSED_S + 1
    call("10.0.0.3", "10.0.0.1")
    assert counted.read() == {("10.0.0.3", "a"): 1, ("10.0.0.1", "a"): 2}
    counted.now += UNUSED_S + 1
    call("10.0.0.2")
    assert counted.read() == {("10.0.0.2", "a"): 1, ("10.0.0.1", "a"): 2}, "it was reported to be gone"


def test_one_that_an_open_connection_holds_makes_no_room_however_long_it_is_idle():
    counted = Counted(limit=1)
    caller = counted.connect("10.0.0.1")
    counted.request(caller)
    counted.now += 10 * UNUSED_S
    counted.request(counted.connect("10.0.0.2"))
    counted.request(caller)
    assert counted.read() == {("10.0.0.1", "a"): 2, (OTHER, "a"): 1}


def test_one_search_looks_at_few_and_the_next_sees_those_behind():
    counted = Counted(limit=SEARCH_LIMIT + 1)
    for number in range(SEARCH_LIMIT):
        counted.request(counted.connect(f"10.0.1.{number}"))  # all stay connected
    left = counted.connect("10.0.2.1")
    counted.request(left)
    counted.counts.leave(left)
    counted.now += 2 * UNUSED_S
    counted.request(counted.connect("10.0.3.1"))
    assert counted.read()[OTHER, "a"] == 1
    counted.request(counted.connect("10.0.3.2"))
    assert ("10.0.2.1", "a") not in counted.read()
    assert counted.read()["10.0.3.2", "a"] == 1
    assert counted.read()[OTHER, "a"] == 1


def test_with_a_limit_of_0_nothing_is_reported_and_little_is_kept():
    counted = Counted(limit=0)
    for number in range(100):
        counted.request(counted.connect(f"10.0.0.{number}"))
    assert list(counted.counts.collect_metrics()) == []
    assert len(counted.counts._counters) + len(counted.counts._others) == 1


def test_services_that_no_longer_exist_are_forgotten():
    counted = Counted(limit=1)
    for address in ("10.0.0.1", "10.0.0.2"):
        for service in ("a", "b"):
            counted.request(counted.connect(address), service)
    counted.counts.keep_only(lambda service: service == "b")
    assert counted.read() == {(OTHER, "b"): 2}


@pytest.mark.parametrize("limit", [10, 0, 1])
def test_a_connection_is_counted_again_when_its_service_returns(limit):
    counted = Counted(limit)
    callers = [counted.connect("10.0.0.1"), counted.connect("10.0.0.2")]
    for caller in callers:
        counted.request(caller)
    counted.counts.keep_only(lambda _: False)
    for caller in callers:
        counted.request(caller)
    assert sum(counted.read().values()) == (2 if limit else 0)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["connect", "request", "fail", "leave", "wait", "stream"]),
        st.integers(0, 5),
        st.sampled_from("abc"),
    ),
    max_size=80,
)


class Reported(Counted):
    """Reports to the parent before each event, which adds the counters that made room to the others."""

    def __init__(self, limit):
        super().__init__(limit)
        self.node = NodeCounters()

    def report(self):
        self.node.report(self, self.counts.collect_metrics())

    def read(self, noun="requests"):
        self.report()
        families = [each for each in self.node.sum_up() if each.name == f"maesh_edge_{noun}"]
        return {labels: value for family in families for labels, value in family.samples}


@given(EVENTS, st.integers(1, 4))
def test_sums_by_service_are_exact_and_no_counter_is_held_at_the_end(events, limit):
    counted, callers, wanted = Reported(limit), [], Counter()
    for event, number, service in events:
        counted.report()
        caller = callers[number % len(callers)] if callers else None
        if event == "connect":
            callers.append(counted.connect(f"10.0.0.{number}"))
        elif event == "wait":
            counted.now += UNUSED_S * 0.6
        elif event == "stream":
            counted.counts.find(f"10.0.0.{number}", service).connections += 1
            wanted["connections", service] += 1
        elif caller is not None and event == "leave":
            counted.counts.leave(caller)
        elif caller is not None:
            counted.request(caller, service, has_failed=event == "fail")
            wanted["requests", service] += 1
            wanted["failures", service] += event == "fail"
    sums = Counter()
    for noun in ("requests", "failures", "connections"):
        for (_, service), count in counted.read(noun).items():
            sums[noun, service] += count
    assert sums == +wanted
    assert len(counted.counts._counters) <= limit
    for caller in callers:
        counted.counts.leave(caller)
    held = [*counted.counts._counters.values(), *counted.counts._others.values()]
    assert not any(counter.users for counter in held)


@given(st.lists(st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), st.floats(0.0, 9.0))))
def test_the_histograms_of_pairs_have_one_duration_for_each_request_also_above_the_limit(requests):
    counted = Counted(limit=2)
    for address, seconds in requests:
        counted.request(counted.connect(address), seconds=seconds)
    histograms = counted.read("request_duration_seconds")
    assert {pair: sum(each.counts) for pair, each in histograms.items()} == counted.read()
    assert sum(each.sum for each in histograms.values()) == pytest.approx(sum(seconds for _, seconds in requests))


def test_durations_of_pairs_are_left_out_unless_they_are_wanted():
    counts = CallerCounts(10, lambda: 0.0, has_durations=False)
    counts.find("10.0.0.1", "a").durations.add(0.1)
    assert not [each for each in counts.collect_metrics() if each.type == "histogram"]


@given(st.lists(st.tuples(st.sampled_from([5000, 5001]), st.integers(100, 599), st.floats(0.0, 9.0))), st.booleans())
def test_each_request_of_an_entrypoint_has_a_code_and_a_duration(requests, has_exact_codes):
    counters = {port: EntrypointCounter() for port, *_ in requests}
    for port, status, seconds in requests:
        counters[port].count(status, seconds)
    codes, durations = collect_entrypoints(counters, has_exact_codes=has_exact_codes)
    wanted = Counter(
        (str(port), str(status) if has_exact_codes else f"{status // 100}xx") for port, status, _ in requests
    )
    assert dict(codes.samples) == wanted
    histograms: dict[Any, Any] = dict(durations.samples)
    assert {labels: sum(each.counts) for labels, each in histograms.items()} == Counter(
        (str(port),) for port, *_ in requests
    )
