"""The message of greeter.proto as bytes, so that the example needs neither protoc nor protobuf.

`Text` has one field with number 1. It is encoded as a tag (0x0A), its length as a varint, and its UTF-8 bytes
(https://protobuf.dev/programming-guides/encoding/).
"""

TAG = b"\x0a"


def encode(text: str) -> bytes:
    """Encode a Text."""
    data = text.encode()
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return TAG + bytes(length) + data if data else b""


def decode(message: bytes) -> str:
    """Decode a Text. Raises ValueError if it has other fields."""
    if not message:
        return ""
    at, size, shift = 1, 0, 0
    while at < len(message) and message[at] & 0x80:
        size |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    if message[:1] != TAG or at >= len(message):
        raise ValueError("not a Text")
    size |= message[at] << shift
    data = message[at + 1 :]
    if len(data) != size:
        raise ValueError("not a Text")
    return data.decode()
