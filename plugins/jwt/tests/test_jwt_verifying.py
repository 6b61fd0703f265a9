"""Verified claims of tokens in headers, with a fake clock."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_jwt import JwtSettings
from maesh_jwt.keys import KeySource
from maesh_jwt.verifying import (
    BAD_LIMIT,
    BAD_LIMIT_S,
    BYTES_LIMIT,
    GOOD_LIMIT_S,
    TOKEN_LIMIT_BYTES,
    Verifier,
    cut_token,
)

from .token_keys import SECRET, build_key_set, describe_key, make_keys, sign

NOW = 1_000_000.0


class World:
    """A verifier with a clock."""

    def __init__(self, keys=None, **settings):
        self.now = NOW
        self.keys = KeySource(keys or build_key_set())
        self.verifier = Verifier(JwtSettings(**settings), self.keys, lambda: self.now)

    def find(self, token):
        return self.verifier.find_claims(b"Bearer " + token)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_signed_token_has_its_claims(world, algorithm):
    assert world.find(sign({"sub": algorithm}, algorithm)) == {"sub": algorithm}


@pytest.mark.parametrize(
    ("value", "token"),
    [(b"Bearer a.b", b"a.b"), (b"bearer  a.b ", b"a.b"), (b"a.b", b"a.b"), (b"Basic a.b", b"Basic a.b"), (b" ", b"")],
)
def test_the_word_bearer_is_left_out(value, token):
    assert cut_token(value) == token


def encode(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")


def test_what_is_not_signed_by_a_key_is_refused(world):
    token = sign({"sub": "a"})
    head, body, signature = token.split(b".")
    unsigned = b".".join((encode({"alg": "none", "kid": "ES256"}), body, b""))
    other_body = b".".join((head, encode({"sub": "b"}), signature))
    assert [world.find(each) for each in (unsigned, other_body, head + b"." + body, b"", b"x")] == [None] * 5
    assert world.verifier.find_claims(None) is None


def test_a_token_cannot_choose_the_algorithm_of_a_key():
    public = json.dumps({"keys": [describe_key("RS256", alg="RS256")]})
    world = World(public)
    forged = sign({"sub": "a"}, "HS256", headers={"kid": "RS256"})
    other = sign({"sub": "a"}, "ES256", headers={"kid": "RS256"})
    assert [world.find(each) for each in (forged, other)] == [None, None]
    assert world.find(sign({"sub": "a"}, "RS256")) == {"sub": "a"}


def test_a_token_without_the_name_of_a_key_is_tried_with_each():
    world = World()
    assert world.find(sign({"sub": "a"}, "EdDSA", headers={"kid": None})) == {"sub": "a"}
    assert world.find(sign({"sub": "a"}, "EdDSA", headers={"kid": "ES256"})) is None
    assert World(build_key_set("ES256")).find(sign({"sub": "a"}, "EdDSA")) is None


def test_a_shared_secret_verifies_if_it_is_among_the_keys():
    world = World(json.dumps({"keys": [{"kty": "oct", "k": SECRET, "alg": "HS256"}]}))
    assert world.find(sign({"sub": "a"}, "HS256")) == {"sub": "a"}


@pytest.mark.parametrize(
    ("claims", "is_valid"),
    [
        ({}, True),
        ({"exp": NOW + 1}, True),
        ({"exp": NOW - 9}, True),
        ({"exp": NOW - 10}, False),
        ({"nbf": NOW + 10}, True),
        ({"nbf": NOW + 11}, False),
        ({"exp": "soon"}, False),
        ({"exp": True}, False),
        ({"exp": None}, False),
        ({"exp": 10**400}, False),
        ({"iat": NOW + 1000}, True),
    ],
)
def test_times_are_checked_with_a_leeway(world, claims, is_valid):
    assert (world.find(sign({"sub": "a", **claims})) is not None) is is_valid


@pytest.mark.parametrize(
    ("settings", "claims", "is_valid"),
    [
        ({"issuer": "a"}, {"iss": "a"}, True),
        ({"issuer": "a"}, {"iss": "b"}, False),
        ({"issuer": "a"}, {}, False),
        ({"audience": "a"}, {"aud": "a"}, True),
        ({"audience": "a"}, {"aud": ["b", "a"]}, True),
        ({"audience": "a"}, {"aud": ["b"]}, False),
        ({"audience": "a"}, {}, False),
        ({}, {"aud": "a", "iss": "b"}, True),
    ],
)
def test_issuer_and_audience_are_checked_if_they_are_set(settings, claims, is_valid):
    world = World(build_key_set("ES256"), **settings)
    assert (world.find(sign(claims)) is not None) is is_valid


def test_a_result_is_remembered_until_the_token_expires(monkeypatch):
    world = World(leeway=0.0)
    token = sign({"exp": NOW + 60})
    decoded = []
    decode = Verifier._decode
    monkeypatch.setattr(Verifier, "_decode", lambda self, each: decoded.append(each) or decode(self, each))
    for _ in range(3):
        assert world.find(token) is not None
    assert len(decoded) == 1
    world.now = NOW + 60
    assert world.find(token) is None
    assert world.find(token) is None
    assert len(decoded) == 2
    world.now += BAD_LIMIT_S
    assert world.find(token) is None
    assert len(decoded) == 3


def test_a_token_without_an_end_is_verified_again_after_a_while(monkeypatch):
    world = World()
    token = sign({"sub": "a"})
    world.find(token)
    world.now += GOOD_LIMIT_S
    monkeypatch.setattr(Verifier, "_decode", lambda self, each: None)
    assert world.find(token) is None


def test_new_keys_forget_all_results(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(build_key_set("ES256"))
    world = World(str(path))
    token = sign({"sub": "a"})
    assert world.find(token) == {"sub": "a"}
    path.write_text(build_key_set("EdDSA"))
    world.now += 60
    assert world.find(token) is None


def test_bad_tokens_are_bounded_and_do_not_displace_good_ones():
    world = World()
    good = sign({"sub": "a"})
    world.find(good)
    for number in range(BAD_LIMIT + 10):
        world.find(b"%d.x" % number)
    for number in range(2 * BYTES_LIMIT // TOKEN_LIMIT_BYTES):
        world.find(b"%d" % number + b"." * (TOKEN_LIMIT_BYTES - 8))
    assert len(world.verifier._bad._found) <= BAD_LIMIT
    assert world.verifier._bad._bytes <= BYTES_LIMIT
    assert world.verifier._good.get(good) is not None


def test_long_tokens_are_not_verified():
    assert World().find(sign({"sub": "a" * TOKEN_LIMIT_BYTES})) is None


HEADS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["ES256", "none", "HS256", "RS256", 5, None])},
    optional={"kid": st.one_of(st.none(), st.text(), st.integers(), st.just("ES256")), "crit": st.lists(st.text())},
)


@given(HEADS, st.recursive(st.none() | st.text() | st.integers(), st.lists), st.binary())
def test_nothing_that_a_client_sends_raises_or_is_believed(head, body, signature):
    token = b".".join((encode(head), encode(body), base64.urlsafe_b64encode(signature).rstrip(b"=")))
    assert World(build_key_set(*make_keys())).find(token) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise(value):
    assert World(build_key_set("ES256")).verifier.find_claims(value) is None
