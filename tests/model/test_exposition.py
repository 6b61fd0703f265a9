"""Families become the text that prometheus_client would render, byte for byte."""

import math
import os
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from maesh_core.model.exposition import read_process_families, render_families
from maesh_core.model.metrics import Histogram, MetricFamily

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8) | st.sampled_from(['"', "\\", "\n", 'a\\\n"b'])
NUMBERS = st.floats(min_value=0) | st.integers(0, 10**18) | st.sampled_from([math.inf, math.nan, 999999.0, 1e6, 1e16])


@st.composite
def build_families(draw: Any) -> MetricFamily:
    kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
    labels = tuple(draw(st.lists(st.sampled_from(["service", "code", "a"]), unique=True)))
    values: Any = NUMBERS
    if kind == "histogram":
        bounds = tuple(sorted(draw(st.sets(st.floats(0, 1e18), min_size=1, max_size=4))))
        counts = st.lists(st.integers(0, 10**9), min_size=len(bounds) + 1, max_size=len(bounds) + 1)
        values = st.builds(Histogram, bounds=st.just(bounds), counts=counts, sum=NUMBERS)
    samples = st.lists(st.tuples(st.tuples(*[TEXT for _ in labels]), values), max_size=3)
    name = draw(st.sampled_from(["maesh_x", "maesh_x_total"])) if kind == "counter" else "maesh_x"
    return MetricFamily(name=name, type=kind, help=draw(TEXT), labels=labels, samples=draw(samples))


class Collector:
    """Gives one family as prometheus_client has it."""

    def __init__(self, family: MetricFamily) -> None:
        self.family = family

    def collect(self) -> Iterator[Any]:
        given = self.family
        kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        family: Any = kinds[given.type](given.name, given.help, labels=given.labels)
        for labels, value in given.samples:
            if isinstance(value, Histogram):
                bounds = [*map(floatToGoString, value.bounds), "+Inf"]
                family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
            else:
                family.add_metric(labels, value)
        yield family


@given(build_families())
def test_the_text_is_that_of_prometheus_client(family: MetricFamily) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(family))
    assert render_families({family.name: [family]}) == generate_latest(registry)


@pytest.mark.parametrize("name", ["maesh x", "maesh-x", "maesh.x", "m\u00e4sh\nx", 'maesh{a="b"} 1\nx'])
def test_a_name_that_is_none_breaks_no_line(name: str) -> None:
    family = MetricFamily(name=name, type="gauge", help="h", labels=(name,), samples=((("v",), 1),))
    (parsed,) = text_string_to_metric_families(render_families({name: [family]}).decode())
    assert [list(sample.labels.values()) for sample in parsed.samples] == [["v"]]


def test_the_figures_of_the_process_have_the_names_and_kinds_of_prometheus_client() -> None:
    families = read_process_families()
    collected = list(ProcessCollector(registry=None).collect())
    theirs = {each.name.removesuffix("_total"): (each.type, each.documentation) for each in collected}
    ours = {each.name.removesuffix("_total"): (each.type, each.help) for each in families}
    assert ours == theirs
    values = {each.name: each.samples[0][1] for each in families}
    assert values["process_open_fds"] == len(os.listdir("/proc/self/fd"))
    theirs_by_name = {each.name: each.samples[0].value for each in collected}
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert values[name] == theirs_by_name[name]
