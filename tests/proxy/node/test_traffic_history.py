"""The counters of a minute ago, in a time that the test moves."""

import asyncio
import random
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic
from maesh_core.proxy.node.traffic_history import SNAPSHOTS_LIMIT, WINDOW_S, TrafficHistory, select_traffic


def count(requests: int, name: str = "maesh_service_requests") -> MetricFamily:
    return MetricFamily(
        name=name, type="counter", help="", labels=("service",), samples=((("shop/web:80",), requests),)
    )


class Proxy:
    """The counters and the clock of one proxy."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.requests = 0
        self.history = TrafficHistory(lambda: [count(self.requests)], clock=lambda: self.now_s)

    def render(self) -> ProxyTraffic:
        return msgspec.json.decode(self.history.render(), type=ProxyTraffic)

    def read(self) -> tuple[float, int, int]:
        """Return the interval, and the requests now and before."""
        traffic = self.render()
        now, before = (
            sum(int(value) for each in families for _, value in each.samples if isinstance(value, float))
            for families in (traffic.now, traffic.before)
        )
        return traffic.interval_s, now, before


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


def test_a_proxy_that_has_just_started_compares_with_its_start_when_nothing_was_counted(proxy: Proxy) -> None:
    proxy.now_s, proxy.requests = 1007.5, 3
    assert proxy.read() == (7.5, 3, 0)
    assert proxy.render().uptime_s == 7.5


def test_later_it_compares_with_the_newest_snapshot_that_is_a_minute_old(proxy: Proxy) -> None:
    for second in range(1, 201):
        proxy.now_s, proxy.requests = 1000.0 + second, second
        if second % 10 == 0:
            proxy.history.remember()
    assert proxy.read() == (60.0, 200, 140)
    proxy.now_s = 1209.0
    assert proxy.read() == (69.0, 200, 140)
    assert proxy.render().uptime_s == 209.0


@given(st.lists(st.floats(0.1, 100.0), max_size=30))
def test_the_number_of_snapshots_is_bounded_and_the_interval_is_a_minute_or_the_uptime(pauses: list[float]) -> None:
    proxy = Proxy()
    for pause in pauses:
        proxy.now_s += pause
        proxy.history.remember()
        interval_s, uptime_s = proxy.render().interval_s, proxy.render().uptime_s
        assert len(proxy.history._snapshots) <= SNAPSHOTS_LIMIT
        assert interval_s <= uptime_s
        if min(pauses) >= 10:
            assert interval_s >= min(WINDOW_S, uptime_s) - 0.01


def test_equal_snapshots_are_kept_once(proxy: Proxy) -> None:
    for _ in range(4):
        proxy.now_s += 10
        proxy.history.remember()
    assert len({id(each.packed) for each in list(proxy.history._snapshots)[1:]}) == 1


def test_only_families_about_traffic_that_have_samples_are_selected() -> None:
    empty = MetricFamily(name="maesh_tcp_opened", type="counter", help="")
    families = [count(1), count(1, "maesh_edge_requests"), count(1, "maesh_proxy_workers"), empty]
    assert [each.name for each in select_traffic(families)] == ["maesh_service_requests", "maesh_edge_requests"]


async def test_it_remembers_fresh_counters_at_intervals(proxy: Proxy) -> None:
    async def refresh() -> None:
        proxy.requests += 5

    async def pause(seconds: float) -> None:
        proxy.now_s += seconds
        await asyncio.sleep(0)
        if proxy.now_s >= 1100:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await proxy.history.run(refresh, pause=pause)
    assert proxy.read() == (60.0, 45, 20)


def test_the_history_of_2000_busy_services_takes_less_than_10_mb() -> None:
    source = random.Random(1)
    keys = [f"namespace-{number % 50}/service-{number}:80" for number in range(2000)]
    bounds = (0.001, 0.01, 0.1, 1.0)

    def collect() -> list[MetricFamily]:
        codes = [((key, code), source.randrange(10**6)) for key in keys for code in ("2xx", "4xx", "5xx")]
        times = [
            ((key,), Histogram(bounds, tuple(source.randrange(10**6) for _ in range(12)), source.random()))
            for key in keys
        ]
        return [
            MetricFamily(
                name="maesh_service_requests", type="counter", help="", labels=("service", "code"), samples=codes
            ),
            MetricFamily(
                name="maesh_service_request_duration_seconds",
                type="histogram",
                help="",
                labels=("service",),
                samples=times,
            ),
        ]

    now = [0.0]
    history = TrafficHistory(collect, clock=lambda: now[0])
    tracemalloc.start()
    try:
        for _ in range(3 * SNAPSHOTS_LIMIT):
            now[0] += 10
            history.remember()
        assert tracemalloc.get_traced_memory()[0] < 10_000_000
    finally:
        tracemalloc.stop()
