"""Measured values as short texts."""

import pytest

from maesh_core.cli.top.numbers import (
    render_bytes,
    render_count,
    render_duration,
    render_rate,
    render_share,
    render_weight,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (2_500_000, "2.5M"),
        (3e9, "3.0G"),
        (4e12, "4.0T"),
        (1e300, "1e+300"),
    ],
)
def test_a_count_is_exact_while_it_is_short(value, text):
    assert render_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0/s"), (0.0001, "0.01/s"), (1.234, "1.23/s"), (999.9, "999.9/s"), (1500, "1500/s"), (15_000, "15.0k/s")],
)
def test_a_small_rate_does_not_look_like_none(value, text):
    assert render_rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1.0, "100%"), (0.999999, "99.99%"), (0.8, "80%"), (0.9012, "90.12%"), (0, "0%"), (-1, "0%")],
)
def test_only_a_full_share_is_100_per_cent(value, text):
    assert render_share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.00042, "0.42ms"), (0.0042, "4.2ms"), (0.123, "123ms"), (1.234, "1.23s"), (75, "75s")],
)
def test_a_duration_has_few_digits(value, text):
    assert render_duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (1e300, "1e+300 B")]
)
def test_bytes_have_a_unit(value, text):
    assert render_bytes(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0, "0%"), (1 / 6, "16.67%"), (0.75, "75%"), (1, "100%")])
def test_a_weight_is_rounded(value, text):
    assert render_weight(value) == text


def test_a_number_that_no_float_can_be_is_rendered():
    assert render_count(10**400) == "1e+300"
    assert render_bytes(10**400) == "1e+300 B"
