import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents.yaml_scalars import resolve_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("yes", True),
        ("On", True),
        ("off", False),
        ("NO", False),
        ("n", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("08", 8.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("190:20:30", "190:20:30"),
        ("127.0.0.1", "127.0.0.1"),
        ("500m", "500m"),
        ("-", "-"),
        ("1_", 1),
        ("truE", "truE"),
        ("0x", "0x"),
        ("=", "="),
    ],
)
def test_plain_scalars_mean_what_kubernetes_takes_them_for(text, value):
    resolved = resolve_scalar(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_a_number_without_end_is_no_number_to_choke_on():
    assert isinstance(resolve_scalar("9" * 10_000), float)


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_every_integer_is_read_back(number):
    assert resolve_scalar(str(number)) == number


@given(st.text(max_size=20))
def test_any_text_that_is_no_other_value_is_itself(text):
    resolved = resolve_scalar(text)
    assert resolved is None or isinstance(resolved, bool | int | float) or resolved == text
