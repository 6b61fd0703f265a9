"""The comparison of histograms finds what is counted wrongly."""

import json

import pytest

from .scripted_durations import Span, collect_durations, compare_histograms, read_histograms

KEY = ("maesh_service_request_duration_seconds", frozenset({("service", "shop/web:80")}))
DURATIONS_S = [0.0004, 0.003, 0.0301]
SPANS = [Span(0.0, 1.0, 1.001), Span(0.0, 1.0, 1.004), Span(0.03, 1.0, 1.031)]


def render(counts=(1, 2, 3), seconds=0.0335, count=3):
    name, labels = "maesh_service_request_duration_seconds", 'service="shop/web:80"'
    bounds = ("0.001", "0.005", "+Inf")
    buckets = [f'{name}_bucket{{{labels},le="{bound}"}} {each}' for bound, each in zip(bounds, counts, strict=True)]
    return "\n".join([*buckets, f"{name}_sum{{{labels}}} {seconds}", f"{name}_count{{{labels}}} {count}", ""])


def compare(**changed):
    return list(compare_histograms(read_histograms(render(**changed)), {KEY: DURATIONS_S}, {KEY: SPANS}))


def test_a_histogram_of_the_log_s_durations_within_the_script_s_spans_has_no_difference():
    assert compare() == []


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"counts": (2, 2, 3)}, "2 up to 0.001 s, but the log says 1"),
        ({"counts": (1, 3, 3)}, "3 up to 0.005 s, not within 2 and 2"),
        ({"counts": (2, 1, 3)}, "buckets [2, 1, 3] of 3"),
        ({"seconds": 0.0336}, "a sum of 0.0336, but the log says 0.0335"),
        ({"seconds": 0.04}, "a sum of 0.04, not within 0.03 and"),
        ({"seconds": 0.001}, "but its buckets need"),
        ({"counts": (1, 2, 4), "count": 4}, "a count of 4, not 3"),
    ],
)
def test_a_wrong_bucket_sum_or_count_is_found(changed, text):
    assert any(text in each for each in compare(**changed)), compare(**changed)


def test_a_histogram_that_is_missing_or_not_wanted_is_found():
    histograms = read_histograms(render())
    assert list(compare_histograms({}, {}, {KEY: SPANS})) == [f"{KEY}: missing"]
    assert list(compare_histograms(histograms, {}, {})) == [f"{KEY}: not wanted"]


def test_the_log_knows_no_upstream_durations_of_a_service_with_retries():
    def render_record(service, retries, upstream):
        fields = {"Kind": "http", "RouterName": service, "ServiceName": service, "Duration": 5_000_000}
        fields["ClientHost"] = "10.0.0.1"
        return json.dumps({**fields, "OriginDuration": upstream, "RetryAttempts": retries})

    found = collect_durations([render_record("shop/web:80", 1, 4_000_000), render_record("shop/api:80", 0, None)])
    assert found == {
        (f"maesh_{noun}_request_duration_seconds", frozenset({"service": service, **labels}.items())): [0.005]
        for service in ("shop/web:80", "shop/api:80")
        for noun, labels in (("service", {}), ("edge", {"client": "10.0.0.1"}))
    }
