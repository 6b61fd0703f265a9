"""Lists of fields in, header blocks out: what enters the table, what never does, sizes, caches, and other decoders."""

from typing import cast

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.http.http2.hpack import encoder as hpack_encoder
from maesh_core.proxy.http.http2.hpack.decoder import Decoder
from maesh_core.proxy.http.http2.hpack.encoder import (
    CACHED_BYTES,
    CACHED_LIST_BYTES,
    CACHED_LISTS,
    SEEN_FIELDS,
    VOLATILE_NAMES,
    Encoder,
    encode_integer,
)
from maesh_core.proxy.http.http2.hpack.tables import STATIC_TABLE, Field

LIMIT = 2**24
GET = (b":method", b"GET")
GRPC = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.Orders/Find"), (b":authority", b"orders:80"),
    (b"content-type", b"application/grpc"), (b"te", b"trailers"),
)  # fmt: skip


def list_table(encoder):
    return [encoder._table.find(62 + index) for index in range(len(encoder._table))]


def find_kind(block):
    """Name the representation of a block's first field."""
    first = block[0]
    if first & 0x80:
        return "indexed"
    return "inserted" if first & 0x40 else "never indexed" if first & 0x10 else "not indexed"


def encode_series(encoder, *fields):
    return [find_kind(encoder.encode((field,))) for field in fields]


# --- representations


@pytest.mark.parametrize(
    ("value", "mask", "encoded"),
    [
        (10, 0x1F, "0a"),
        (1337, 0x1F, "1f9a0a"),
        (42, 0xFF, "2a"),
        (127, 0x7F, "7f00"),
        (0, 0x0F, "00"),
        (255, 0x7F, "7f8001"),
    ],
)
def test_integers_are_encoded_as_in_the_standard(value, mask, encoded):
    assert encode_integer(value, mask, 0).hex() == encoded


def test_fields_of_the_static_table_are_one_byte():
    for index in range(1, 62):
        assert Encoder().encode((cast("Field", STATIC_TABLE[index]),)) == bytes([0x80 | index])


@pytest.mark.parametrize(
    ("field", "block"),
    [
        ((b":path", b"/sample/path"), b"\x04\x89\x61\x03\xa6\xba\x0a\xc5\x63\x4c\xff"),
        ((b"custom-key", b"custom-header"), b"\x00\x88%\xa8I\xe9[\xa9}\x7f\x89%\xa8I\xe9Z\x72\x8e\x42\xd9"),
        ((b"x", b"~~"), b"\x00\x01x\x02~~"),
        ((b"", b""), b"\x00\x00\x00"),
        ((b":path", b"#" * 200), None),
    ],
)
def test_a_string_is_huffman_encoded_if_it_is_shorter_so(field, block):
    encoded = Encoder().encode((field,))
    assert block is None or encoded == block
    assert Decoder(max_list_bytes=LIMIT).decode(encoded) == (field,)


def test_an_index_may_need_two_bytes():
    encoder, decoder = Encoder(), Decoder(max_list_bytes=LIMIT)
    fields = (*((b"a", b"%d" % number) for number in range(100)),)
    for _ in range(3):
        block = encoder.encode(fields)
        assert decoder.decode(block) == fields
    assert len(block) == 65 + 35 * 2  # indexes from 127 on are two bytes


# --- what enters the table


def test_a_field_is_inserted_when_it_is_sent_for_the_second_time():
    assert encode_series(Encoder(), *[(b"te", b"trailers")] * 4) == ["not indexed", "inserted", "indexed", "indexed"]


def test_a_value_that_differs_each_time_is_never_inserted():
    encoder = Encoder()
    for number in range(2 * SEEN_FIELDS):
        assert find_kind(encoder.encode(((b"x-unknown-id", b"%d" % number),))) == "not indexed"
        assert len(encoder._seen) <= SEEN_FIELDS
    assert list_table(encoder) == []


def test_of_a_volatile_field_the_name_is_inserted_once():
    encoder = Encoder()
    fields = [(b"grpc-timeout", b"%dm" % (number % 3)) for number in range(9)]
    assert encode_series(encoder, *fields[:2]) == ["not indexed", "inserted"]
    assert encode_series(encoder, *fields[2:5]) == ["not indexed", "not indexed", "indexed"]
    assert encode_series(encoder, *fields[5:8]) == ["not indexed", "not indexed", "indexed"]
    assert encoder.encode(((b"grpc-timeout", b"~"),)) == b"\x0f\x2f\x01~"
    assert list_table(encoder) == [(b"grpc-timeout", b"1m")]


@pytest.mark.parametrize("name", sorted(VOLATILE_NAMES & {cast("Field", field)[0] for field in STATIC_TABLE[1:]}))
def test_of_a_volatile_field_with_a_static_name_nothing_is_inserted(name):
    assert encode_series(Encoder(), *[(name, b"1")] * 3) == ["not indexed"] * 3


def test_a_path_with_a_query_is_not_inserted_and_another_path_is():
    assert encode_series(Encoder(), *[(b":path", b"/a?b=c")] * 3) == ["not indexed"] * 3
    assert encode_series(Encoder(), *[(b":path", b"/a")] * 3) == ["not indexed", "inserted", "indexed"]


def test_a_field_of_more_than_half_the_table_is_not_inserted():
    encoder = Encoder()
    assert encode_series(encoder, *[(b"a", b"x" * 2016)] * 3) == ["not indexed"] * 3
    assert encode_series(encoder, *[(b"a", b"x" * 2015)] * 3) == ["not indexed", "inserted", "indexed"]


def test_a_repeated_list_becomes_one_byte_for_each_field():
    encoder = Encoder()
    sizes = [len(encoder.encode(GRPC)) for _ in range(4)]
    assert sizes[0] > 40
    assert sizes[2:] == [len(GRPC)] * 2
    timeouts = [len(encoder.encode((*GRPC, (b"grpc-timeout", b"%dm" % number)))) for number in range(100, 110)]
    assert timeouts[2:] == [len(GRPC) + 6] * 8


def test_the_oldest_fields_are_evicted_and_can_be_inserted_again():
    encoder, decoder = Encoder(), Decoder(max_list_bytes=LIMIT)
    for _ in range(2):
        for number in range(8):
            for _ in range(3):
                field = (b"a", b"%d" % number * 1000)
                assert decoder.decode(encoder.encode((field,))) == (field,)
        assert [value[:1] for _, value in list_table(encoder)] == [b"7", b"6", b"5"]


# --- what never does


@pytest.mark.parametrize(
    "field",
    [
        (b"authorization", b"Basic YTpi"),
        (b"proxy-authorization", b"Basic YTpi"),
        (b"set-cookie", b"session=" + b"x" * 40),
        (b"cookie", b"x" * 19),
    ],
)
def test_credentials_and_short_cookies_are_never_indexed(field):
    encoder = Encoder()
    assert encode_series(encoder, *[field] * 3) == ["never indexed"] * 3
    assert list_table(encoder) == []


def test_a_long_cookie_is_inserted():
    assert encode_series(Encoder(), *[(b"cookie", b"x" * 20)] * 3) == ["not indexed", "inserted", "indexed"]


@pytest.mark.parametrize("field", [(b"x-token", b"1"), GET])
def test_a_name_that_is_marked_is_never_indexed_even_if_its_field_is_in_a_table(field):
    encoder = Encoder()
    for _ in range(4):
        encoder.encode((field,))
    assert find_kind(encoder.encode((field,), frozenset({field[0]}))) == "never indexed"
    assert find_kind(encoder.encode((field,))) == "indexed"


def test_a_field_that_was_never_indexed_stays_so_on_the_next_hop():
    decoder, stranger = Decoder(max_list_bytes=LIMIT), hpack.Decoder()
    fields = decoder.decode(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(b"x-token", b"1"), GET]))
    for _ in range(3):
        passed_on = stranger.decode(Encoder().encode(fields, decoder.never_indexed), raw=True)
        assert [type(field) for field in passed_on] == [hpack.NeverIndexedHeaderTuple, hpack.HeaderTuple]


# --- sizes of the table


@pytest.mark.parametrize(
    ("sizes", "update"),
    [
        ([4096], b""),
        ([65536], b""),
        ([100], b"\x3f\x45"),
        ([0], b"\x20"),
        ([100, 4096], b"\x3f\x45\x3f\xe1\x1f"),
        ([200, 100, 150], b"\x3f\x45\x3f\x77"),
        ([200, 100], b"\x3f\x45"),
    ],
)
def test_the_lowest_size_and_the_last_are_signalled_once(sizes, update):
    encoder = Encoder()
    encoder.encode((GET,))
    for size in sizes:
        encoder.set_max_table_size(size)
    assert encoder.encode((GET,)) == update + b"\x82"
    assert encoder.encode((GET,)) == b"\x82"
    assert encoder._table.max_size == min(sizes[-1], 4096)


def test_the_encoder_has_a_limit_of_its_own():
    encoder = Encoder(max_table_size=100)
    assert encoder.encode((GET,)) == b"\x3f\x45\x82"
    encoder.set_max_table_size(4096)
    assert encoder.encode((GET,)) == b"\x82"


def test_a_table_that_is_raised_again_is_signalled():
    encoder = Encoder()
    encoder.set_max_table_size(0)
    assert encoder.encode((GET,)) == b"\x20\x82"
    encoder.set_max_table_size(4096)
    assert encoder.encode((GET,)) == b"\x3f\xe1\x1f\x82"


def test_without_a_table_nothing_is_inserted():
    encoder = Encoder()
    encoder.set_max_table_size(0)
    encoder.encode(GRPC)
    assert len({encoder.encode(GRPC) for _ in range(3)}) == 1


# --- the cache


def test_a_repeated_list_is_encoded_once():
    encoder = Encoder()
    for _ in range(3):
        encoder.encode(GRPC)
    assert encoder.encode(GRPC) is encoder.encode((*GRPC,))
    assert repr(encoder) == "<Encoder <IndexedTable 4 fields, 207 of 4096 bytes>, 1 cached lists>"


def test_an_insertion_clears_the_cache():
    encoder = Encoder()
    for _ in range(3):
        encoder.encode(GRPC)
    for _ in range(2):
        encoder.encode(((b"a", b"1"),))
    assert encoder._cache == {}
    assert encoder.encode(((b"te", b"trailers"),)) == b"\xbf"


def test_the_cache_is_bounded_in_lists_and_in_bytes():
    encoder = Encoder()
    for number in range(3 * CACHED_LISTS):
        encoder.encode(((b"date", b"%d" % number),))
        assert len(encoder._cache) <= CACHED_LISTS
    assert encoder._cache
    for number in range(100):
        encoder.encode(((b"date", b"%d" % number * 400),))
        assert encoder._cached_bytes <= CACHED_BYTES
    encoder._clear_cache()
    encoder.encode(((b"date", b"x" * CACHED_LIST_BYTES),))
    encoder.encode((GET,), frozenset({b"date"}))
    assert encoder._cache == {}


# --- laws

NAMES = st.sampled_from(
    [b"", b"a", b"b", b"\xff", b":path", b":method", b"cookie", b"authorization", b"grpc-timeout", b"date"]
)
VALUES = st.sampled_from([b"", b"1", b"2", b"GET", b"/?", b"x" * 25, b"~" * 10, bytes(700), bytes(1700), bytes(5000)])
FIELDS = st.tuples(NAMES | st.binary(max_size=6), VALUES | st.binary(max_size=30))


@st.composite
def series(draw):
    """Lists that repeat themselves and each other's fields, with the size that is set before each, or None."""
    known = draw(st.lists(FIELDS, min_size=1, max_size=6))
    lists = draw(st.lists(st.lists(st.sampled_from(known), max_size=6).map(tuple), min_size=1, max_size=4))
    sizes = st.none() | st.none() | st.sampled_from([0, 34, 100, 2000, 4096, 9000])
    return draw(st.lists(st.tuples(st.sampled_from(lists), sizes, st.booleans()), max_size=20))


@given(series())
def test_what_is_encoded_is_decoded_by_us_and_by_a_stranger(steps):
    encoder, decoder, stranger = Encoder(), Decoder(max_list_bytes=LIMIT), hpack.Decoder(max_header_list_size=LIMIT)
    for fields, size, is_marked in steps:
        if size is not None:
            encoder.set_max_table_size(size)
            decoder.set_max_table_size(size)
            stranger.max_allowed_table_size = size
        marked = frozenset({fields[0][0]}) if is_marked and fields else frozenset()
        block = encoder.encode(fields, marked)
        assert decoder.decode(block) == fields
        assert (*map(tuple, stranger.decode(block, raw=True)),) == fields
        table = list_table(encoder)
        assert [decoder._table.find(62 + index) for index in range(len(decoder._table))] == table
        assert [*stranger.header_table.dynamic_entries] == table
        assert not {b"authorization"} & {name for name, _ in table}
        assert marked <= decoder.never_indexed | {b"authorization", b"cookie"}


@given(series())
def test_a_cached_list_is_encoded_as_an_uncached_one(steps):
    cached, uncached = Encoder(), Encoder()
    for fields, size, _ in steps:
        if size is not None:
            cached.set_max_table_size(size)
            uncached.set_max_table_size(size)
        uncached._clear_cache()
        assert cached.encode(fields) == uncached.encode(fields)
        assert list_table(cached) == list_table(uncached)


@given(series())
def test_the_table_of_names_and_fields_is_that_of_its_entries(steps):
    encoder = Encoder()
    for fields, size, _ in steps:
        if size is not None:
            encoder.set_max_table_size(size)
        encoder.encode(fields)
        table = list_table(encoder)
        assert {field: encoder._table.find_field(field) for field in encoder._table._fields} == {
            field: 62 + index for index, field in enumerate(table)
        }
        names = {}
        for index, (name, _) in enumerate(table):
            names.setdefault(name, 62 + index)
        assert {name: encoder._table.find_name(name) for name in encoder._table._names} == names


def test_names_of_constants_are_in_lower_case():
    assert {name.lower() for name in hpack_encoder.VOLATILE_NAMES} == hpack_encoder.VOLATILE_NAMES
