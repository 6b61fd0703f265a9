"""The chunked coding: where it ends, what it holds, and what is not it."""

import h11
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maesh_core.proxy.http.messages.chunked import (
    FRAMING_FACTOR,
    FRAMING_LIMIT_BYTES,
    LINE_LIMIT_BYTES,
    TRAILER_LIMIT_BYTES,
    TURN_LINES,
    ChunkedError,
    ChunkedScanner,
)

VALID = [
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"2\r\nok\r\n0\r\n\r\n", b"ok"),
    (b'1;a;b=c; d = "e;\\"\\\\f\t=" ;g=!#\r\nx\r\n0;h="\xff"\r\n\r\n', b"x"),
    (b'A;x="y";z\r\n0123456789\r\n1 ; q\r\n\n\r\n0;end\r\nX-Sum: 1\r\nY:\r\n\r\n', b"0123456789\n"),
]
BROKEN = [
    b"\r\n",
    b"x\r\n",
    b"1\n",
    b"1\r",
    b" 1\r\n",
    b"1 \r\n",
    b"+1\r\n",
    b"1_0\r\n",
    b"0x1\r\n",
    b"1;\0\r\n",
    b"1;a\rb\r\n",
    b"1;\r\n",
    b"1; \r\n",
    b"1;a;\r\n",
    b"1; ;a\r\n",
    b"1;;a\r\n",
    b"1;=b\r\n",
    b"1;a=\r\n",
    b"1;a=b=c\r\n",
    b"1;a b\r\n",
    b'1;a="\r\n',
    b'1;a="b\r\n',
    b'1;a=b"\r\n',
    b'1;a="b"c\r\n',
    b'1;a="b\\"\r\n',
    b'1;a="\0"\r\n',
    b'1;a="\x7f"\r\n',
    b'1;"a"=b\r\n',
    b"0;\r\n",
    b"0; ;\r\n",
    b"1" * 16 + b"\r\n",
    b"1\r\nxy\r\n",
    b"1\r\nx\n",
    b"1\r\nx\r\r\n",
    b"0\r\n x: y\r\n",
    b"0\r\nx\r\n",
    b"0\r\nx: a\0\r\n",
    b"0\r\nx: a\rb\r\n",
    b"0\r\nx : a\r\n",
    b"0\r\n\n",
    b"0\r\nTransfer-Encoding: x\r\n",
    b"0\r\nX-Forwarded-For: 1.1.1.1\r\n",
    b"1;" + b"x" * LINE_LIMIT_BYTES,
    b"0\r\nx: " + b"x" * LINE_LIMIT_BYTES + b"\r\n",
    b"0\r\n" + b"x: y\r\n" * (TRAILER_LIMIT_BYTES // 6 + 1),
]


def scan_all(scanner, data, payload=None):
    """Scan in as many turns as it takes; returns how many bytes are the body's."""
    position = -1
    end = 0
    while position < end and not scanner.is_complete:
        position, end = end, scanner.scan(data, payload, start=end)
    return end


def scan_in_pieces(data, size):
    scanner = ChunkedScanner()
    for start in range(0, len(data), size):
        scan_all(scanner, data[start : start + size])


@pytest.mark.parametrize(("body", "content"), VALID)
def test_a_body_cut_anywhere_ends_where_it_ends_and_holds_what_it_holds(body, content):
    for size in range(1, len(body) + 3):
        scanner, payload, taken = ChunkedScanner(), [], 0
        data = body + b"GET"
        for start in range(0, len(data), size):
            if scanner.is_complete:
                break
            taken += scan_all(scanner, data[start : start + size], payload)
        assert scanner.is_complete
        assert taken == len(body)
        assert b"".join(payload) == content
        assert scanner.scan(b"more") == 0


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_not_chunked_is_refused_however_it_is_cut(body):
    for size in (1, 2, 3, len(body)):
        with pytest.raises(ChunkedError):
            scan_in_pieces(body + b"!", size)


@pytest.mark.parametrize("body", [b"x", b"-", b"1x", b"1\rx", b"1" * 16, b"1\r\nx!", b"1\r\nx\r!", b"0\r\na\rb"])
def test_what_can_no_longer_be_a_line_is_refused_before_its_end(body):
    with pytest.raises(ChunkedError):
        ChunkedScanner().scan(body)


BITS = st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b" ", b"x", b":", b"0\r\n\r\n", b"1\r\nx\r\n"])


@given(st.lists(BITS, max_size=12).map(b"".join))
def test_what_is_accepted_is_read_by_h11_in_the_same_way(body):
    assume(b" ;" not in body)  # h11 does not take the whitespace that RFC 9112 section 7.1.1 allows there
    scanner, payload = ChunkedScanner(), []
    try:
        taken = scan_all(scanner, body, payload)
    except ChunkedError:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    content, is_complete = b"", False
    while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(event, h11.Data):
            content += event.data
        is_complete = is_complete or isinstance(event, h11.EndOfMessage)
    assert (content, is_complete) == (b"".join(payload), scanner.is_complete)
    if is_complete:
        assert connection.trailing_data[0] == body[taken:]


def test_a_turn_scans_a_few_lines_and_the_next_goes_on_where_it_stopped():
    scanner, body = ChunkedScanner(), b"2\r\nok\r\n" * 20 + b"0\r\n\r\n"
    assert scanner.scan(body) == 7 * TURN_LINES // 2
    assert not scanner.is_complete
    assert scanner.scan(body, start=7 * TURN_LINES // 2) == 7 * TURN_LINES
    assert scan_all(ChunkedScanner(), body) == len(body)


def test_a_long_chunk_passes_in_one_turn_however_long_it_is():
    body = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    assert ChunkedScanner().scan(body) == len(body)


BULKY = {
    "extensions": b"1;abcdef\r\nx\r\n",
    "leading zeros": b"000000000001\r\nx\r\n",
}


@pytest.mark.parametrize("chunk", BULKY.values(), ids=BULKY)
def test_a_body_whose_framing_far_outweighs_its_content_is_refused(chunk):
    excess = len(chunk) - 1 - FRAMING_FACTOR
    assert excess > 0
    scan_all(ChunkedScanner(), chunk * (FRAMING_LIMIT_BYTES // excess))
    with pytest.raises(ChunkedError, match="framing"):
        scan_all(ChunkedScanner(), chunk * (FRAMING_LIMIT_BYTES // excess + 1))


def test_chunks_of_one_byte_are_no_excess_however_many_there_are():
    scan_all(ChunkedScanner(), b"1\r\nx\r\n" * 20_000)


EXTENSION_BITS = st.sampled_from([b";", b" ", b"\t", b"a", b"=", b'"', b"\\", b"\x80", b"\0", b",", b"\x7f"])


@given(st.lists(EXTENSION_BITS, max_size=10).map(b"".join))
def test_an_extension_is_accepted_where_a_reader_of_its_grammar_accepts_it(extension):
    assume(not extension.startswith(b"a"))  # a digit of the size
    try:
        scan_all(ChunkedScanner(), b"1" + extension + b"\r\n")
        is_accepted = True
    except ChunkedError:
        is_accepted = False
    assert is_accepted == is_extension(extension)


def test_trailers_are_kept_as_they_came_however_they_are_split():
    body = b"1\r\nx\r\n0\r\nX-Sum:  1 \r\ngrpc-status:0\r\n\r\n"
    for size in range(1, len(body) + 1):
        scanner = ChunkedScanner()
        for start in range(0, len(body), size):
            scanner.scan(body[start : start + size])
        assert scanner.is_complete
        assert scanner.trailers == b"X-Sum:  1 \r\ngrpc-status:0\r\n"
    assert ChunkedScanner().trailers == b""


def is_extension(text):
    """Read chunk-ext by RFC 9112 section 7.1.1, one character after the other, as a person would."""
    token = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    position = 0

    def skip(allowed):
        nonlocal position
        start = position
        while position < len(text) and text[position] in allowed:
            position += 1
        return position > start

    def read_value():
        nonlocal position
        if text[position : position + 1] != b'"':
            return skip(token)
        position += 1
        while position < len(text) and text[position] != 0x22:
            position += 2 if text[position] == 0x5C else 1
        position += 1
        return position <= len(text) and not set(text) & {0, 0x7F}

    while position < len(text):
        skip(b" \t")
        if text[position : position + 1] != b";":
            return False
        position += 1
        skip(b" \t")
        if not skip(token):
            return False
        before = position
        skip(b" \t")
        if text[position : position + 1] == b"=":
            position += 1
            skip(b" \t")
            if not read_value():
                return False
        else:
            position = before
    return True
