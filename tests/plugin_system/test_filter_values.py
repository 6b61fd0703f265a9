"""The value of a filter in, a struct of the builder or an error out."""

import msgspec
import pytest

from maesh_core.plugin import ConfigurationError, FilterRequest, PortNode, read_filter, read_filter_duration

REQUEST = FilterRequest(name="timeouts", value={}, matches=(), port=PortNode(number=80))


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: int = 0


def read(value):
    return read_filter(FilterRequest(name="Pause", value=value, matches=(), port=PortNode(number=80)), Pause)


def test_a_value_becomes_a_struct_and_a_missing_field_its_default():
    assert read({"seconds": 3}).seconds == 3
    assert read({}).seconds == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [({"secnds": 3}, "Pause: secnds: unknown field; did you mean seconds?"), ({"seconds": "3"}, "Pause: seconds: ")],
)
def test_an_unknown_field_or_a_value_of_the_wrong_type_is_an_error_that_names_filter_and_field(value, text):
    with pytest.raises(ConfigurationError) as caught:
        read(value)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("10s", 10),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1m1ms", 60.001),
        ("99999h99999h99999h99999h", 4 * 99999 * 3600),
        ("1s1s", 2),
        ("10ms10m", 600.01),
    ],
)
def test_a_duration_is_that_of_gep_2257(text, seconds):
    assert read_filter_duration(REQUEST, "request", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "1.5s", "-1s", "1 s", "100000s", "1s1s1s1s1s", "1d", "s", "١s", "1s\n"])
def test_any_other_duration_is_an_error_that_names_filter_and_field(text):
    with pytest.raises(ConfigurationError) as caught:
        read_filter_duration(REQUEST, "request", text)
    assert str(caught.value).startswith(f"timeouts: request: {text!r} is not a duration")
