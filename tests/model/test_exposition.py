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
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar as KnownExemplar
from prometheus_client.samples import Timestamp
from prometheus_client.utils import floatToGoString

from maesh_core.model.exposition import (
    CONTENT_TYPE,
    OPENMETRICS_CONTENT_TYPE,
    read_process_families,
    render_families,
    render_page,
)
from maesh_core.model.metrics import Exemplar, Histogram, MetricFamily

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
        exemplar = st.builds(Exemplar, TEXT, st.floats(0, 1e18), st.integers(0, 2**40).map(lambda ms: ms / 1000))
        exemplars = st.dictionaries(st.integers(0, len(bounds)), exemplar)
        values = st.builds(Histogram, bounds=st.just(bounds), counts=counts, sum=NUMBERS, exemplars=exemplars)
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
                exemplars = [self.find_exemplar(value, bucket) for bucket in range(len(bounds))]
                buckets = list(zip(bounds, accumulate(value.counts), exemplars, strict=True))
                family.add_metric(labels, buckets, value.sum)
            else:
                family.add_metric(labels, value)
        yield family

    @staticmethod
    def find_exemplar(histogram: Histogram, bucket: int) -> KnownExemplar | None:
        exemplar = histogram.exemplars.get(bucket)
        if exemplar is None:
            return None
        return KnownExemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.at)


@given(build_families())
def test_openmetrics_are_those_of_prometheus_client(family: MetricFamily) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(family))
    page, content_type = render_page([lambda: [family]], "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert page == openmetrics.generate_latest(registry)
    assert content_type == OPENMETRICS_CONTENT_TYPE


def test_an_exemplar_is_read_by_a_parser_of_openmetrics_only() -> None:
    exemplar = Exemplar("4bf92f3577b34da6a3ce929d0e0e4736", 0.02, 1700000000.5)
    histogram = Histogram((0.01, 0.1), (1, 1, 0), 0.025, {1: exemplar})
    family = MetricFamily(name="maesh_x_seconds", type="histogram", help="h", samples=[((), histogram)])
    page, _ = render_page([lambda: [family]], "application/openmetrics-text; version=1.0.0")
    (parsed,) = parse_openmetrics(page.decode())
    found = {sample.labels["le"]: sample.exemplar for sample in parsed.samples if "le" in sample.labels}
    assert found["0.01"] is found["+Inf"] is None
    assert found["0.1"] == KnownExemplar({"trace_id": exemplar.trace_id}, 0.02, Timestamp(1700000000, 500_000_000))
    text, content_type = render_page([lambda: [family]], "text/plain")
    assert content_type == CONTENT_TYPE
    assert exemplar.trace_id.encode() not in text


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
