"""The Huffman code of HPACK (RFC 7541 section 5.2, appendix B): encodes and decodes strings.

The code is canonical, so the lengths alone define it: shorter codes are smaller, and codes of one length are in the
order of their symbols. All tables are computed from the lengths, which takes 0.3 ms at import. A table of the next ten
bits decodes codes of up to ten bits, which are those of almost all bytes in header fields; the others are compared with
the first code of each length.
"""

from typing import TYPE_CHECKING, Final

from maesh_core.errors import CompressionError

if TYPE_CHECKING:
    from mypy_extensions import i64

_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"  # 0x00
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"  # 0x20, space
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"  # 0x40, @
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"  # 0x60, `
    "1416141416161617161717171717181718181617181717171715161716171718"  # 0x80
    "1615141616171715171616181516171715151615171617171416161617161617"  # 0xA0
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"  # 0xC0
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"  # 0xE0
)
"""How many bits the code of each byte has."""
_SHORTEST: Final = 5
_LONGEST: Final = 30
_EOS_CODE: Final = 0x3FFFFFFF
_WINDOW_BITS: Final = 10
_WINDOW_MASK: Final = 0x3FF
_FILL_LIMIT: Final = 48
"""Limit of the bits in the accumulator before a further byte is added: 56 bits fit into an integer of the machine."""


def _list_symbols() -> bytes:
    """List all bytes in the order of their codes."""
    return bytes(sorted(range(256), key=_LENGTHS.__getitem__))


def _build_codes() -> list[int]:
    codes = [0] * 256
    code = length = 0
    for symbol in _ORDERED:
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        codes[symbol] = code
        code += 1
    return codes


def _build_window(*, is_lengths: bool) -> bytes:
    """Build the table from the next ten bits to the byte whose code they start with, or to the length of its code.

    The length is 0 where the code is longer.
    """
    parts = []
    for symbol in _ORDERED:
        length = _LENGTHS[symbol]
        if length <= _WINDOW_BITS:
            parts.append(bytes([length if is_lengths else symbol]) * (1 << (_WINDOW_BITS - length)))
    return b"".join(parts).ljust(1 << _WINDOW_BITS, b"\0")


def _list_ends() -> list[int]:
    """List, for each length, the smallest 30 bits that are larger than all codes of up to this length."""
    ends = [0] * (_LONGEST + 1)
    for symbol in _ORDERED:
        length = _LENGTHS[symbol]
        ends[length] = (_CODES[symbol] + 1) << (_LONGEST - length)
    for length in range(1, _LONGEST + 1):
        ends[length] = max(ends[length], ends[length - 1])
    return ends


def _list_offsets() -> list[int]:
    """List, for each length, what is added to a code for its position among the ordered symbols."""
    offsets = [0] * (_LONGEST + 1)
    for position in range(255, -1, -1):
        symbol = _ORDERED[position]
        offsets[_LENGTHS[symbol]] = position - _CODES[symbol]
    return offsets


_ORDERED: Final = _list_symbols()
_CODES: Final = _build_codes()
_WINDOW_SYMBOLS: Final = _build_window(is_lengths=False)
_WINDOW_LENGTHS: Final = _build_window(is_lengths=True)
_ENDS: Final = _list_ends()
_OFFSETS: Final = _list_offsets()


def count_encoded_bytes(data: bytes) -> int:
    """Return how many bytes `encode_huffman` makes of `data`."""
    bits: i64 = 7
    end: i64 = len(data)
    at: i64 = 0
    while at < end:
        symbol: i64 = data[at]
        bits += _LENGTHS[symbol]
        at += 1
    return bits >> 3


def encode_huffman(data: bytes) -> bytes:
    """Encode a string, padded with ones to whole bytes."""
    encoded: list[int] = []
    end: i64 = len(data)
    at: i64 = 0
    bits: i64 = 0
    count: i64 = 0
    while at < end:
        symbol: i64 = data[at]
        length: i64 = _LENGTHS[symbol]
        code: i64 = _CODES[symbol]
        bits = (bits << length) | code
        count += length
        at += 1
        while count >= 8:
            count -= 8
            encoded.append((bits >> count) & 0xFF)
        bits &= (1 << count) - 1
    if count:
        encoded.append(((bits << (8 - count)) | (0xFF >> count)) & 0xFF)
    return bytes(encoded)


def decode_huffman(data: bytes) -> bytes:
    """Decode a string; raises CompressionError if it contains EOS, or if its padding is not up to seven ones."""
    decoded: list[int] = []
    end: i64 = len(data)
    at: i64 = 0
    bits: i64 = 0
    count: i64 = 0
    while True:
        if count < _LONGEST and at < end:
            bits &= (1 << count) - 1
            while count <= _FILL_LIMIT and at < end:
                bits = (bits << 8) | data[at]
                at += 1
                count += 8
        if count < _WINDOW_BITS:
            break
        window: i64 = (bits >> (count - _WINDOW_BITS)) & _WINDOW_MASK
        length: i64 = _WINDOW_LENGTHS[window]
        if length:
            decoded.append(_WINDOW_SYMBOLS[window])
        else:
            length = _measure_long(bits, count)
            code: i64 = (bits >> (count - length)) & ((1 << length) - 1)
            decoded.append(_ORDERED[code + _OFFSETS[length]])
        count -= length
    return _decode_end(decoded, bits, count)


def _measure_long(bits: int, count: int) -> int:
    """Return the length of a code of more than ten bits, which the last `count` bits start with."""
    if count >= _LONGEST:
        start = (bits >> (count - _LONGEST)) & _EOS_CODE
    else:
        missing = _LONGEST - count
        start = ((bits << missing) | ((1 << missing) - 1)) & _EOS_CODE
    length = _WINDOW_BITS + 1
    while length < _LONGEST and start >= _ENDS[length]:
        length += 1
    if start >= _ENDS[length] or length > count:  # this is EOS, or more padding than seven bits
        raise CompressionError("a Huffman-encoded string ends within a code, or contains EOS")
    return length


def _decode_end(decoded: list[int], bits: int, count: int) -> bytes:
    """Decode the last `count` bits, which are less than ten, and check the padding."""
    while count >= _SHORTEST:
        window = ((bits << (_WINDOW_BITS - count)) | (_WINDOW_MASK >> count)) & _WINDOW_MASK
        length = _WINDOW_LENGTHS[window]
        if length == 0 or length > count:
            break
        decoded.append(_WINDOW_SYMBOLS[window])
        count -= length
    padding = (1 << count) - 1
    if count > 7 or bits & padding != padding:
        raise CompressionError("a Huffman-encoded string has wrong padding")
    return bytes(decoded)
