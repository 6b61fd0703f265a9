"""Sums over proxies: exact for any partition, and untouched by what is invalid."""

import gc
import math
import tracemalloc
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.traffic import sums as module
from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.latency import BOUNDS_S, BUCKETS
from maesh_core.controller.traffic.parsing import parse_traffic
from maesh_core.controller.traffic.report import ReportBuilder, build_scope
from maesh_core.controller.traffic.sums import WEIGHT_BYTES, TrafficSums
from maesh_core.controller.traffic.wanted_metrics import REASON_LIMIT, Scope
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic, ServiceTraffic
from maesh_core.proxy.workers.counters import add_families

from .measured import SERVICES, WEB, build_snapshot, count, measure, observe, since_start, work_at_once

CODES = ("2xx", "4xx", "5xx")
SCOPE = work_at_once(build_scope(SERVICES))


def test_counters_of_all_proxies_are_added() -> None:
    one = since_start(count(metrics.REQUESTS, {(WEB, "http/1", "2xx"): 3.0}, "service", "protocol", "code"))
    other = since_start(count(metrics.REQUESTS, {("2xx", WEB): 4.0, ("5xx", WEB): 1.0}, "code", "service"))
    web = measure(one, other)(WEB)
    assert web.total.codes == web.last.codes == {"2xx": 7, "5xx": 1}


def test_the_last_minute_is_the_difference_and_a_counter_that_restarted_counts_from_0() -> None:
    traffic = ProxyTraffic(
        interval_s=60.0,
        uptime_s=600.0,
        now=(count(metrics.REQUESTS, {(WEB, "2xx"): 30.0, (WEB, "4xx"): 2.0, (WEB, "5xx"): 5.0}, "service", "code"),),
        before=(count(metrics.REQUESTS, {(WEB, "2xx"): 10.0, (WEB, "4xx"): 9.0}, "service", "code"),),
    )
    web = measure(traffic)(WEB)
    assert web.last.codes == {"2xx": 20, "4xx": 2, "5xx": 5}
    assert (web.last.rate, web.last.seconds) == (27 / 60, 60.0)
    assert (web.total.rate, web.total.seconds) == (37 / 600, 600.0)


def test_a_client_that_a_proxy_has_added_to_the_others_does_not_call_again() -> None:
    before = {("10.0.0.1", WEB): 70.0, ("10.0.0.2", WEB): 9.0, ("other", WEB): 5.0}
    now = {("10.0.0.2", WEB): 4.0, ("10.0.0.3", WEB): 2.0, ("other", WEB): 83.0}
    traffic = ProxyTraffic(
        interval_s=60.0,
        now=(count(metrics.EDGES, now, "client", "service"),),
        before=(count(metrics.EDGES, before, "client", "service"),),
    )
    callers = {each.caller: each.last.requests for each in measure(traffic)(WEB).callers}
    assert callers == {"10.0.0.2": 0, "10.0.0.3": 2, "other": 3}


def test_durations_of_a_client_that_a_proxy_has_added_to_the_others_are_not_new() -> None:
    before = {("10.0.0.1", WEB): observe(*[0.2] * 70), ("other", WEB): observe(0.004)}
    now = {("other", WEB): observe(0.004, 0.03, *[0.2] * 70)}
    traffic = ProxyTraffic(
        interval_s=60.0,
        now=(
            count(metrics.EDGES, {("other", WEB): 72.0}, "client", "service"),
            count(metrics.EDGE_DURATIONS, now, "client", "service"),
        ),
        before=(count(metrics.EDGE_DURATIONS, before, "client", "service"),),
    )
    (caller,) = measure(traffic)(WEB).callers
    assert caller.last.total.p50 == pytest.approx(0.0375)
    assert caller.total.total.p50 == pytest.approx(0.2, abs=0.01)


def test_durations_of_a_client_that_decreased_do_not_count_again() -> None:
    before = count(metrics.EDGE_DURATIONS, {("10.0.0.1", WEB): observe(0.2, 0.2, 0.004)}, "client", "service")
    now = count(metrics.EDGE_DURATIONS, {("10.0.0.1", WEB): observe(0.2)}, "client", "service")
    sums = TrafficSums(SCOPE)
    work_at_once(sums.add(ProxyTraffic(interval_s=60.0, now=(now,), before=(before,))))
    assert not any(sums.last.find_buckets(metrics.EDGE_DURATIONS, WEB, "10.0.0.1"))
    assert sum(sums.total.find_buckets(metrics.EDGE_DURATIONS, WEB, "10.0.0.1")) == 1


@pytest.mark.parametrize(
    ("limit", "value"), [("GROUP_LIMIT", 3), ("GROUP_SHARE", 3), ("FREE_LIMIT", 11), ("FREE_SHARE", 9)]
)
def test_above_a_limit_durations_of_clients_are_those_of_other(monkeypatch: Any, limit: str, value: int) -> None:
    monkeypatch.setattr(module, limit, value)
    edges = {(f"10.0.0.{number}", WEB): observe(0.2) for number in range(10)}
    sums = TrafficSums(SCOPE)
    assert work_at_once(sums.add(since_start(count(metrics.EDGE_DURATIONS, edges, "client", "service")))) == 0
    assert sum(sums.total.find_buckets(metrics.EDGE_DURATIONS, WEB, "other")) == 7
    assert sums.total.free == 9


def test_above_the_limit_durations_of_known_names_are_left_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "KNOWN_LIMIT", 5)
    sums = TrafficSums(SCOPE)
    families = (
        count(metrics.DURATIONS, {(WEB,): observe(0.2)}),
        count(metrics.UPSTREAM_DURATIONS, {(WEB,): observe(1)}),
    )
    assert work_at_once(sums.add(since_start(*families))) == 1
    assert sums.total.known == 3


def test_a_histogram_that_restarted_counts_whole() -> None:
    before, now = observe(*[0.2] * 8), observe(0.2, 0.2, 0.004)
    traffic = ProxyTraffic(
        interval_s=60.0,
        now=(count(metrics.DURATIONS, {(WEB,): now}), count(metrics.REQUESTS, {(WEB, "2xx"): 3.0}, "service", "code")),
        before=(count(metrics.DURATIONS, {(WEB,): before}),),
    )
    assert measure(traffic)(WEB).last.total == measure(traffic)(WEB).total.total


@pytest.mark.parametrize("interval_s", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_a_proxy_without_a_valid_interval_counts_only_since_its_start(interval_s: float) -> None:
    family = count(metrics.REQUESTS, {(WEB, "2xx"): 3.0}, "service", "code")
    web = measure(ProxyTraffic(interval_s=interval_s, uptime_s=interval_s, now=(family,)))(WEB)
    assert (web.last.requests, web.last.seconds) == (0, 0.0)
    assert (web.total.requests, web.total.rate) == (3, 0.0)


def test_the_interval_is_the_longest_one_so_that_rates_of_all_proxies_mean_the_same_time() -> None:
    old = ProxyTraffic(interval_s=60.0, now=(count(metrics.REQUESTS, {(WEB, "2xx"): 60.0}, "service", "code"),))
    new = ProxyTraffic(interval_s=5.0, now=(count(metrics.REQUESTS, {(WEB, "2xx"): 60.0}, "service", "code"),))
    assert measure(old, new)(WEB).last.rate == 2.0


@pytest.mark.parametrize(
    "family",
    [
        count("maesh_service_unknown", {(WEB, "2xx"): 1.0}, "service", "code"),
        count(metrics.REQUESTS, {(WEB,): 1.0}),
        count(metrics.REQUESTS, {("shop/none:1", "2xx"): 1.0}, "service", "code"),
        count(metrics.REQUESTS, {(WEB, "abc"): 1.0}, "service", "code"),
        count(metrics.REQUESTS, {(WEB, "2xx", "x"): 1.0, (WEB,): 1.0, (): 1.0}, "service", "code"),
        count(metrics.REQUESTS, {(WEB, "2xx"): observe(1.0)}, "service", "code"),
        msgspec.structs.replace(count(metrics.REQUESTS, {(WEB, "2xx"): 1.0}, "service", "code"), type="gauge"),
        msgspec.structs.replace(count(metrics.DURATIONS, {(WEB,): 1.0}), type="histogram"),
        *(count(metrics.REQUESTS, {(WEB, "2xx"): n}, "service", "code") for n in (-1.0, math.nan, math.inf, 1e300)),
    ],
)
def test_what_is_unknown_or_invalid_does_not_count(family: MetricFamily) -> None:
    assert measure(since_start(family))(WEB).total == measure(since_start())(WEB).total


def test_a_repeated_family_counts_once() -> None:
    family = count(metrics.REQUESTS, {(WEB, "2xx"): 1.0}, "service", "code")
    assert measure(since_start(family, family))(WEB).total.requests == 1


def test_above_the_limit_of_a_service_reasons_and_clients_are_counted_as_other(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "GROUP_LIMIT", 3)
    answers = {(WEB, "503", f"reason {number}"): 1.0 for number in range(10)}
    edges = {(f"10.0.0.{number}", WEB): 1.0 for number in range(10)}
    web = measure(
        since_start(
            count(metrics.ANSWERS, answers, "service", "code", "reason"),
            count(metrics.EDGES, edges, "client", "service"),
        )
    )(WEB)
    assert web.total.reasons == {"other": 7, "reason 0": 1, "reason 1": 1, "reason 2": 1}
    assert {each.caller: each.total.requests for each in web.callers}["other"] == 7


def test_above_the_limit_of_known_names_further_ones_are_left_out_and_counted_as_such(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "KNOWN_LIMIT", 2)
    codes = {(WEB, f"{code}"): 1.0 for code in range(200, 300)}
    sums = TrafficSums(SCOPE)
    left_out = work_at_once(sums.add(since_start(count(metrics.REQUESTS, codes, "service", "code"))))
    assert (sums.total.known, left_out) == (2, 98)


def test_above_the_limit_of_free_labels_they_are_counted_as_other(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "FREE_LIMIT", 2)
    edges = {(f"10.0.0.{number}", WEB): 1.0 for number in range(10)}
    sums = TrafficSums(SCOPE)
    assert work_at_once(sums.add(since_start(count(metrics.EDGES, edges, "client", "service")))) == 0
    assert sums.total.find(metrics.EDGES, WEB) == {("10.0.0.0",): 1, ("10.0.0.1",): 1, ("other",): 8}


@pytest.mark.parametrize("share", ["GROUP_SHARE", "FREE_SHARE"])
def test_one_proxy_cannot_fill_what_others_need(monkeypatch: Any, share: str) -> None:
    monkeypatch.setattr(module, share, 3)
    invented = {(f"10.9.0.{number}", WEB): 1.0 for number in range(10)}
    sums = TrafficSums(SCOPE)
    for edges in (invented, {("10.0.0.1", WEB): 5.0, ("10.0.0.2", WEB): 5.0}):
        work_at_once(sums.add(since_start(count(metrics.EDGES, edges, "client", "service"))))
    found = sums.total.find(metrics.EDGES, WEB)
    assert (found["10.0.0.1",], found["10.0.0.2",], found["other",], len(found)) == (5, 5, 7, 6)


def test_one_proxy_cannot_fill_the_sums_of_known_names(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "KNOWN_SHARE", 3)
    invented = {(WEB, f"{code}"): 1.0 for code in range(300, 400)}
    sums = TrafficSums(SCOPE)
    for codes in (invented, {(WEB, "2xx"): 5.0, (WEB, "300"): 1.0}):
        work_at_once(sums.add(since_start(count(metrics.REQUESTS, codes, "service", "code"))))
    assert sums.total.find(metrics.REQUESTS, WEB) == {("300",): 2, ("301",): 1, ("302",): 1, ("2xx",): 5}


def test_the_only_source_has_no_share(monkeypatch: Any) -> None:
    for share in ("GROUP_SHARE", "FREE_SHARE", "KNOWN_SHARE"):
        monkeypatch.setattr(module, share, 0)
    codes = {(WEB, f"{code}"): 1.0 for code in range(200, 300)}
    sums = TrafficSums(SCOPE)
    traffic = since_start(count(metrics.REQUESTS, codes, "service", "code"))
    assert work_at_once(sums.add(traffic, is_only=True)) == 0
    assert sums.total.known == 100


def test_what_is_left_out_is_counted() -> None:
    sums = TrafficSums(SCOPE)
    traffic = since_start(
        count(metrics.REQUESTS, {(WEB, "2xx"): 1.0, ("shop/none:1", "2xx"): 1.0, (WEB, "abc"): 1.0}, "service", "code"),
        count(metrics.RETRIES, {(WEB,): 1.0, ("shop/none:1",): 1.0}, "other"),
        count(metrics.DURATIONS, {("shop/none:1",): observe(1.0), (WEB,): observe(1.0)}),
    )
    assert work_at_once(sums.add(traffic)) == 2 + 2 + 1


def test_the_work_pauses_within_a_large_family(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "STEP", 10)
    edges = {(f"10.0.{number // 100}.{number % 100}", WEB): 1.0 for number in range(1000)}
    family = count(metrics.EDGES, edges, "client", "service")
    traffic = ProxyTraffic(interval_s=60.0, now=(family,), before=(family,))
    assert sum(1 for _ in TrafficSums(SCOPE).add(traffic)) >= 2 * 1000 // 10


# --- laws

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(CODES),
        st.floats(0, 10),
        st.sampled_from(["10.0.0.1", "10.0.0.2", "other"]),
        st.booleans(),  # whether it is of the last minute
        st.integers(0, 2),  # its proxy
        st.integers(0, 2),  # its worker
    ),
    max_size=30,
)


def build_families(events: Any) -> list[MetricFamily]:
    """Count events as one worker does."""
    if not events:
        return []
    codes: Counter[tuple[str, ...]] = Counter((WEB, code) for code, *_ in events)
    clients: Counter[tuple[str, ...]] = Counter((client, WEB) for _, _, client, *_ in events)
    return [
        count(metrics.REQUESTS, codes, "service", "code"),
        count(metrics.EDGES, clients, "client", "service"),
        count(metrics.DURATIONS, {(WEB,): observe(*(seconds for _, seconds, *_ in events))}),
        count(
            metrics.EDGE_DURATIONS,
            {
                (client, WEB): observe(*(seconds for _, seconds, caller, *_ in events if caller == client))
                for client, _ in clients
            },
            "client",
            "service",
        ),
        count(metrics.ATTEMPTS, {("10.0.0.1:8080", "response"): len(events)}, "server", "outcome"),
        count(
            metrics.SERVER_DURATIONS,
            {("10.0.0.1:8080",): observe(*(seconds for _, seconds, *_ in events))},
            "server",
        ),
    ]


def build_proxy(workers: list[Any]) -> ProxyTraffic:
    """Sum the counters of the workers, as a proxy does."""
    now = add_families(family for events in workers for family in build_families(events))
    before = add_families(
        family for events in workers for family in build_families([each for each in events if not each[3]])
    )
    return ProxyTraffic(interval_s=60.0, uptime_s=600.0, now=tuple(now), before=tuple(before))


@given(EVENTS)
def test_sums_are_equal_however_requests_are_divided_among_proxies_and_workers(events: Any) -> None:
    def select(proxy: int, worker: int) -> list[Any]:
        return [each for each in events if each[4:] == (proxy, worker)]

    divided = [build_proxy([select(proxy, worker) for worker in range(3)]) for proxy in range(3)]
    web = measure(*divided)(WEB)
    assert web == measure(build_proxy([events]))(WEB)
    assert web.total.requests == len(events)
    assert web.last.requests == sum(each[3] for each in events)


TEXTS = st.one_of(st.text(max_size=4), st.sampled_from([WEB, "shop/db:5432", "10.0.0.1", "2xx", "503", "other", "14"]))
NUMBERS = st.one_of(st.floats(), st.integers(-(2**70), 2**70).map(float))
HISTOGRAM = st.builds(
    Histogram, st.lists(NUMBERS, max_size=4), st.lists(st.integers(-(2**63), 2**64), max_size=5), NUMBERS
)
NAMES = [name for wanted in metrics.LABELS_BY_TYPE.values() for name in wanted]
LABELS = st.one_of(
    st.lists(st.sampled_from(["service", "code", "reason", "client", "server", "x"]), max_size=4).map(tuple),
    st.sampled_from([labels for wanted in metrics.LABELS_BY_TYPE.values() for labels in wanted.values()]),
)
FAMILIES = st.lists(
    st.builds(
        MetricFamily,
        name=st.sampled_from(NAMES),
        type=st.sampled_from(["counter", "gauge", "histogram"]),
        help=st.just(""),
        labels=LABELS,
        samples=st.lists(st.tuples(st.lists(TEXTS, max_size=3).map(tuple), st.one_of(NUMBERS, HISTOGRAM)), max_size=4),
    ),
    max_size=5,
).map(tuple)
TRAFFIC = st.builds(ProxyTraffic, interval_s=st.floats(), uptime_s=st.floats(), now=FAMILIES, before=FAMILIES)


@settings(max_examples=40)
@given(st.lists(TRAFFIC, max_size=3))
def test_any_input_makes_a_report_with_valid_numbers(proxies: list[ProxyTraffic]) -> None:
    sums = TrafficSums(SCOPE)
    for proxy in proxies:
        work_at_once(sums.add(proxy))
    builder = ReportBuilder(sums, build_snapshot())
    services = work_at_once(builder.build_services(SERVICES))
    assert msgspec.json.decode(msgspec.json.encode(services), type=tuple[ServiceTraffic, ...]) == services
    for service in services:
        for window in (service.last, service.total):
            assert window.success is None or 0 <= window.success <= 1
            assert 0 <= window.rate < math.inf
            assert min((window.requests, window.connections, *window.codes.values(), *window.reasons.values())) >= 0
    assert all(number >= 0 for number in builder.list_refused().values())


@st.composite
def hostile_traffic(draw: Any) -> ProxyTraffic:
    """Draw a proxy that names real services, and invents clients, reasons, codes and servers."""
    seed = draw(st.integers(0, 9))
    numbers = range(seed * 50, seed * 50 + draw(st.integers(0, 40)))
    value = draw(st.sampled_from([0.0, 1.0, 1e15, -1.0, math.nan]))
    return since_start(
        count(metrics.EDGES, {(f"10.9.{n // 250}.{n % 250}", WEB): value for n in numbers}, "client", "service"),
        count(metrics.ANSWERS, {(WEB, str(100 + n), f"x{n}"): value for n in numbers}, "service", "code", "reason"),
        count(metrics.REQUESTS, {(WEB, str(100 + n)): 0.0 for n in numbers}, "service", "code"),
        count(metrics.ATTEMPTS, {(f"10.9.0.{n}:80", "response"): 1e9 for n in numbers}, "server", "outcome"),
        count(metrics.REQUESTS, {(f"shop/x{n}:80", "2xx"): 1e9 for n in numbers}, "service", "code"),
    )


@settings(max_examples=60)
@given(st.lists(hostile_traffic(), max_size=4), EVENTS)
def test_hostile_proxies_change_nothing_that_an_honest_one_counts(hostile: Any, events: Any) -> None:
    honest = build_proxy([events])
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("GROUP_LIMIT", 40), ("GROUP_SHARE", 8), ("FREE_LIMIT", 100), ("FREE_SHARE", 20)):
            patch.setattr(module, name, limit)
        sums = TrafficSums(SCOPE)
        for proxy in (*hostile, honest):
            work_at_once(sums.add(proxy))
        assert sums.total.free <= 100
        for metric in (metrics.EDGES, metrics.ANSWERS, metrics.REQUESTS):
            assert len(sums.total.find(metric, WEB)) <= 40 + 9
    alone = TrafficSums(SCOPE)
    work_at_once(alone.add(honest))
    for code in CODES:
        assert sums.total.count(metrics.REQUESTS, WEB, code) == alone.total.count(metrics.REQUESTS, WEB, code)
    for client in ("10.0.0.1", "10.0.0.2"):
        assert sums.total.count(metrics.EDGES, WEB, client) == alone.total.count(metrics.EDGES, WEB, client)
    assert sums.total.find_buckets(metrics.DURATIONS, WEB) == alone.total.find_buckets(metrics.DURATIONS, WEB)
    assert set(sums.total.list_firsts(metrics.REQUESTS)) <= {WEB}


KEYS = [f"namespace-{number}/service-{number}:8080" for number in range(1_000)]
SERVERS = [f"10.0.{number // 250}.{number % 250}:8080" for number in range(1_000)]
CLIENTS = [f"fd00:1111:2222:3333:4444:5555:6666:{number:x}" for number in range(4096, 5096)]
LARGEST = Histogram(BOUNDS_S, [2**50 + number for number in range(BUCKETS)], 1.0)
REASONS = ["\N{GRINNING FACE}" * (REASON_LIMIT - 4) + str(number) for number in range(1_000, 2_000)]


@pytest.mark.parametrize(
    "family",
    [
        count(metrics.FAILURES, {(key,): 2.0**50 for key in KEYS}),
        count(metrics.FAILED_RESPONSES, {(server,): 2.0**50 for server in SERVERS}, "server"),
        count(metrics.DURATIONS, {(key,): LARGEST for key in KEYS}),
        count(metrics.SERVER_DURATIONS, {(server,): LARGEST for server in SERVERS}, "server"),
        count(metrics.EDGES, dict.fromkeys(zip(KEYS, CLIENTS, strict=True), 2.0**50), "service", "client"),
        count(metrics.EDGE_DURATIONS, dict.fromkeys(zip(KEYS, CLIENTS, strict=True), LARGEST), "service", "client"),
        count(
            metrics.ANSWERS,
            {(key, "503", reason): 2.0**50 for key, reason in zip(KEYS, REASONS, strict=True)},
            *("service", "code", "reason"),
        ),
    ],
    ids=lambda family: family.name,
)
def test_no_weight_takes_more_memory_than_the_limit_says(family: MetricFamily) -> None:
    scope = Scope(frozenset(KEYS), {server: server for server in SERVERS})
    body = msgspec.json.encode(ProxyTraffic(interval_s=60.0, uptime_s=60.0, now=(family,)))
    work_at_once(TrafficSums(scope).add(work_at_once(parse_traffic(body))))  # allocates what coverage notes once
    sums = TrafficSums(scope)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert work_at_once(sums.add(work_at_once(parse_traffic(body)), is_only=True)) == 0
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    weight = sum(window.known + window.free for window in (sums.total, sums.last))
    assert weight >= 2 * len(KEYS)
    assert after - before <= weight * WEIGHT_BYTES
