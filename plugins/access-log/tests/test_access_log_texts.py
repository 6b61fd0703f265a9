"""Every text becomes printable ASCII of bounded length that stands in a JSON string."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_access_log.texts import (
    PIECE_LIMIT,
    REMEMBERED_CLIENTS,
    REMEMBERED_LENGTH,
    REMEMBERED_PIECES,
    REMEMBERED_TEXTS,
    TEXT_LIMIT,
    Clients,
    Pieces,
    Texts,
    escape,
)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (b"/items?page=2", "/items?page=2"),
        (b"", ""),
        (b'a"b\\c', 'a\\"b\\\\c'),
        (b"a\r\n\t\0\x1b[31m\x7f", "a\\u000d\\u000a\\u0009\\u0000\\u001b[31m\\u007f"),
        ("ü€".encode(), "\\u00fc\\u20ac"),
        ("😀", "\\ud83d\\ude00"),
        ("a\u2028b\u0085", "a\\u2028b\\u0085"),
        (b"\xff/", "\\\\xff/"),
    ],
)
def test_what_is_not_printable_ascii_is_escaped(text, escaped):
    assert escape(text) == escaped


@given(st.binary(max_size=300) | st.text(max_size=300, alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_is_printable_ascii_and_reads_as_json(text):
    escaped = escape(text, 10_000)  # an escape sequence is longer than its character
    assert escaped.isascii()
    assert escaped.isprintable()
    plain = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    assert json.loads(f'"{escaped}"') == plain


@given(st.binary(max_size=100), st.integers(min_value=3, max_value=60))
def test_a_long_text_is_cut_between_characters(text, limit):
    escaped = escape(text, limit)
    assert len(escaped) <= limit
    json.loads(f'"{escaped}"')
    whole = escape(text, 10_000)
    assert escaped == whole or (escaped.endswith("...") and whole.startswith(escaped[:-3]))


def test_a_text_of_any_size_is_cut():
    assert escape(b"a" * 100_000) == "a" * (TEXT_LIMIT - 3) + "..."
    assert len(escape(b"\xff" * 100_000)) <= TEXT_LIMIT


def test_memory_for_texts_is_bounded():
    texts = Texts()
    for number in range(REMEMBERED_TEXTS * 3):
        assert texts[b"/%d" % number] == f"/{number}"
        assert len(texts) <= REMEMBERED_TEXTS
    texts.clear()
    assert texts[b"x" * (REMEMBERED_LENGTH + 1)] == "x" * (REMEMBERED_LENGTH + 1)
    assert not texts
    assert repr(texts) == "<Texts 0 remembered>"


def test_memory_for_pieces_is_bounded():
    built: list[int] = []
    pieces = Pieces(lambda number, length: built.append(number) or f"{number}" * length)
    for number in range(REMEMBERED_PIECES * 2):
        assert pieces[number, 1] == f"{number}"
        assert len(pieces) <= REMEMBERED_PIECES
    assert pieces[number, 1] == f"{number}"
    assert built == list(range(REMEMBERED_PIECES * 2))
    pieces.clear()
    assert len(pieces[7, PIECE_LIMIT + 1]) > PIECE_LIMIT
    assert repr(pieces) == "<Pieces 0 remembered>"


def test_values_of_any_size_are_not_remembered_even_if_their_piece_is_short():
    pieces = Pieces(lambda text: escape(text, 64))
    assert pieces[(b"a" * 10_000,)] == "a" * 61 + "..."
    assert not pieces
    assert pieces[(b"a" * PIECE_LIMIT,)]
    assert len(pieces) == 1


def test_memory_for_clients_is_bounded():
    built: list[str] = []
    clients = Clients(lambda address: built.append(address) or f"<{address}>")
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(REMEMBERED_CLIENTS + 2)]
    for address in addresses:
        assert clients[address] == f"<{address}>"
        assert len(clients) <= REMEMBERED_CLIENTS
    assert clients[addresses[-1]] == f"<{addresses[-1]}>"
    assert built == addresses
    assert repr(clients) == "<Clients 2 remembered>"
