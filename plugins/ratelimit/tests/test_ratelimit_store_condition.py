"""Proxies that do not reach Redis are a condition of the mesh, since limits then hold for each node only."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.store_condition import StoreCondition

from maesh_core.plugin import MeshCondition, ObjectKey, ProxyReport, ServiceNode

REDIS = RateLimitSettings(redis_url="redis://redis.example:6379/0")


class FakeReports:
    def __init__(self, *reports: ProxyReport, is_complete: bool = True) -> None:
        self._reports, self._is_complete = reports, is_complete
        self.calls = 0
        self.annotations: dict[str, str] = {}

    def list_services(self) -> list[ServiceNode]:
        return [ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", annotations=self.annotations)]

    async def gather_reports(self, name: str, add: Callable[[ProxyReport], None]) -> bool:
        self.calls += 1
        for report in self._reports:
            add(report)
        return self._is_complete


def build_report(name: str, *states: str) -> ProxyReport:
    """Build the report of a proxy with one worker for each state."""

    def build_worker(state: str) -> msgspec.Raw:
        store = {"store": "redis", "server": "redis.example:6379", "state": state, "reason": "timed out"}
        return msgspec.Raw(msgspec.json.encode({"stores": [store]}))

    return ProxyReport(name=name, workers=tuple(map(build_worker, states)))


async def check(*reports: ProxyReport, **fields: Any) -> MeshCondition:
    (condition,) = await StoreCondition(FakeReports(*reports, **fields), REDIS).check_conditions()
    assert condition.id == "limit-stores"
    return condition


async def test_a_proxy_without_its_store_is_named_once_for_all_workers() -> None:
    condition = await check(build_report("node-1", "away", "away"), build_report("node-2", "connected", "unused"))
    assert condition.problems == ["node-1: redis.example:6379 is away: timed out"]


async def test_connected_proxies_are_counted() -> None:
    condition = await check(build_report("node-1", "connected"), build_report("node-2", "unused"))
    assert (condition.problems, condition.found) == ([], ["1 of 2 proxies connected, the others unused"])


async def test_proxies_that_could_not_be_asked_are_a_problem() -> None:
    condition = await check(ProxyReport(name="node-1", error="no answer"))
    assert condition.problems == ["node-1 could not be asked: no answer"]
    assert (await check(is_complete=False)).problems == ["not all proxies could be asked"]


async def test_without_a_store_no_proxy_is_asked() -> None:
    reports = FakeReports(build_report("node-1", "away"))
    assert await StoreCondition(reports, RateLimitSettings()).check_conditions() == ()
    assert reports.calls == 0


@pytest.mark.parametrize(
    "annotation",
    [
        ("maesh.containo.us/ratelimit-store", "redis"),
        ("maesh.containo.us/api.ratelimit-limits", "login: 5/1m store=redis"),
    ],
)
async def test_a_service_with_a_limit_in_redis_is_enough(annotation: tuple[str, str]) -> None:
    reports = FakeReports(build_report("node-1", "away"))
    reports.annotations = dict([annotation])
    (condition,) = await StoreCondition(reports, RateLimitSettings()).check_conditions()
    assert len(condition.problems) == 1
