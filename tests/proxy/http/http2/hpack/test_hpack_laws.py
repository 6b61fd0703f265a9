"""Laws of decoding, for any blocks: hpack decodes the same, caches change nothing, limits leave the table as it is.

hpack accepts the same blocks, but for two that RFC 7541 section 4.2 forbids: blocks with more than two updates of the
table's size, and blocks that do not signal the lowest of several settings.
"""

import hpack
from hypothesis import event, given
from hypothesis import strategies as st

from maesh_core.errors import CompressionError, ListTooLargeError
from maesh_core.proxy.http.http2.hpack.decoder import Decoder

LIMIT = 2**24


def make_decoder(*, limit=LIMIT):
    return Decoder(max_list_bytes=limit)


def list_table(decoder):
    return [decoder._table.find(62 + index) for index in range(len(decoder._table))]


STRINGS = st.binary(max_size=12) | st.sampled_from([b"a", b"accept", b"x" * 200, bytes(1500), bytes(5000)])
FIELDS = st.tuples(st.sampled_from([b"", b"a", b"b", b":path", b"cookie", b"\xff"]) | STRINGS, STRINGS)


def render_string(data, is_huffman):
    if is_huffman:
        data = hpack.huffman.HuffmanEncoder(
            hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
        ).encode(data)
    length = hpack.hpack.encode_integer(len(data), 7)
    length[0] |= 0x80 * is_huffman
    return bytes(length) + data


def render_prefixed(value, bits, flags):
    encoded = hpack.hpack.encode_integer(value, bits)
    encoded[0] |= flags
    return bytes(encoded)


@st.composite
def representations(draw):
    """One field, or an update, of a block; indexes may be beyond the tables."""
    kind = draw(st.sampled_from(["indexed", "indexed", "literal", "literal", "named", "update"]))
    index = draw(st.integers(1, 70) | st.integers(0, 200))
    if kind == "indexed":
        return render_prefixed(index, 7, 0x80)
    if kind == "update":
        return render_prefixed(draw(st.sampled_from([0, 40, 100, 1000, 4096, 4097])), 5, 0x20)
    bits, flags = draw(st.sampled_from([(6, 0x40), (6, 0x40), (4, 0x00), (4, 0x10)]))
    name, value = draw(FIELDS)
    name = (
        bytes([flags]) + render_string(name, draw(st.booleans()))
        if kind == "literal"
        else render_prefixed(index, bits, flags)
    )
    return name + render_string(value, draw(st.booleans()))


@st.composite
def blocks(draw):
    block = b"".join(draw(st.lists(representations(), max_size=6)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(block)))
        block = block[:at] + draw(st.binary(max_size=2)) + block[at + draw(st.integers(0, 1)) :]
    return block


def decode_or_refuse(decoder, block):
    try:
        return decoder.decode(block)
    except ListTooLargeError:
        return "too large"
    except CompressionError:
        return None


def count_updates(block):
    """Count the updates of the table's size that a valid block starts with."""
    count = at = 0
    while at < len(block) and block[at] & 0xE0 == 0x20:
        at += hpack.hpack.decode_integer(block[at:], 5)[1]
        count += 1
    return count


@given(st.lists(blocks() | st.binary(max_size=30), min_size=1, max_size=8))
def test_blocks_are_decoded_as_a_stranger_does(series):
    decoder, stranger = make_decoder(), hpack.Decoder(max_header_list_size=LIMIT)
    for block in series:
        fields = decode_or_refuse(decoder, block)
        try:
            expected = (*map(tuple, stranger.decode(block, raw=True)),)
        except hpack.HPACKDecodingError:
            expected = None
        if expected is not None and count_updates(block) > 2:
            assert fields is None
            return
        assert fields == expected
        if fields is None:
            event("refused")
            return
        assert list_table(decoder) == [*stranger.header_table.dynamic_entries]
        assert decoder._table.size == stranger.header_table._current_size


@given(
    st.lists(st.lists(FIELDS, max_size=8), max_size=8), st.lists(st.sampled_from([0, 50, 300, 4096, 9000]), max_size=8)
)
def test_what_a_stranger_encodes_is_decoded(lists, sizes):
    decoder, stranger = make_decoder(), hpack.Encoder()
    for number, fields in enumerate(lists):
        if number < len(sizes):
            decoder.set_max_table_size(sizes[number])
            stranger.header_table_size = sizes[number]
        assert decoder.decode(stranger.encode(fields, huffman=number % 2 == 0)) == (*fields,)


@given(st.lists(blocks(), min_size=1, max_size=5), st.data())
def test_a_cached_block_is_decoded_as_an_uncached_one(known, data):
    cached, uncached = make_decoder(limit=300), make_decoder(limit=300)
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 9)) == 0:
            size = data.draw(st.sampled_from([0, 100, 4096]))
            cached.set_max_table_size(size)
            uncached.set_max_table_size(size)
        block = data.draw(st.sampled_from(known))
        uncached._clear_cache()
        fields = decode_or_refuse(cached, block)
        assert fields == decode_or_refuse(uncached, block)
        if fields is None:
            return
        assert list_table(cached) == list_table(uncached)
        assert fields == "too large" or cached.never_indexed == uncached.never_indexed


@given(st.lists(blocks(), max_size=8), st.integers(0, 500))
def test_too_large_a_list_leaves_the_table_as_a_larger_limit_does(series, limit):
    small, large = make_decoder(limit=limit), make_decoder()
    for block in series:
        fields, expected = decode_or_refuse(small, block), decode_or_refuse(large, block)
        if expected is None:
            assert fields is None
            return
        size = sum(len(name) + len(value) + 32 for name, value in expected)
        assert fields == (expected if size <= limit else "too large")
        assert list_table(small) == list_table(large)
