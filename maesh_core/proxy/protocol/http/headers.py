"""The header fields of a message as they pass: rendered lines, read and changed by middlewares.

A list of `Name: value\r\n` in the order they came, so that a message nobody looks into is one join. Framing and
hop-by-hop fields are never among them, and cannot be put there.
"""

from collections.abc import Container

from maesh_core.proxy.protocol.http.syntax import FORWARDED, HOP_BY_HOP, is_field_value, is_token

_UNTOUCHABLE = HOP_BY_HOP | {b"content-length", b"host", b"expect", *FORWARDED}


class Headers(list[bytes]):
    """Implements `hookspecs.Headers` over the lines themselves."""

    __slots__ = ()

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""
        prefix, length = name.lower() + b":", len(name) + 1
        for line in self:
            if line[:length].lower() == prefix:
                return line[length:].strip()
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """Read every value, in order."""
        prefix, length = name.lower() + b":", len(name) + 1
        return [line[length:].strip() for line in self if line[:length].lower() == prefix]

    def set(self, name: bytes, value: bytes) -> None:
        """Put one value in place of all."""
        line = render_field(name, value)
        self.remove(name)
        self.append(line)

    def add(self, name: bytes, value: bytes) -> None:
        """Put one more value at the end."""
        self.append(render_field(name, value))

    def remove(self, name: bytes) -> None:
        """Take out every value; none is fine."""
        prefix, length = name.lower() + b":", len(name) + 1
        self[:] = [line for line in self if line[:length].lower() != prefix]


def parse_headers(head: bytes, *, without: Container[bytes]) -> Headers:
    """Split a checked head into its field lines, without those of the given lower-case names."""
    lines = head.split(b"\r\n")[1:-2]
    return Headers(line + b"\r\n" for line in lines if line[: line.index(b":")].lower() not in without)


def render_field(name: bytes, value: bytes) -> bytes:
    """Render a field line; raises ValueError for what RFC 9110 section 5 does not allow or the mesh sets itself."""
    if not is_token(name) or not is_field_value(value):
        raise ValueError(f"not a header field: {name!r}: {value[:80]!r}")
    if name.lower() in _UNTOUCHABLE:
        raise ValueError(f"{name.decode()} is the mesh's own to set")
    return b"%b: %b\r\n" % (name, value)
