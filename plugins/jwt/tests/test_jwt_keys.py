"""Key sets in, keys or errors out; files that change."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_jwt.keys import CHECK_PERIOD_S, FILE_LIMIT_BYTES, KEYS_LIMIT, KeySource, parse_keys

from maesh_core.plugin import ConfigurationError

from .token_keys import build_key_set, describe_key


def test_a_key_verifies_its_own_algorithm_only():
    keys = parse_keys(build_key_set("ES256", "EdDSA"))
    assert [(key.kid, key.algorithms) for key in keys] == [("ES256", ("ES256",)), ("EdDSA", ("EdDSA",))]


def test_an_rsa_key_without_an_algorithm_verifies_all_of_rsa():
    (free,) = parse_keys(json.dumps({"keys": [describe_key("RS256")]}))
    (bound,) = parse_keys(json.dumps({"keys": [describe_key("RS256", alg="PS256")]}))
    assert free.algorithms == ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    assert bound.algorithms == ("PS256",)


def test_keys_for_other_uses_are_left_out():
    keys = parse_keys(json.dumps({"keys": [describe_key("ES256", use="enc"), describe_key("EdDSA", use="sig")]}))
    assert [key.kid for key in keys] == ["EdDSA"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "it is not JSON"),
        ("[]", "it has no list of keys"),
        ('{"keys": {}}', "it has no list of keys"),
        ('{"keys": []}', "it has no key for signatures"),
        (json.dumps({"keys": [{}] * (KEYS_LIMIT + 1)}), "or more than 64"),
        ('{"keys": [{"kty": "EC", "kid": "a", "x": "secret"}]}', "key 'a' is invalid or not supported"),
        ('{"keys": [{"kty": "none"}]}', "key '' is invalid or not supported"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_a_bad_set_is_an_error_that_shows_no_key(text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parse_keys(text)
    assert "secret" not in str(caught.value)


ANYTHING = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(ANYTHING)
def test_any_key_is_a_key_or_an_error(fields):
    with pytest.raises(ValueError, match=r"key"):
        parse_keys(json.dumps({"keys": [fields]}))


@pytest.mark.parametrize("setting", ["", "/does/not/exist", "{}"])
def test_a_proxy_does_not_start_without_keys(setting):
    with pytest.raises(ConfigurationError, match="setting keys of plugin jwt: "):
        KeySource(setting)


def test_a_changed_file_is_read_again_and_a_bad_one_changes_nothing(tmp_path, caplog):
    path = tmp_path / "keys.json"
    path.write_text(build_key_set("ES256"))
    source = KeySource(str(path))
    kept = source.keys
    path.write_text("nothing at all")
    now = 1000.0
    with caplog.at_level(logging.INFO, logger="maesh_jwt.keys"):
        source.refresh(now)
        assert (source.keys, source.version) == (kept, 0)
        assert "keeps its keys" in caplog.text
        caplog.clear()
        path.write_text(build_key_set("EdDSA", "RS256"))
        source.refresh(now + CHECK_PERIOD_S / 2)
        assert source.version == 0
        source.refresh(now + CHECK_PERIOD_S)
    assert ([key.kid for key in source.keys], source.version) == (["EdDSA", "RS256"], 1)
    source.refresh(now + 2 * CHECK_PERIOD_S)
    assert source.version == 1


def test_a_file_that_is_gone_or_too_large_changes_nothing(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(build_key_set("ES256"))
    source = KeySource(str(path))
    path.write_bytes(b" " * (FILE_LIMIT_BYTES + 1))
    source.refresh(1000.0)
    path.unlink()
    source.refresh(2000.0)
    assert (len(source.keys), source.version) == (1, 0)
