"""Values of attributes in, KeyValue messages out: the same as the SDK makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_otel.attributes import Attributes, encode_start, encode_varint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

VALUES = st.dictionaries(st.text(max_size=200), st.integers(0, (1 << 63) - 1) | st.text(max_size=300), max_size=4)


@given(values=VALUES)
def test_attributes_are_encoded_in_order_as_a_span_has_them(values):
    found = Span.FromString(Attributes(values).encoded).attributes
    assert [each.key for each in found] == list(values)
    for each, value in zip(found, values.values(), strict=True):
        assert (each.value.int_value if isinstance(value, int) else each.value.string_value) == value


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")],
)
def test_a_number_has_seven_bits_in_each_byte(number, encoded):
    assert encode_varint(number) == encoded


@pytest.mark.parametrize(("size", "start"), [(0, b"\x0a\0"), (127, b"\x0a\x7f"), (128, b"\x0a\x80\x01")])
def test_a_field_begins_with_its_tag_and_the_size_of_its_content(size, start):
    assert encode_start(b"\x0a", size) == start
