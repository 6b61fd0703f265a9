"""Answers of proxies, of whatever content."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.parsing import FAMILIES_LIMIT, parse_traffic
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.traffic import ProxyTraffic

from .measured import WEB, count, observe, work_at_once

FAMILY = {"name": metrics.REQUESTS, "type": "counter", "labels": ["service", "code"], "samples": [[[WEB, "2xx"], 1]]}


def parse(*families: Any, **more: Any) -> ProxyTraffic:
    return work_at_once(parse_traffic(json.dumps({"interval_s": 60, "now": families, **more}).encode()))


def test_what_a_proxy_sends_is_read() -> None:
    sent = ProxyTraffic(
        interval_s=60.5,
        uptime_s=100.0,
        now=(
            count(metrics.REQUESTS, {(WEB, "2xx"): 1.0}, "service", "code"),
            count(metrics.DURATIONS, {(WEB,): observe(0.1)}),
            count(metrics.HTTP_CONNECTIONS, {("client",): 4.0}, "side"),
        ),
        before=(count(metrics.RETRIES, {(WEB,): 3.0}),),
    )
    body = msgspec.json.encode(sent)
    assert msgspec.json.encode(work_at_once(parse_traffic(body))) == body


@pytest.mark.parametrize(
    "family",
    [
        {},
        7,
        "x",
        {**FAMILY, "name": "maesh_service_other"},
        {**FAMILY, "type": "summary"},
        {**FAMILY, "type": "gauge"},
        {**FAMILY, "labels": [1]},
        {**FAMILY, "samples": [[[WEB, "2xx"], "1"]]},
        {**FAMILY, "samples": [[[WEB, "2xx"], None]]},
        {**FAMILY, "samples": [[[WEB, "2xx"], {"bounds": [1], "counts": [1, 1], "sum": 1}]]},
        {**FAMILY, "name": metrics.DURATIONS, "type": "histogram"},
    ],
)
def test_a_family_that_is_unknown_or_cannot_be_read_is_left_out(family: Any) -> None:
    found = parse(family, FAMILY, before=[family])
    assert [each.name for each in found.now] == [metrics.REQUESTS]
    assert found.before == ()


def test_families_above_the_limit_are_not_examined() -> None:
    assert parse(*[{}] * FAMILIES_LIMIT, FAMILY).now == ()


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"interval_s": "x", "now": []}', b'{"now": []}', b"\xff", b"[" * 100_000]
)
def test_what_is_not_traffic_is_refused(body: bytes) -> None:
    with pytest.raises(NodeUnreachableError, match="the proxy's answer is not its traffic"):
        work_at_once(parse_traffic(body))


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(max_size=5)
    ),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from([*FAMILY, "now"]), each, max_size=4),
    max_leaves=12,
)


@given(st.one_of(st.binary(), JSON.map(lambda each: json.dumps(each).encode())))
def test_any_answer_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(NodeUnreachableError):
        work_at_once(parse_traffic(body))


@given(st.lists(JSON, max_size=3), st.dictionaries(st.sampled_from([*FAMILY]), JSON))
def test_any_families_are_read_or_left_out(families: list[Any], changes: dict[str, Any]) -> None:
    parse(*families, {**FAMILY, **changes}, before=families)
