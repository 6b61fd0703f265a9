"""Counts of requests, and the metrics made of them."""

import pytest

from maesh_core.model.metrics import Histogram
from maesh_core.proxy.http.request_counters import (
    DURATION_BOUNDS_S,
    OTHER_REASON,
    REASON_LIMIT,
    RouteCounters,
    collect_counters,
)


def collect(counters, *, has_exact_codes=False):
    """Collect the samples of each metric, by its name."""
    families = collect_counters(counters, has_exact_codes=has_exact_codes)
    return {family.name: dict(family.samples) for family in families}


def test_a_request_counts_once_by_status_and_duration():
    counters = RouteCounters()
    for status, seconds in [(200, 0.0), (200, 0.0005), (502, 0.0011), (200, 9.0)]:
        counters.count(status, seconds, is_http2=False)
    assert counters.statuses == {200: 3, 502: 1}
    assert counters.durations == [2, 0, 1, *[0] * (len(DURATION_BOUNDS_S) - 3), 1]
    assert counters.seconds == 9.0016


def test_services_without_a_request_are_left_out_of_the_metrics():
    used = RouteCounters()
    used.count(200, 0.5, is_http2=False)
    samples = collect({"b": used, "a": RouteCounters()})
    assert samples["maesh_service_requests"] == {("b", "http/1", "2xx"): 1}
    histogram = samples["maesh_service_request_duration_seconds"][("b",)]
    assert isinstance(histogram, Histogram)
    assert sum(histogram.counts) == 1


def test_statuses_are_summed_up_by_class_unless_exact_ones_are_wanted():
    counters = RouteCounters()
    for status, is_http2 in [(200, False), (204, False), (204, True), (499, True)]:
        counters.count(status, 0.0, is_http2=is_http2)
    assert collect({"a": counters})["maesh_service_requests"] == {
        ("a", "http/1", "2xx"): 2,
        ("a", "http/2", "2xx"): 1,
        ("a", "http/2", "4xx"): 1,
    }
    assert collect({"a": counters}, has_exact_codes=True)["maesh_service_requests"] == {
        ("a", "http/1", "200"): 1,
        ("a", "http/1", "204"): 1,
        ("a", "http/2", "204"): 1,
        ("a", "http/2", "499"): 1,
    }


def test_a_response_head_counts_by_the_time_since_the_attempt_started():
    counters = RouteCounters()
    counters.count_response(0.0007)
    counters.count_response(0.3)
    assert counters.upstream_durations == [0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert counters.upstream_seconds == pytest.approx(0.3007)


def test_further_reasons_of_a_service_are_counted_together():
    counters = RouteCounters()
    for number in range(REASON_LIMIT + 5):
        counters.count_answer(503, f"reason {number}")
    counters.count_answer(503, "reason 1")
    assert counters.answers[503, OTHER_REASON] == 5
    assert counters.answers[503, "reason 1"] == 2
    assert len(counters.answers) == REASON_LIMIT + 1


def test_branches_and_cut_responses_are_counted_apart():
    counters = RouteCounters()
    counters.count(200, 0.0, is_http2=False)
    counters.count_branch("a/v1:80", 200)
    counters.count_branch("a/v1:80", 201)
    counters.count_branch("a/v2:80", 503)
    counters.count_cut("lost")
    samples = collect({"a/s:80": counters})
    assert samples["maesh_branch_requests"] == {("a/s:80", "a/v1:80", "2xx"): 2, ("a/s:80", "a/v2:80", "5xx"): 1}
    assert samples["maesh_service_cut_responses"] == {("a/s:80", "lost"): 1}
