"""The lines that begin a connection: what was rendered is parsed, and nothing else proves anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_relay.wire import (
    Answer,
    Question,
    make_challenge,
    parse_answer,
    parse_greeting,
    parse_question,
    render_answer,
    render_greeting,
    render_question,
)

from maesh_core.plugin import Delivery

SECRET, CHALLENGE = b"s" * 32, "0" * 32
QUESTION = Question("a", "1" * 32, Delivery("10.0.0.1", 80, "shop/web:80", "10.0.0.9"))
LINE = render_question(QUESTION, secret=SECRET, challenge=CHALLENGE, receiver="b").removesuffix(b"\n")
ANSWER_LINE = render_answer(Answer(403, "denied"), secret=SECRET, challenge=CHALLENGE).removesuffix(b"\n")


def read(line, *, secret=SECRET, challenge=CHALLENGE, receiver="b"):
    return parse_question(line, secret=secret, challenge=challenge, receiver=receiver)


def test_what_was_rendered_is_parsed():
    assert read(LINE) == QUESTION
    assert parse_answer(ANSWER_LINE, secret=SECRET, challenge=CHALLENGE) == Answer(403, "denied")
    challenge = make_challenge()
    assert parse_greeting(render_greeting(challenge).removesuffix(b"\n")) == challenge


@pytest.mark.parametrize("other", [{"secret": b"t" * 32}, {"challenge": "2" * 32}, {"receiver": "c"}])
def test_a_proof_of_another_secret_challenge_or_receiver_is_refused(other):
    with pytest.raises(ValueError, match="proof is wrong"):
        read(LINE, **other)


def test_a_question_is_no_answer_even_if_both_have_the_same_challenge():
    with pytest.raises(ValueError, match="proof is wrong"):
        parse_answer(LINE, secret=SECRET, challenge=CHALLENGE)


@given(st.integers(0, len(LINE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(index, change):
    changed = bytearray(LINE)
    changed[index] ^= change
    with pytest.raises(ValueError):
        read(bytes(changed))


@given(st.binary(max_size=200))
def test_any_bytes_raise_valueerror_and_nothing_else(line):
    for parse in (
        parse_greeting,
        read,
        lambda each: parse_answer(each, secret=SECRET, challenge=CHALLENGE),
    ):
        with pytest.raises(ValueError):
            parse(line)


@pytest.mark.parametrize("line", [b"maesh-relay/1 ", b"maesh-relay/1 xyz", b"maesh-relay/2 " + b"0" * 32])
def test_a_greeting_without_a_challenge_is_refused(line):
    with pytest.raises(ValueError):
        parse_greeting(line)
