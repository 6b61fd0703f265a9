"""The tables of HPACK (RFC 7541 sections 2.3 and 4, appendix A): the static table, and the dynamic table of one end.

A field is a pair of name and value. Tables hold fields as `object`: compiled code would unpack a `tuple[bytes, bytes]`
where it is read and build a new one where it is stored, which takes longer and keeps more memory than one shared pair.
"""

from typing import Final, cast

from maesh_core.errors import CompressionError

Field = tuple[bytes, bytes]
Fields = tuple[Field, ...]

DEFAULT_TABLE_SIZE: Final = 4096
"""The size of a dynamic table until the settings change it (RFC 9113 section 6.5.2)."""
FIELD_OVERHEAD: Final = 32
"""What is added to the lengths of name and value for the size of a field (RFC 7541 section 4.1)."""
STATIC_FIELDS: Final = 61
LARGEST_INTEGER: Final = 2**31 - 1

_COMPACTED: Final = 64
"""Evicted entries that are removed from the list at once, because removing one moves all others."""

_STATIC_TEXT: Final = b"""
:authority:
:method: GET
:method: POST
:path: /
:path: /index.html
:scheme: http
:scheme: https
:status: 200
:status: 204
:status: 206
:status: 304
:status: 400
:status: 404
:status: 500
accept-charset:
accept-encoding: gzip, deflate
accept-language:
accept-ranges:
accept:
access-control-allow-origin:
age:
allow:
authorization:
cache-control:
content-disposition:
content-encoding:
content-language:
content-length:
content-location:
content-range:
content-type:
cookie:
date:
etag:
expect:
expires:
from:
host:
if-match:
if-modified-since:
if-none-match:
if-range:
if-unmodified-since:
last-modified:
link:
location:
max-forwards:
proxy-authenticate:
proxy-authorization:
range:
referer:
refresh:
retry-after:
server:
set-cookie:
strict-transport-security:
transfer-encoding:
user-agent:
vary:
via:
www-authenticate:
"""


def _parse_static_field(line: bytes) -> Field:
    name, _, value = line[1:].partition(b":")
    return line[:1] + name, value.strip()


def _list_static_fields() -> list[object]:
    fields: list[object] = [None]  # the first index is 1
    for line in _STATIC_TEXT.split(b"\n")[1:-1]:
        field: object = _parse_static_field(line)
        fields.append(field)
    return fields


STATIC_TABLE: Final = _list_static_fields()


# --- never-indexed fields

NO_NAMES: Final[frozenset[bytes]] = frozenset()
SHORT_COOKIE_BYTES: Final = 20
"""A shorter cookie can be guessed, one attempt after another, if the size of the result shows a hit."""
_SECRET_NAMES: Final = frozenset({b"authorization", b"proxy-authorization", b"set-cookie"})


def is_secret(name: bytes, value: bytes) -> bool:
    """Whether the encoder never indexes the field, whatever its source did (RFC 7541 section 7.1)."""
    return name in _SECRET_NAMES or (name == b"cookie" and len(value) < SHORT_COOKIE_BYTES)


# --- dynamic tables


class DynamicTable:
    """The fields that the last blocks inserted, newest last; a decoder's, or the base of an encoder's."""

    __slots__ = ("_entries", "_evicted", "max_size", "size")

    def __init__(self) -> None:
        self.max_size = DEFAULT_TABLE_SIZE
        self.size = 0
        self._entries: list[object] = []
        self._evicted = 0
        """How many entries at the start of the list are evicted already."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} fields, {self.size} of {self.max_size} bytes>"

    def __len__(self) -> int:
        return len(self._entries) - self._evicted

    def find(self, index: int) -> object:
        """Return the field with this index, also of the static table; raises CompressionError if there is none."""
        if index <= STATIC_FIELDS:
            if index == 0:
                raise CompressionError("a field has the index 0")
            return STATIC_TABLE[index]
        position = len(self._entries) - (index - STATIC_FIELDS)
        if position < self._evicted:
            raise CompressionError(f"a field has the index {index}, which is beyond the tables")
        return self._entries[position]

    def insert(self, field: object, field_size: int) -> None:
        """Insert a field and evict others for it; if it is larger than the table, only evict all others."""
        self.shrink(max(self.max_size - field_size, 0))
        if field_size <= self.max_size:
            self._entries.append(field)
            self.size += field_size

    def resize(self, max_size: int) -> None:
        """Change the table's largest size."""
        self.max_size = max_size
        self.shrink(max_size)

    def shrink(self, size: int) -> None:
        """Evict the oldest fields until the table has at most this size."""
        while self.size > size:
            self.evict()

    def evict(self) -> Field:
        """Evict the oldest field."""
        field = cast("Field", self._entries[self._evicted])
        self._entries[self._evicted] = None
        self._evicted += 1
        self.size -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        if self._evicted >= _COMPACTED:
            del self._entries[: self._evicted]
            self._evicted = 0
        return field
