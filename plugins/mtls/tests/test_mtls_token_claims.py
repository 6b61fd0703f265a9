"""Tokens in, whether a question to the API server is worth it."""

import base64
import json

import pytest
from maesh_mtls.controller.proofs.token_claims import LEEWAY_S, may_be_valid


def make_token(claims):
    text = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"e30.{base64.urlsafe_b64encode(text).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize("audience", ["maesh-ca", ["maesh-ca"], ["vault", "maesh-ca"]])
def test_a_token_that_claims_the_audience_is_worth_a_question_until_it_ends(audience):
    token = make_token({"aud": audience, "exp": 1000, "sub": "x"})
    assert may_be_valid(token, "maesh-ca", 1000 + LEEWAY_S - 1)
    assert not may_be_valid(token, "maesh-ca", 1000 + LEEWAY_S)


@pytest.mark.parametrize(
    "token",
    [
        *("", "a", "a.b.c", "..", "é.é.é", make_token(b"{"), make_token(b"[" * 10_000), make_token([])),
        make_token({"aud": "maesh-ca", "exp": 2000}) + ".x",
        *map(
            make_token,
            (
                {"aud": "vault", "exp": 2000},
                {"aud": "maesh-ca"},
                {"exp": 2000},
                {"aud": ["maesh-ca", 1], "exp": 2000},
                {"aud": None, "exp": 2000},
                {"aud": "maesh-ca", "exp": "never"},
            ),
        ),
    ],
)
def test_a_token_without_the_audience_or_an_end_to_come_is_not_worth_a_question(token):
    assert not may_be_valid(token, "maesh-ca", 1000.0)
