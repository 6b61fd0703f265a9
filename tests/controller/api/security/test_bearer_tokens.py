"""The file of tokens: which are known, how it is replaced, and what is wrong in it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.api.security.bearer_tokens import BearerTokens, parse_tokens
from maesh_core.errors import StartupError

FIRST, OTHER, NEW = "a" * 16, "0123456789abcdefgh", "n" * 20
FILE = f"# who may use the API\nproxies {FIRST}\n\nprometheus {OTHER}\n"


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(FILE)
    return BearerTokens(str(path))


def test_a_token_of_the_file_is_known_by_its_name(tokens):
    assert (tokens.find_name(FIRST), tokens.find_name(OTHER)) == ("proxies", "prometheus")
    assert tokens.own_token == FIRST


@given(st.text(max_size=40))
def test_no_other_text_is_a_token(text):
    tokens = BearerTokens.__new__(BearerTokens)
    tokens._names = {}
    assert tokens.find_name(text) is None


def test_replaced_tokens_count_and_removed_ones_do_not(tmp_path, tokens):
    (tmp_path / "tokens").write_text(f"proxies {NEW}\n")
    tokens.files.look()
    assert (tokens.find_name(NEW), tokens.find_name(FIRST)) == ("proxies", None)
    assert tokens.own_token == NEW


def test_a_broken_file_changes_nothing(tmp_path, tokens, caplog):
    (tmp_path / "tokens").write_text("proxies\n")
    tokens.files.look()
    assert tokens.find_name(FIRST) == "proxies"
    assert "line 1 is not a name and a token" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it has no token"),
        ("# nothing\n", "it has no token"),
        (f"{FIRST}\n", "line 1 is not a name and a token"),
        (f"a {FIRST}\nb {OTHER} c\n", "line 2 is not"),
        ("a short\n", "line 1: a token has at least 16 characters"),
        (f"a {'é' * 16}\n", "all ASCII"),
        (f"a {FIRST}\nb {FIRST}\n", "it has the same token twice"),
    ],
)
def test_a_file_that_is_wrong_is_an_error_without_the_token(tmp_path, text, expected):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(StartupError, match=expected) as caught:
        BearerTokens(str(path))
    assert FIRST not in str(caught.value)


def test_a_name_may_have_two_tokens():
    assert parse_tokens(f"a {FIRST}\na {OTHER}".encode()) == [("a", FIRST), ("a", OTHER)]


@given(st.binary(max_size=200))
def test_any_file_is_parsed_or_a_value_error(content):
    with contextlib.suppress(ValueError):
        assert parse_tokens(content)
