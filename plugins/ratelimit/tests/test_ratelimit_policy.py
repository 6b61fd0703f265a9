"""What `maesh check` says about limits in Redis that cannot work as they are set."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.controller import RateLimitBuilder
from maesh_ratelimit.policy import LimitPolicyChecker

from maesh_core.plugin import ObjectKey, PolicyView, PortNode, ServiceNode

REDIS_URL = "redis://redis.example"


def check(annotations: Mapping[str, str], **fields: Any) -> list[tuple[str, str]]:
    settings = RateLimitSettings(**fields)
    ports = (PortNode(name="web", number=80, protocol="TCP"), PortNode(name="api", number=81, protocol="TCP"))
    full = {f"maesh.containo.us/{name}": value for name, value in annotations.items()}
    node = ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", annotations=full, ports=ports)
    view = cast("PolicyView", SimpleNamespace(nodes={node.key: node}))
    found = LimitPolicyChecker(RateLimitBuilder(settings), settings).check(view)
    return [(each.code, each.text) for each in found]


def test_a_limit_in_redis_needs_its_address() -> None:
    limit = {"ratelimit-average": "5", "ratelimit-store": "redis"}
    text = "limit default is in Redis, but ratelimit.redis-url is not set"
    assert check(limit) == [("MSH803", text)]
    assert check({"ratelimit-average": "5"}, store="redis") == [("MSH803", text)]
    assert check(limit, redis_url=REDIS_URL) == []
    assert check({"ratelimit-average": "5"}) == []


def test_a_limit_of_one_port_is_checked() -> None:
    lines = {"api.ratelimit-limits": "login: 5/1m store=redis"}
    assert [text for _, text in check(lines)] == ["limit login is in Redis, but ratelimit.redis-url is not set"]


@pytest.mark.parametrize(("burst", "codes"), [(199, ["MSH804"]), (200, [])])
def test_a_burst_below_the_requests_of_20_ms_is_reported(burst: int, codes: list[str]) -> None:
    annotations = {"ratelimit-average": "10000", "ratelimit-burst": str(burst), "ratelimit-store": "redis"}
    assert [code for code, _ in check(annotations, redis_url=REDIS_URL)] == codes
    assert check({**annotations, "ratelimit-store": "node"}) == []


def test_a_limit_with_an_error_is_left_to_where_it_is_built() -> None:
    assert check({"ratelimit-average": "many", "ratelimit-store": "redis"}) == []
    assert check({"80.ratelimit-average": "5", "web.ratelimit-average": "6", "ratelimit-store": "redis"}) == []
