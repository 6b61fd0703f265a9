"""Encodes the header blocks of one HTTP/2 connection (RFC 7541): lists of fields in, whole blocks out.

The encoder decides which fields enter the dynamic table. Every insertion invalidates the blocks that both ends have
cached, so a field is inserted only when it is sent for the second time, and never if its value usually differs from
message to message. Names must be in lower case; the encoder does not check fields.
"""

from typing import Final, cast

from maesh_core.proxy.http.http2.hpack.huffman import count_encoded_bytes, encode_huffman
from maesh_core.proxy.http.http2.hpack.tables import (
    DEFAULT_TABLE_SIZE,
    FIELD_OVERHEAD,
    NO_NAMES,
    STATIC_FIELDS,
    STATIC_TABLE,
    DynamicTable,
    Field,
    Fields,
    is_secret,
)

VOLATILE_NAMES: Final = frozenset(
    b"age content-length content-md5 content-range date etag expires grpc-message grpc-timeout if-match "
    b"if-modified-since if-none-match if-range if-unmodified-since last-modified location range retry-after "
    b"traceparent x-amzn-trace-id x-b3-parentspanid x-b3-spanid x-b3-traceid x-cloud-trace-context x-correlation-id "
    b"x-request-id x-runtime".split()
)
"""Names whose values usually differ from message to message. One field is inserted for the name."""
CACHED_LISTS: Final = 64
"""Lists whose block is cached. At the limit all are dropped, because peers choose the lists."""
CACHED_LIST_BYTES: Final = 2048
"""Larger lists are encoded each time, because they would fill the memory."""
CACHED_BYTES: Final = 32768
"""Limit of the bytes of all cached lists."""
SEEN_FIELDS: Final = 256
"""Fields that were sent once, of which the encoder keeps the hashes. At the limit all are dropped."""

# --- the first byte of a field's representation (RFC 7541 section 6)

_INDEXED: Final = 0x80
_INCREMENTAL: Final = 0x40
_SIZE_UPDATE: Final = 0x20
_NEVER_INDEXED: Final = 0x10
_NOT_INDEXED: Final = 0x00
_HUFFMAN: Final = 0x80


def _build_bytes() -> list[bytes]:
    return [bytes([each]) for each in range(256)]


def _index_static_fields() -> dict[object, int]:
    return {field: index for index, field in enumerate(STATIC_TABLE) if index}


def _index_static_names() -> dict[bytes, int]:
    """Map each name to its first field in the static table."""
    return {cast("Field", STATIC_TABLE[index])[0]: index for index in range(STATIC_FIELDS, 0, -1)}


_BYTES: Final = _build_bytes()
_STATIC_FIELDS: Final = _index_static_fields()
_STATIC_NAMES: Final = _index_static_names()


def encode_integer(value: int, mask: int, flags: int) -> bytes:
    """Encode an integer in the bits of `mask` and as many bytes as it needs (RFC 7541 section 5.1)."""
    if value < mask:
        return _BYTES[flags | value]
    encoded = [flags | mask]
    value -= mask
    while value >= 0x80:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class IndexedTable(DynamicTable):
    """A dynamic table that knows the index of a field and of a name."""

    __slots__ = ("_fields", "_inserted", "_names")

    def __init__(self) -> None:
        super().__init__()
        self._inserted = 0
        """How many fields were ever inserted; the number of a field is this before its insertion."""
        self._fields: dict[object, int] = {}
        self._names: dict[bytes, int] = {}

    def find_field(self, field: object) -> int:
        """Return the index of a field, or 0."""
        number = self._fields.get(field, -1)
        return STATIC_FIELDS + self._inserted - number if number >= 0 else 0

    def find_name(self, name: bytes) -> int:
        """Return the index of the newest field with this name, or 0."""
        number = self._names.get(name, -1)
        return STATIC_FIELDS + self._inserted - number if number >= 0 else 0

    def add(self, field: object, field_size: int) -> None:
        """Insert a field that is smaller than the table and not yet in it."""
        self.insert(field, field_size)
        self._fields[field] = self._inserted
        self._names[cast("Field", field)[0]] = self._inserted
        self._inserted += 1

    def evict(self) -> Field:
        """Evict the oldest field."""
        number = self._inserted - len(self)
        field = super().evict()
        del self._fields[field]
        if self._names[field[0]] == number:
            del self._names[field[0]]
        return field


class Encoder:
    """Encodes the blocks that are sent to one peer, which must receive them all, in this order."""

    __slots__ = (
        "_cache",
        "_cached_bytes",
        "_is_repeatable",
        "_limit",
        "_lowest_size",
        "_next_size",
        "_seen",
        "_table",
    )

    def __init__(self, *, max_table_size: int = DEFAULT_TABLE_SIZE) -> None:
        self._limit = max_table_size
        self._lowest_size = DEFAULT_TABLE_SIZE
        self._next_size = DEFAULT_TABLE_SIZE
        self._table = IndexedTable()
        self._seen: set[int] = set()
        self._cache: dict[Fields, bytes] = {}
        self._cached_bytes = 0
        self._is_repeatable = False
        """Whether the block that is encoded would be the same if it was encoded again."""
        self.set_max_table_size(DEFAULT_TABLE_SIZE)

    def __repr__(self) -> str:
        return f"<Encoder {self._table!r}, {len(self._cache)} cached lists>"

    def set_max_table_size(self, size: int) -> None:
        """Apply the peer's SETTINGS_HEADER_TABLE_SIZE; the next block tells the peer what changes.

        A table larger than the encoder's own limit is not used.
        """
        self._next_size = min(size, self._limit)
        self._lowest_size = min(self._lowest_size, self._next_size)
        self._clear_cache()

    def encode(self, fields: Fields, never_indexed: frozenset[bytes] = NO_NAMES) -> bytes:
        """Encode a list of fields.

        `never_indexed` are names of fields that their sender does not allow to be indexed: `Decoder.never_indexed`.
        """
        if not never_indexed:
            block = self._cache.get(fields)
            if block is not None:
                return block
        return self._encode(fields, never_indexed)

    def _encode(self, fields: Fields, never_indexed: frozenset[bytes]) -> bytes:
        parts: list[bytes] = []
        self._is_repeatable = not never_indexed
        self._write_size_updates(parts)
        table = self._table
        for field in cast("tuple[object, ...]", fields):
            index = _STATIC_FIELDS.get(field, 0)
            if index == 0:
                index = table.find_field(field)
            if index == 0 or (never_indexed and cast("Field", field)[0] in never_indexed):
                self._write_literal(parts, field, never_indexed)
            elif index < 0x7F:
                parts.append(_BYTES[_INDEXED | index])
            else:
                parts.append(encode_integer(index, 0x7F, _INDEXED))
        block = b"".join(parts)
        if self._is_repeatable:
            self._cache_block(fields, block)
        return block

    def _cache_block(self, fields: Fields, block: bytes) -> None:
        size = len(block)
        for name, value in fields:
            size += len(name) + len(value) + FIELD_OVERHEAD
        if size <= CACHED_LIST_BYTES:
            if len(self._cache) >= CACHED_LISTS or self._cached_bytes + size > CACHED_BYTES:
                self._clear_cache()
            self._cache[fields] = block
            self._cached_bytes += size

    def _clear_cache(self) -> None:
        self._cache.clear()
        self._cached_bytes = 0

    def _write_size_updates(self, parts: list[bytes]) -> None:
        """Write the smallest size since the last block, if it is less than the last one, and the last one."""
        table = self._table
        lowest, size = self._lowest_size, self._next_size
        if lowest < table.max_size and lowest < size:
            parts.append(encode_integer(lowest, 0x1F, _SIZE_UPDATE))
            table.resize(lowest)
        if size != table.max_size:
            parts.append(encode_integer(size, 0x1F, _SIZE_UPDATE))
            table.resize(size)
        self._lowest_size = size
        if parts:
            self._is_repeatable = False

    def _write_literal(self, parts: list[bytes], field: object, never_indexed: frozenset[bytes]) -> None:
        name, value = cast("Field", field)
        index = _STATIC_NAMES.get(name, 0)
        if index == 0:
            index = self._table.find_name(name)
        if name in never_indexed or is_secret(name, value):
            kind = _NEVER_INDEXED
        elif self._is_to_insert(field, index):
            kind = _INCREMENTAL
        else:
            kind = _NOT_INDEXED
        parts.append(encode_integer(index, 0x3F if kind == _INCREMENTAL else 0x0F, kind))
        if index == 0:
            _write_string(parts, name)
        _write_string(parts, value)
        if kind == _INCREMENTAL:
            self._table.add(field, len(name) + len(value) + FIELD_OVERHEAD)
            self._is_repeatable = False
            self._clear_cache()

    def _is_to_insert(self, field: object, name_index: int) -> bool:
        """Whether the field is inserted now. If it may be inserted the next time, the block is not repeatable."""
        name, value = cast("Field", field)
        if len(name) + len(value) + FIELD_OVERHEAD > self._table.max_size >> 1:
            return False
        if name in VOLATILE_NAMES or (name == b":path" and b"?" in value):
            if name_index:
                return False
            key = hash(name)
        else:
            key = hash(field)
        if key in self._seen:
            self._seen.remove(key)
            return True
        if len(self._seen) >= SEEN_FIELDS:
            self._seen.clear()
        self._seen.add(key)
        self._is_repeatable = False
        return False


def _write_string(parts: list[bytes], data: bytes) -> None:
    """Write a string, Huffman-encoded if it is shorter so."""
    length = len(data)
    encoded_length = count_encoded_bytes(data)
    if encoded_length < length:
        parts.append(encode_integer(encoded_length, 0x7F, _HUFFMAN))
        parts.append(encode_huffman(data))
    else:
        parts.append(encode_integer(length, 0x7F, 0))
        parts.append(data)
