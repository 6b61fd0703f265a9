"""Decodes the header blocks of one HTTP/2 connection (RFC 7541): whole blocks in, lists of fields out.

The decoder holds the state that the peer's encoder defines. After CompressionError it must not be used again; after
ListTooLargeError it can, because the whole block has changed the state. It does not check names and values: HPACK
transports any bytes, and HTTP/2 has its own rules (RFC 9113 section 8.2).
"""

from typing import Final, cast

from maesh_core.errors import CompressionError, ListTooLargeError
from maesh_core.proxy.http.http2.hpack.huffman import decode_huffman
from maesh_core.proxy.http.http2.hpack.tables import (
    DEFAULT_TABLE_SIZE,
    FIELD_OVERHEAD,
    LARGEST_INTEGER,
    NO_NAMES,
    DynamicTable,
    Field,
    Fields,
    is_secret,
)

CACHED_BLOCKS: Final = 64
"""Decoded blocks that are cached. At the limit all are dropped, because peers choose the blocks."""
CACHED_BLOCK_BYTES: Final = 512
"""Longer blocks are decoded each time, because they would fill the memory."""
CACHED_BYTES: Final = 8192
"""Limit of the bytes of all cached blocks. Their fields are larger, but share those of the table."""
_LAST_SHIFT: Final = 28
"""An integer has at most five bytes after its prefix: more than 31 bits are an error."""

# --- the first byte of a field's representation (RFC 7541 section 6)

_INDEXED: Final = 0x80
_INCREMENTAL: Final = 0x40
_SIZE_UPDATE: Final = 0x20
_NEVER_INDEXED: Final = 0x10
_HUFFMAN: Final = 0x80


class Decoder:
    """Decodes the blocks that one peer sends, in their order.

    `never_indexed` has names of the block that `decode` returned last: fields that must not be indexed on the next hop
    either (RFC 7541 section 6.2.3), apart from those that the encoder never indexes in any case.
    """

    __slots__ = (
        "_at",
        "_cache",
        "_cached_bytes",
        "_is_changed",
        "_marked",
        "_max_list_bytes",
        "_max_table_size",
        "_required_size",
        "_table",
        "never_indexed",
    )

    def __init__(self, *, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._max_table_size = DEFAULT_TABLE_SIZE
        self._required_size = -1
        self._table = DynamicTable()
        self._cache: dict[bytes, Fields] = {}
        self._cached_bytes = 0
        self.never_indexed = NO_NAMES
        # of the block that is decoded
        self._at = 0
        self._is_changed = False
        self._marked: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Decoder {self._table!r}, {len(self._cache)} cached blocks>"

    def set_max_table_size(self, size: int) -> None:
        """Apply our SETTINGS_HEADER_TABLE_SIZE, when the peer has acknowledged it.

        If this is less than the table's present size, the next block must start with an update to this size or less
        (RFC 7541 section 4.2). Before the acknowledgement, the peer may still use the previous size.
        """
        self._max_table_size = size
        if size < self._table.max_size and (self._required_size < 0 or size < self._required_size):
            self._required_size = size
            self._clear_cache()

    def decode(self, block: bytes) -> Fields:
        """Decode a whole block.

        Raises CompressionError if it is invalid, and ListTooLargeError if its fields, with 32 bytes for each, are
        larger than the limit.
        """
        fields = self._cache.get(block)
        if fields is None:
            return self._decode(block)
        self.never_indexed = NO_NAMES
        return fields

    def _decode(self, block: bytes) -> Fields:
        self._at = 0
        self._is_changed = False
        self._marked = []
        self.never_indexed = NO_NAMES
        self._read_size_updates(block)
        fields = self._read_fields(block)
        if self._is_changed:
            self._clear_cache()
        elif not self._marked and len(block) <= CACHED_BLOCK_BYTES:
            if len(self._cache) >= CACHED_BLOCKS or self._cached_bytes + len(block) > CACHED_BYTES:
                self._clear_cache()
            self._cache[block] = fields
            self._cached_bytes += len(block)
        if self._marked:
            self.never_indexed = frozenset(self._marked)
        return fields

    def _clear_cache(self) -> None:
        self._cache.clear()
        self._cached_bytes = 0

    def _read_size_updates(self, block: bytes) -> None:
        """Read the updates of the table's size at the start of the block: at most two (RFC 7541 section 4.2)."""
        required = self._required_size
        updates = 0
        while self._at < len(block) and block[self._at] & 0xE0 == _SIZE_UPDATE:
            size = self._read_integer(block, self._at, 0x1F)
            updates += 1
            if updates > 2:
                raise CompressionError("a block has more than two updates of the table's size")
            if size > self._max_table_size:
                raise CompressionError(f"a table of {size} bytes is larger than the setting")
            if required >= 0:
                if size > required:
                    break
                required = -1
            self._table.resize(size)
            self._is_changed = True
        if required >= 0:
            raise CompressionError("a block has no update of the table's size, though the setting is less")
        self._required_size = -1

    def _read_fields(self, block: bytes) -> Fields:
        fields: list[object] = []
        limit = self._max_list_bytes
        end = len(block)
        size = 0
        at = self._at
        while at < end:
            first = block[at]
            if first < _INDEXED:
                field = self._read_literal(block, at, size < limit)
                at = self._at
            elif first == 0xFF:
                field = self._table.find(self._read_integer(block, at, 0x7F))
                at = self._at
            else:
                field = self._table.find(first & 0x7F)
                at += 1
            name, value = cast("Field", field)
            size += len(name) + len(value) + FIELD_OVERHEAD
            if size <= limit:
                fields.append(field)
        if size > limit:
            if self._is_changed:
                self._clear_cache()
            raise ListTooLargeError(f"a list of fields has {size} bytes, and the limit is {limit}")
        return cast("Fields", tuple(fields))

    def _read_literal(self, block: bytes, at: int, is_kept: bool) -> object:  # noqa: FBT001
        first = block[at]
        if first >= _INCREMENTAL:
            index = self._read_integer(block, at, 0x3F)
        elif first >= _SIZE_UPDATE:
            raise CompressionError("a block updates the table's size after a field")
        else:
            index = self._read_integer(block, at, 0x0F)
        name = cast("Field", self._table.find(index))[0] if index else self._read_string(block)
        value = self._read_string(block)
        field: object = (name, value)
        if first >= _INCREMENTAL:
            self._table.insert(field, len(name) + len(value) + FIELD_OVERHEAD)
            self._is_changed = True
        elif first >= _NEVER_INDEXED and is_kept and not is_secret(name, value):
            self._marked.append(name)
        return field

    def _read_string(self, block: bytes) -> bytes:
        at = self._at
        if at >= len(block):
            raise CompressionError("a block ends within a field")
        first = block[at]
        length = self._read_integer(block, at, 0x7F)
        start = self._at
        end = start + length
        if end > len(block):
            raise CompressionError("a string is longer than its block")
        self._at = end
        data = block[start:end]
        return decode_huffman(data) if first >= _HUFFMAN else data

    def _read_integer(self, block: bytes, at: int, mask: int) -> int:
        """Read an integer whose first byte, of which the mask has the bits, is at `at` (RFC 7541 section 5.1)."""
        value = block[at] & mask
        at += 1
        if value == mask:
            value += self._read_rest(block, at)
        else:
            self._at = at
        return value

    def _read_rest(self, block: bytes, at: int) -> int:
        value = shift = 0
        while True:
            if at >= len(block):
                raise CompressionError("a block ends within an integer")
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > _LAST_SHIFT:
                raise CompressionError("an integer has more than five bytes")
        if value > LARGEST_INTEGER:
            raise CompressionError(f"an integer is larger than {LARGEST_INTEGER}")
        self._at = at
        return value
