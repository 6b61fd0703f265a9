"""Requests to the API are counted by path and code, and pulls by result."""

from maesh_core.controller.api.request_counts import RequestCounts


def collect(counts):
    return {family.name.removeprefix("maesh_controller_"): dict(family.samples) for family in counts.collect(7)}


def test_requests_and_pulls_are_counted():
    counts = RequestCounts()
    for code, tag in ((200, '"e.1"'), (200, '"e.2;since=e.1"'), (304, '"e.2"'), (503, ""), (400, ""), (499, "")):
        counts.count("/api/configuration/current", code)
        counts.count_pull(code, tag)
    found = collect(counts)
    assert found["pulls_total"] == {
        ("delta",): 1,
        ("full",): 1,
        ("left",): 1,
        ("refused",): 2,
        ("unchanged",): 1,
    }
    assert found["api_requests_total"]["/api/configuration/current", "200"] == 2
    assert found["held_pulls"] == {(): 7}
