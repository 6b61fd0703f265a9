"""The value of a filter in, a struct of the builder or an error out."""

import msgspec
import pytest

from maesh_core.plugin import ConfigurationError, FilterRequest, PortNode, read_filter


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
