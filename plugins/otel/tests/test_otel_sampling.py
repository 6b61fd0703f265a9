"""How many requests are chosen, and the identifiers of their traces."""

import random
from itertools import pairwise

import pytest
from maesh_otel.sampling import RatioSampler, build_span_id, build_trace_id
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased


@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
def test_the_share_of_chosen_requests_is_the_ratio(ratio, monkeypatch):
    generator = random.Random(7)
    monkeypatch.setattr(random, "random", generator.random)
    sampler, count = RatioSampler(ratio), 200_000
    chosen = sum(sampler.choose() for _ in range(count))
    deviation = (count * ratio * (1 - ratio)) ** 0.5
    assert abs(chosen - count * ratio) < 5 * deviation


def test_whether_a_request_is_chosen_does_not_depend_on_the_one_before():
    sampler = RatioSampler(0.3)
    found = [sampler.choose() for _ in range(100_000)]
    after_chosen = [later for earlier, later in pairwise(found) if earlier]
    assert abs(sum(after_chosen) / len(after_chosen) - 0.3) < 0.02


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_none_and_all_are_exact(ratio):
    sampler = RatioSampler(ratio)
    assert {sampler.choose() for _ in range(1000)} == {bool(ratio)}


@pytest.mark.parametrize("ratio", [1.0, 0.25, 0.001])
def test_samplers_that_look_at_the_trace_id_choose_the_traces_of_the_mesh(ratio):
    sampler = TraceIdRatioBased(ratio)
    for _ in range(1000):
        trace_id = int(build_trace_id(ratio), 16)
        assert sampler.should_sample(None, trace_id, "GET").decision.is_sampled()


def test_identifiers_are_hexadecimal_and_differ():
    found = {build_trace_id(0.0001) for _ in range(1000)}
    assert len(found) == 1000
    assert {len(each) for each in found} == {32}
    assert len({build_span_id() for _ in range(1000)}) == 1000
    assert len(build_span_id()) == 16
