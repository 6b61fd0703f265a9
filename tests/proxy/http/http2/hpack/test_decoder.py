"""Header blocks in, lists of fields out: the examples of RFC 7541 appendix C, every error, limits and caches."""

import contextlib
import tracemalloc

import pytest

from maesh_core.errors import CompressionError, ExchangeError, ListTooLargeError
from maesh_core.proxy.http.http2.hpack.decoder import CACHED_BLOCK_BYTES, CACHED_BLOCKS, CACHED_BYTES, Decoder

LIMIT = 65536
GET = (b":method", b"GET")
INSERT_A = b"\x40\x01a\x011"
"""Inserts the field a: 1, whose index is then 62."""

FIRST_REQUEST = "828684410f7777772e6578616d706c652e636f6d"
REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
REQUEST_OF_TLS = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
]  # fmt: skip
LOCATION = (b"location", b"https://www.example.com")
PRIVATE = (b"cache-control", b"private")
DATE = (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
NEXT_DATE = (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
COOKIE = (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
RESPONSES = [
    [(b":status", b"302"), PRIVATE, DATE, LOCATION],
    [(b":status", b"307"), PRIVATE, DATE, LOCATION],
    [(b":status", b"200"), PRIVATE, NEXT_DATE, LOCATION, (b"content-encoding", b"gzip"), COOKIE],
]
REQUESTS = [
    REQUEST,
    [*REQUEST, (b"cache-control", b"no-cache")],
    [*REQUEST_OF_TLS, (b"custom-key", b"custom-value")],
]
REQUEST_SIZES = [57, 110, 164]
RESPONSE_SIZES = [222, 222, 215]
TABLE_OF_256 = "3fe101"

SINGLE_EXAMPLES = {
    "C.2.1": ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), 55),
    "C.2.2": ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),
    "C.2.3": ("100870617373776f726406736563726574", (b"password", b"secret"), 0),
    "C.2.4": ("82", GET, 0),
}
SERIES = {
    "C.3": (
        [
            FIRST_REQUEST,
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
        REQUEST_SIZES,
    ),
    "C.4": (
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
        REQUEST_SIZES,
    ),
    "C.5": (
        [
            TABLE_OF_256 + "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48"
            "514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        RESPONSES,
        RESPONSE_SIZES,
    ),
    "C.6": (
        [
            TABLE_OF_256 + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f"
            "0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af"
            "27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        RESPONSES,
        RESPONSE_SIZES,
    ),
}  # fmt: skip


def make_decoder(*blocks, limit=LIMIT):
    decoder = Decoder(max_list_bytes=limit)
    for block in blocks:
        decoder.decode(block)
    return decoder


def list_table(decoder):
    return [decoder._table.find(62 + index) for index in range(len(decoder._table))]


# --- what the standard shows


@pytest.mark.parametrize(("block", "field", "size"), SINGLE_EXAMPLES.values(), ids=SINGLE_EXAMPLES)
def test_the_single_fields_in_the_standard_are_decoded(block, field, size):
    decoder = make_decoder()
    assert decoder.decode(bytes.fromhex(block)) == (field,)
    assert decoder._table.size == size
    assert decoder.never_indexed == ({b"password"} if field[0] == b"password" else set())


@pytest.mark.parametrize(("blocks", "lists", "sizes"), SERIES.values(), ids=SERIES)
def test_the_series_of_blocks_in_the_standard_are_decoded(blocks, lists, sizes):
    decoder = make_decoder()
    for block, fields, size in zip(blocks, lists, sizes, strict=True):
        assert decoder.decode(bytes.fromhex(block)) == (*fields,)
        assert decoder._table.size == size


def test_the_last_series_leaves_the_three_newest_fields():
    decoder = make_decoder(*map(bytes.fromhex, SERIES["C.6"][0]))
    assert list_table(decoder) == [COOKIE, (b"content-encoding", b"gzip"), NEXT_DATE]


@pytest.mark.parametrize(
    ("block", "value"),
    [(b"\x04\x0a", 10), (b"\x04\x7f\x00", 127), (b"\x04\x7f\x9a\x0a", 1337 + 96), (b"\x04\x7f\x80\x80\x80\x00", 127)],
)
def test_lengths_of_strings_are_integers_of_one_or_more_bytes(block, value):
    assert make_decoder().decode(block + bytes(value)) == ((b":path", bytes(value)),)


@pytest.mark.parametrize("block", [b"", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f"])
def test_a_block_may_have_no_fields(block):
    assert make_decoder().decode(block) == ()


def test_names_and_values_may_be_empty_or_have_any_bytes():
    assert make_decoder().decode(b"\x00\x00\x00\x00\x02\x00\xff\x01\n") == ((b"", b""), (b"\x00\xff", b"\n"))


# --- what is refused


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x80", id="the index 0"),
        pytest.param(b"\xbe", id="an index beyond the tables"),
        pytest.param(b"\xff\x00", id="an index of two bytes beyond the tables"),
        pytest.param(b"\x7e\x00", id="a name with an index beyond the tables"),
        pytest.param(b"\x0f\x2f\x00", id="a name with an index beyond the tables, not inserted"),
        pytest.param(b"\x1f\x2f\x00", id="a name with an index beyond the tables, never indexed"),
        pytest.param(b"\xff\x80\x80\x80\x80\x80\x00", id="an index of six bytes behind its prefix"),
        pytest.param(b"\xff\xff\xff\xff\xff\x07", id="an index of 2**31 and more"),
        pytest.param(b"\xff\xff\xff\xff\xff\x7f", id="an index of 35 bits"),
        pytest.param(b"\x04\x7f\xff\xff\xff\xff\x7f", id="a length of 35 bits"),
        pytest.param(b"\x3f\xff\xff\xff\xff\x7f", id="a table's size of 35 bits"),
        pytest.param(b"\xff", id="the end instead of an integer's second byte"),
        pytest.param(b"\xff\x80", id="the end within an integer"),
        pytest.param(b"\x04", id="the end instead of a value"),
        pytest.param(b"\x00", id="the end instead of a name"),
        pytest.param(b"\x00\x01a", id="the end between name and value"),
        pytest.param(b"\x04\x7f", id="the end within a length"),
        pytest.param(b"\x04\x03ab", id="a value longer than the block"),
        pytest.param(b"\x00\x03ab", id="a name longer than the block"),
        pytest.param(b"\x04\x7f\xff\xff\xff\xff\x06", id="a value of almost 2**31 bytes"),
        pytest.param(b"\x04\x81\xff", id="a Huffman-encoded value of padding alone"),
        pytest.param(b"\x04\x84\xff\xff\xff\xff", id="a Huffman-encoded value with EOS"),
        pytest.param(b"\x04\x81\x18", id="a Huffman-encoded value padded with zeros"),
        pytest.param(b"\x00\x81\x18\x00", id="a Huffman-encoded name padded with zeros"),
        pytest.param(b"\x3f\xe2\x1f", id="a table of 4097 bytes"),
        pytest.param(b"\x82\x20", id="an update of the table's size after a field"),
        pytest.param(b"\x20\x20\x20", id="three updates of the table's size"),
    ],
)
def test_invalid_blocks_are_refused(block):
    with pytest.raises(CompressionError):
        make_decoder().decode(block)
    with pytest.raises(CompressionError):
        make_decoder().decode(b"\x82\x86" + block if block[:1] not in (b"\x20", b"\x3f") else block)


def test_every_beginning_of_a_valid_block_is_valid_or_refused():
    block = bytes.fromhex(SERIES["C.6"][0][2])
    for end in range(len(block)):
        decoder = make_decoder(*map(bytes.fromhex, SERIES["C.6"][0][:2]))
        with contextlib.suppress(CompressionError):
            found = decoder.decode(block[:end])
            assert found == (*RESPONSES[2][: len(found)],)


def test_an_invalid_block_is_no_error_of_one_exchange():
    assert not issubclass(CompressionError, ExchangeError)
    assert ListTooLargeError("").status == 431


# --- sizes of the table


def test_a_setting_above_the_default_allows_a_larger_table():
    decoder = make_decoder()
    decoder.set_max_table_size(8192)
    assert decoder.decode(b"\x82") == (GET,)
    assert decoder._table.max_size == 4096
    decoder.decode(b"\x3f\xe1\x3f")
    assert decoder._table.max_size == 8192


@pytest.mark.parametrize(("block", "size"), [(b"\x3f\x45\x82", 100), (b"\x20\x82", 0), (b"\x20\x3f\x45\x82", 100)])
def test_after_a_lower_setting_the_next_block_must_update_the_size(block, size):
    decoder = make_decoder(INSERT_A, b"\x82")
    decoder.set_max_table_size(100)
    assert decoder.decode(block) == (GET,)
    assert decoder._table.max_size == size
    assert decoder.decode(b"\x82") == (GET,)


@pytest.mark.parametrize("block", [b"\x82", b"", b"\x3f\x46\x82", b"\x3f\xe1\x1f\x3f\x45"])
def test_after_a_lower_setting_a_block_without_the_update_is_refused(block):
    decoder = make_decoder(b"\x82")
    decoder.set_max_table_size(100)
    with pytest.raises(CompressionError):
        decoder.decode(block)


def test_the_lowest_setting_since_the_last_block_must_be_signalled():
    for block, is_valid in [(b"\x3f\x45\x3f\xe1\x1f", True), (b"\x3f\xe1\x1f", False), (b"\x3f\x45", True)]:
        decoder = make_decoder()
        for size in (200, 100, 4096):
            decoder.set_max_table_size(size)
        if is_valid:
            assert decoder.decode(block) == ()
        else:
            with pytest.raises(CompressionError):
                decoder.decode(block)


def test_a_table_that_is_small_enough_needs_no_update():
    decoder = make_decoder(b"\x3f\x45")
    decoder.set_max_table_size(100)
    assert decoder.decode(b"\x82") == (GET,)


# --- limits of lists


def test_a_list_at_the_limit_is_decoded_and_one_byte_more_is_refused():
    block = b"\x82\x04\x03/ab"  # 42 and 40 bytes
    assert len(make_decoder(limit=82).decode(block)) == 2
    with pytest.raises(ListTooLargeError):
        make_decoder(limit=81).decode(block)


def test_a_block_with_too_large_a_list_changes_the_table():
    decoder = make_decoder(limit=100)
    assert decoder.decode(b"\x82") == (GET,)
    with pytest.raises(ListTooLargeError):
        decoder.decode(b"\x82" * 3 + INSERT_A + b"\x40\x01b\x012")
    assert decoder.decode(b"\xbe\xbf") == ((b"b", b"2"), (b"a", b"1"))


def test_too_large_a_list_is_refused_each_time_and_invalid_blocks_stay_invalid():
    decoder = make_decoder(limit=100)
    for _ in range(2):
        with pytest.raises(ListTooLargeError):
            decoder.decode(b"\x82" * 3)
    with pytest.raises(CompressionError):
        decoder.decode(b"\x82" * 3 + b"\x80")


def test_a_block_that_cached_fields_are_older_than_is_decoded_anew_after_a_refusal():
    decoder = make_decoder(INSERT_A, b"\xbe", limit=100)
    assert decoder.decode(b"\xbe") == ((b"a", b"1"),)
    with pytest.raises(ListTooLargeError):
        decoder.decode(b"\x82" * 3 + b"\x40\x01b\x012")
    assert decoder.decode(b"\xbe") == ((b"b", b"2"),)


@pytest.mark.parametrize("kind", ["indexed fields", "names", "short strings"])
def test_a_small_block_cannot_fill_the_memory(kind):
    bomb = b"\x40\x01a\x7f\xa1\x1e" + bytes(4000)  # a field of 4,033 bytes
    block = {"indexed fields": b"\xbe" * 16000, "names": b"\x0f\x2f\x00" * 5000, "short strings": b"\x10\0\0" * 5000}[
        kind
    ]
    decoder = make_decoder(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ListTooLargeError):
            decoder.decode(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * LIMIT


# --- fields that are never indexed


def test_names_of_never_indexed_fields_are_known_until_the_next_block():
    decoder = make_decoder()
    block = b"\x10\x01a\x011\x10\x01b\x011\x82"
    for _ in range(2):
        decoder.decode(block)
        assert decoder.never_indexed == {b"a", b"b"}
        decoder.decode(b"\x82")
        assert decoder.never_indexed == frozenset()
    decoder.decode(block)
    decoder.decode(b"\x82")  # from the cache
    assert decoder.never_indexed == frozenset()


def test_fields_that_the_encoder_never_indexes_anyway_are_not_named():
    decoder = make_decoder(b"\x1f\x08\x05Basic\x1f\x11\x01a\x1f\x28\x01a\x1f\x22\x01/")
    assert decoder.never_indexed == frozenset()
    decoder.decode(b"\x1f\x11\x14" + bytes(20))
    assert decoder.never_indexed == {b"cookie"}


def test_fields_that_are_not_indexed_are_not_named():
    assert make_decoder(b"\x00\x01a\x011").never_indexed == frozenset()


# --- the cache


def test_a_repeated_block_is_decoded_once():
    decoder = make_decoder(INSERT_A)
    assert decoder.decode(b"\xbe\x82") is decoder.decode(bytes([0xBE, 0x82]))
    assert repr(decoder) == "<Decoder <DynamicTable 1 fields, 34 of 4096 bytes>, 1 cached blocks>"


@pytest.mark.parametrize("block", [INSERT_A, b"\x20", b"\x82" * (CACHED_BLOCK_BYTES + 1), b"\x10\x01a\x011"])
def test_blocks_that_change_the_table_long_ones_and_never_indexed_fields_are_not_cached(block):
    assert make_decoder(block)._cache == {}


def test_a_change_of_the_table_clears_the_cache():
    decoder = make_decoder(INSERT_A, b"\xbe")
    assert decoder.decode(b"\x40\x01b\x012") == ((b"b", b"2"),)
    assert decoder.decode(b"\xbe") == ((b"b", b"2"),)
    decoder.decode(b"\x20")
    with pytest.raises(CompressionError):
        decoder.decode(b"\xbe")


def test_the_cache_is_bounded_in_blocks_and_in_bytes():
    decoder = make_decoder()
    for number in range(3 * CACHED_BLOCKS):
        decoder.decode(b"\x04\x03/%02d" % (number % 100) + b"\x82" * (number // 100))
        assert len(decoder._cache) <= CACHED_BLOCKS
    for number in range(100):
        decoder.decode(b"\x04\x03/%02d" % number + b"\x82" * (CACHED_BLOCK_BYTES - 5))
        assert sum(map(len, decoder._cache)) == decoder._cached_bytes <= CACHED_BYTES
