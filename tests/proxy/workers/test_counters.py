"""Sums of what several workers counted, dead ones included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.proxy.workers.counters import RetiredCounters, add_families


def build_counter(samples: dict[str, float], *, name: str = "c", type_: str = "counter") -> MetricFamily:
    return MetricFamily(
        name=name,
        type=type_,  # type: ignore[arg-type]
        help="h",
        labels=("service",),
        samples=[((key,), value) for key, value in samples.items()],
    )


def read(families: list[MetricFamily]) -> dict[tuple[str, tuple[str, ...]], object]:
    return {(family.name, labels): value for family in families for labels, value in family.samples}


def test_counters_and_gauges_are_added_by_label() -> None:
    found = add_families(
        [
            build_counter({"a": 1, "b": 2}),
            build_counter({"b": 3, "c": 4}),
            build_counter({"a": 5}, name="g", type_="gauge"),
        ]
    )
    assert read(found) == {("c", ("a",)): 1, ("c", ("b",)): 5, ("c", ("c",)): 4, ("g", ("a",)): 5}


def test_histograms_are_added_bucket_by_bucket() -> None:
    one = MetricFamily(name="t", type="histogram", help="h", samples=(((), Histogram((1.0,), (1, 2), 3.0)),))
    other = MetricFamily(name="t", type="histogram", help="h", samples=(((), Histogram([1.0], [4, 5], 6.0)),))
    assert read(add_families([one, other])) == {("t", ()): Histogram((1.0,), (5, 7), 9.0)}


@pytest.mark.parametrize(
    "other",
    [
        MetricFamily(name="c", type="gauge", help="h", labels=("service",), samples=((("a",), 1),)),
        MetricFamily(name="c", type="counter", help="h", labels=("other",), samples=((("a",), 1),)),
        MetricFamily(
            name="c", type="counter", help="h", labels=("service",), samples=((("a",), Histogram((), (1,), 1.0)),)
        ),
    ],
)
def test_what_does_not_fit_is_left_out(other: MetricFamily) -> None:
    assert read(add_families([build_counter({"a": 7}), other])) == {("c", ("a",)): 7}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), max_size=5))
def test_no_counter_goes_backwards_when_a_worker_retires(workers: list[dict[str, float]]) -> None:
    retired = RetiredCounters()
    families = [build_counter(samples) for samples in workers]
    before = read(add_families(families))
    for family in families:
        retired.add([family], is_known=lambda service: True)
    assert read(add_families(retired.families)) == before


def test_gauges_and_services_that_are_gone_end_with_their_worker() -> None:
    retired = RetiredCounters()
    plain = MetricFamily(name="plain", type="counter", help="h", samples=(((), 1),))
    retired.add(
        [build_counter({"a": 1, "gone": 2}), build_counter({"a": 3}, name="g", type_="gauge"), plain],
        is_known={"a"}.__contains__,
    )
    assert read(list(retired.families)) == {("c", ("a",)): 1, ("plain", ()): 1}
    retired.add([], is_known=lambda service: False)
    assert read(list(retired.families)) == {("plain", ()): 1}
