"""What a terminal sends becomes keys, however it is split."""

import pytest

from maesh_core.cli.top.keys import KeyDecoder

SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOB": "down",
    b"\x1b[H": "home",
    b"\x1bOF": "end",
    b"\x1b[5~": "page-up",
    b"\x1b[6~": "page-down",
    b"\r": "enter",
    b"\x7f": "backspace",
    b"q": "q",
    "ä".encode(): "ä",
}


@pytest.mark.parametrize(("data", "key"), SEQUENCES.items())
def test_a_key_is_decoded_in_one_piece_and_byte_by_byte(data, key):
    assert KeyDecoder().feed(data) == [key]
    decoder = KeyDecoder()
    assert [found for byte in data for found in decoder.feed(bytes([byte]))] == [key]


def test_keys_that_arrive_together_stay_in_order():
    assert KeyDecoder().feed(b"".join(SEQUENCES)) == list(SEQUENCES.values())


def test_a_lone_escape_waits_until_it_is_clear():
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_pending
    assert decoder.flush() == ["escape"]
    assert not decoder.is_pending


def test_escape_before_another_key_is_escape():
    assert KeyDecoder().feed(b"\x1bq") == ["escape", "q"]


def test_unknown_sequences_control_characters_and_bad_bytes_do_nothing_harmful():
    assert KeyDecoder().feed(b"\x1b[1;5C\x1b[200~\x01\x00x") == ["x"]
    assert KeyDecoder().feed(b"\xffx") == ["\ufffd", "x"]
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b[" + b"1" * 100)[0] == "escape"
    assert not decoder.is_pending
