"""The Huffman code of HPACK: the strings of RFC 7541 appendix C, hpack as a stranger, and what must be refused."""

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import CompressionError
from maesh_core.proxy.http.http2.hpack.huffman import count_encoded_bytes, decode_huffman, encode_huffman

EXAMPLES = {
    b"www.example.com": "f1e3c2e5f23a6ba0ab90f4ff",
    b"no-cache": "a8eb10649cbf",
    b"custom-key": "25a849e95ba97d7f",
    b"custom-value": "25a849e95bb8e8b4bf",
    b"302": "6402",
    b"307": "640eff",
    b"private": "aec3771a4b",
    b"Mon, 21 Oct 2013 20:13:21 GMT": "d07abe941054d444a8200595040b8166e082a62d1bff",
    b"https://www.example.com": "9d29ad171863c78f0b97c8e9ae82ae43d3",
    b"gzip": "9bd9ab",
    b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1": (
        "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
    ),
}
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(str.encode)
STRANGER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def pack(bits):
    """Make whole bytes of a text of ones and zeros."""
    assert len(bits) % 8 == 0
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize(("text", "encoded"), EXAMPLES.items())
def test_the_strings_of_the_standard_are_encoded_and_decoded(text, encoded):
    assert encode_huffman(text).hex() == encoded
    assert decode_huffman(bytes.fromhex(encoded)) == text


@pytest.mark.parametrize("symbol", range(256))
def test_every_byte_is_encoded_as_a_stranger_does(symbol):
    for text in (bytes([symbol]), bytes([symbol, 97, symbol]), bytes([symbol] * 9)):
        encoded = encode_huffman(text)
        assert encoded == STRANGER.encode(text)
        assert count_encoded_bytes(text) == len(encoded)
        assert decode_huffman(encoded) == text


@given(st.binary() | TEXT)
def test_a_string_is_encoded_as_a_stranger_does_and_decoded_again(text):
    encoded = encode_huffman(text)
    assert encoded == STRANGER.encode(text)
    assert count_encoded_bytes(text) == len(encoded)
    assert decode_huffman(encoded) == text


@given(st.binary(max_size=24))
def test_what_is_decoded_has_no_other_encoding(data):
    try:
        text = decode_huffman(data)
    except CompressionError:
        return
    assert encode_huffman(text) == data


def test_an_empty_string_has_no_bytes():
    assert encode_huffman(b"") == decode_huffman(b"") == b""
    assert count_encoded_bytes(b"") == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pack("1" * 8), id="eight ones of padding"),
        pytest.param(pack("00011" + "1" * 11), id="a and eleven ones of padding"),
        pytest.param(pack("00011" + "110"), id="padding that is not of ones"),
        pytest.param(pack("00011" + "000"), id="padding of zeros"),
        pytest.param(pack("1" * 30 + "11"), id="EOS"),
        pytest.param(pack("00011" + "1" * 30 + "00011"), id="EOS between two letters"),
        pytest.param(pack("1" * 32), id="EOS and two ones"),
        pytest.param(pack("1" * 24), id="most of EOS"),
        pytest.param(pack("1" * 11 + "11111110" + "00000"), id="a long code that is cut"),
        pytest.param(pack("1111111111000"[:8]), id="a code of thirteen bits that is cut after eight"),
    ],
)
def test_wrong_padding_eos_and_cut_codes_are_refused(data):
    with pytest.raises(CompressionError):
        decode_huffman(data)


@pytest.mark.parametrize(("ones", "text"), [*enumerate([b"&", b"B", b"-", b"a", b"--", b"a-", b"aa", b"aaaaa"])])
def test_up_to_seven_ones_are_padding(ones, text):
    assert -sum(REQUEST_CODES_LENGTH[symbol] for symbol in text) % 8 == ones
    assert decode_huffman(encode_huffman(text)) == text
