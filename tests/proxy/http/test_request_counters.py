"""Counts of requests, and the metrics made of them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from maesh_core.model.metrics import Exemplar, Histogram
from maesh_core.proxy.counting import DURATION_BOUNDS_S, name_class
from maesh_core.proxy.http.request_counters import (
    OTHER_REASON,
    REASON_LIMIT,
    RouteCounters,
    collect_counters,
    collect_ejections,
)

SECONDS = st.floats(0.0, 10.0) | st.sampled_from(DURATION_BOUNDS_S)


def read(counters, *, has_exact_codes=False):
    families = collect_counters(counters, has_exact_codes=has_exact_codes)
    return {family.name.removeprefix("maesh_"): dict(family.samples) for family in families}


def count(*statuses, is_http2=False):
    counters = RouteCounters()
    for status in statuses:
        counters.count(status, 0.0, is_http2=is_http2)
    return counters


def test_a_request_counts_once_by_status_and_duration():
    counters = RouteCounters()
    for status, seconds in [(200, 0.0), (200, 0.0005), (200, 0.001), (502, 0.0011), (200, 9.0)]:
        counters.count(status, seconds, is_http2=False)
    assert counters.statuses.by_status == {200: 4, 502: 1}
    assert counters.durations.buckets == (2, 1, 1, *[0] * (len(DURATION_BOUNDS_S) - 3), 1)
    assert counters.durations.seconds == 9.0026


def test_a_failure_counts_for_the_service_and_its_branch_and_others_have_a_zero():
    counters = count(200)
    assert read({"a": counters})["service_failures"] == {("a",): 0}
    counters.count_branch("v1", 200, 0.1)
    counters.count_branch("v2", 200, 0.1)
    counters.count_failure("v2")
    counters.count_failure()
    found = read({"a": counters})
    assert found["service_failures"] == {("a",): 2}
    assert found["branch_failures"] == {("a", "v1"): 0, ("a", "v2"): 1}


@given(st.lists(st.tuples(st.sampled_from(["v1", "v2"]), SECONDS)))
def test_durations_of_branches_add_up_to_those_of_the_service(requests):
    counters = RouteCounters()
    for destination, seconds in requests:
        counters.count(200, seconds, is_http2=False)
        counters.count_branch(destination, 200, seconds)
    metrics = read({"a": counters})
    found = metrics.get("branch_request_duration_seconds", {})
    assert {key for _, key in found} == {destination for destination, _ in requests}
    totals = [sum(each.counts[bucket] for each in found.values()) for bucket in range(len(DURATION_BOUNDS_S) + 1)]
    assert tuple(totals) == counters.durations.buckets
    assert sum(each.sum for each in found.values()) == pytest.approx(counters.durations.seconds)


@given(st.lists(st.tuples(st.integers(100, 599), st.booleans())), st.booleans())
def test_sums_over_codes_and_protocols_are_the_number_of_requests(requests, has_exact_codes):
    counters = RouteCounters()
    for status, is_http2 in requests:
        counters.count(status, 0.1, is_http2=is_http2)
        counters.count_branch("b", status, 0.1)
    metrics = read({"a": counters}, has_exact_codes=has_exact_codes)
    assert sum(metrics["service_requests"].values()) == len(requests)
    assert sum(metrics["branch_requests"].values()) == len(requests)
    for _, protocol, code in metrics["service_requests"]:
        named = {str(status) if has_exact_codes else name_class(status) for status, _ in requests}
        assert protocol in ("http/1", "http/2")
        assert code in named


def test_the_latest_exemplar_of_each_bucket_is_in_the_metric():
    counters = count(200)
    for trace_id, seconds in (("a", 0.02), ("b", 0.021), ("c", 100.0), ("d", 0.0005)):
        counters.add_exemplar(Exemplar(trace_id, seconds, 1.0))
    histogram = read({"shop/web:80": counters})["service_request_duration_seconds"]["shop/web:80",]
    assert {DURATION_BOUNDS_S.index(0.025): "b", len(DURATION_BOUNDS_S): "c", 0: "d"} == {
        bucket: exemplar.trace_id for bucket, exemplar in histogram.exemplars.items()
    }


def test_codes_are_classes_unless_exact_ones_are_wanted():
    counters = {"a": count(200, 204, 404)}
    assert read(counters)["service_requests"] == {("a", "http/1", "2xx"): 2, ("a", "http/1", "4xx"): 1}
    exact = read(counters, has_exact_codes=True)["service_requests"]
    assert exact == {("a", "http/1", "200"): 1, ("a", "http/1", "204"): 1, ("a", "http/1", "404"): 1}


def test_protocols_are_distinguished():
    both = count(200)
    both.count(200, 0.0, is_http2=True)
    assert read({"a": both})["service_requests"] == {("a", "http/1", "2xx"): 1, ("a", "http/2", "2xx"): 1}
    assert count(200, is_http2=True).is_used


def test_the_mesh_s_answers_are_counted_by_reason_up_to_a_limit():
    counters = count(503)
    for number in range(REASON_LIMIT + 10):
        counters.count_answer(503, f"reason {number}")
    counters.count_answer(403, "reason 999")
    counters.count_answer(503, "reason 1")
    answers = read({"a": counters})["service_answers"]
    assert answers["a", "503", "reason 1"] == 2
    assert answers["a", "503", OTHER_REASON] == 10
    assert answers["a", "403", OTHER_REASON] == 1
    assert len(answers) == REASON_LIMIT + 2


def test_services_without_a_request_are_left_out_of_the_metrics():
    metrics = read({"b": count(200), "a": RouteCounters()})
    assert metrics["service_requests"] == {("b", "http/1", "2xx"): 1}
    assert metrics["service_attempts"] == {("b",): 0}
    histogram = metrics["service_request_duration_seconds"]["b",]
    assert isinstance(histogram, Histogram)
    assert sum(histogram.counts) == 1


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("attempts", "service_attempts"),
        ("retries", "service_retries"),
        ("received_bytes", "service_request_bytes"),
        ("sent_bytes", "service_response_bytes"),
    ],
)
def test_each_sum_has_its_metric(attribute, name):
    counters = count(200)
    setattr(counters, attribute, 7)
    assert read({"a": counters})[name] == {("a",): 7}


def test_cuts_and_calls_have_their_labels():
    counters = count(200)
    counters.count_cut("closed")
    counters.count_call(14)
    counters.count_call(14)
    metrics = read({"a": counters})
    assert metrics["service_cut_responses"] == {("a", "closed"): 1}
    assert metrics["service_grpc_responses"] == {("a", "14"): 2}


def test_servers_that_are_set_aside_are_reported_for_used_services():
    counters = count(200)
    counters.ejections = 3
    aside, ejections = collect_ejections({"a": counters, "b": RouteCounters()}, {"a": 1, "b": 1, "c": 1})
    assert dict(aside.samples) == {("a",): 1}
    assert dict(ejections.samples) == {("a",): 3}
