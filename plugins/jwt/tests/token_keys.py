"""Keys and tokens for tests."""

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

import jwt

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"


@cache
def make_keys():
    """Make a private key of each type, by algorithm."""
    return {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


def describe_key(algorithm, **fields):
    """Build the public key of an algorithm as JSON Web Key."""
    if algorithm == "HS256":
        return {"kty": "oct", "k": SECRET, **fields}
    codecs: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    codec = codecs[algorithm]
    return {**codec.to_jwk(make_keys()[algorithm].public_key(), as_dict=True), "kid": algorithm, **fields}


def build_key_set(*algorithms):
    """Build the text of a key set."""
    return json.dumps({"keys": [describe_key(algorithm) for algorithm in algorithms or make_keys()]})


def sign(claims, algorithm="ES256", **options):
    """Build a token."""
    headers = {"kid": algorithm} | options.pop("headers", {})
    key = jwt.PyJWK(describe_key("HS256")).key if algorithm == "HS256" else make_keys()[algorithm]
    return jwt.encode(claims, key, algorithm=algorithm, headers={k: v for k, v in headers.items() if v}).encode()
