"""Files of tokens, and where tokens may be sent."""

from pathlib import Path

import pytest

from maesh_core.plain_http.bearer_token import LINE_LIMIT_CHARACTERS, is_private, read_token


@pytest.mark.parametrize("text", ["secret", "secret\n", "  secret  \nother\n", "proxies secret\n"])
def test_the_token_is_the_last_word_of_the_first_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    assert read_token(str(tmp_path / "token")) == "secret"


@pytest.mark.parametrize(
    "text", ["", "\n", "\nsecret\n", "sécret\n", "a\x00b\n", " " * LINE_LIMIT_CHARACTERS + "secret"]
)
def test_a_file_without_a_token_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ValueError, match="has no token in its first line"):
        read_token(str(tmp_path / "token"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*token: No such file"):
        read_token(str(tmp_path / "token"))


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("https", "controller.example", True),
        ("http", "127.0.0.1", True),
        ("http", "::1", True),
        ("http", "localhost", True),
        ("http", "10.0.0.1", False),
        ("http", "localhost.example", False),
        ("http", "", False),
    ],
)
def test_a_token_leaves_this_machine_only_over_tls(scheme: str, host: str, expected: bool) -> None:
    assert is_private(scheme, host) == expected
