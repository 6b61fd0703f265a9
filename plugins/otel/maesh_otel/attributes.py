"""Attributes of spans with their encoded form: the message KeyValue in opentelemetry/proto/common/v1/common.proto.

Most attributes of a service have few values, so the spans of many requests share them (shared_attributes.py), and they
are encoded once. Must not import the SDK, whose encoder makes two objects of each attribute.
"""

from typing import Final

SPAN_NAME: Final = b"\x2a"
SPAN_ATTRIBUTE: Final = b"\x4a"
"""The tags of the fields `name` and `attributes` of a span."""
EVENT_ATTRIBUTE: Final = b"\x1a"
"""The tag of the field `attributes` of an event."""

AttributeValues = dict[str, str | int]


class Attributes:
    """Some attributes of a span, in order, and their encoded form. Spans share them, so they must not be changed."""

    def __init__(self, values: AttributeValues) -> None:
        self.values = values
        self.encoded = encode_attributes(SPAN_ATTRIBUTE, values)

    def __repr__(self) -> str:
        return f"<Attributes {self.values}>"


def encode_attributes(tag: bytes, values: AttributeValues) -> bytes:
    """Encode each attribute as a field with this tag. Raises UnicodeEncodeError for text that is not Unicode."""
    return b"".join([_encode_attribute(tag, key, value) for key, value in values.items()])


def _encode_attribute(tag: bytes, key: str, value: str | int) -> bytes:
    any_value = b"\x18" + encode_varint(value) if isinstance(value, int) else encode_bytes(b"\x0a", value.encode())
    return encode_bytes(tag, encode_bytes(b"\x0a", key.encode()) + encode_bytes(b"\x12", any_value))


def encode_bytes(tag: bytes, content: bytes) -> bytes:
    """Encode a field that has a length."""
    return encode_start(tag, len(content)) + content


def encode_start(tag: bytes, size: int) -> bytes:
    """Encode what comes before the content of a field: its tag, and the size of its content in bytes."""
    if size < 0x80:
        return tag + bytes((size,))
    if size < 0x4000:
        return tag + bytes((size & 0x7F | 0x80, size >> 7))
    return tag + encode_varint(size)


def encode_varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
