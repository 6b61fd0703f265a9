"""Counts of requests, and the metrics made of them."""

from maesh_core.model.metrics import Histogram
from maesh_core.proxy.http.request_counters import DURATION_BOUNDS_S, RouteCounters, collect_counters


def test_a_request_counts_once_by_status_and_duration():
    counters = RouteCounters()
    for status, seconds in [(200, 0.0), (200, 0.001), (502, 0.0011), (200, 9.0)]:
        counters.count(status, seconds)
    assert counters.statuses == {200: 3, 502: 1}
    assert counters.durations == [2, 1, *[0] * (len(DURATION_BOUNDS_S) - 2), 1]
    assert counters.seconds == 9.0021


def test_services_without_a_request_are_left_out_of_the_metrics():
    used = RouteCounters()
    used.count(200, 0.5)
    requests, _, durations = collect_counters({"b": used, "a": RouteCounters()})
    assert list(requests.samples) == [(("b", "200"), 1)]
    ((labels, histogram),) = durations.samples
    assert labels == ("b",)
    assert isinstance(histogram, Histogram)
    assert sum(histogram.counts) == 1
