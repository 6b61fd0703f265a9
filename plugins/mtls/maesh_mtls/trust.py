"""Short names of certificates and of sets of them, by which proxies and the controller say what is trusted.

Takes certificates in PEM; both halves use it, so it does not import `cryptography`. The names only compare: they prove
nothing.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

TRUST_DIGITS: Final = 16
_find_blocks = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL).findall


def split_bundle(bundle: str) -> list[bytes]:
    """Return the certificates of a text in PEM, in DER, sorted and each once. Raises ValueError."""
    try:
        return sorted({base64.b64decode("".join(block.split()), validate=True) for block in _find_blocks(bundle)})
    except binascii.Error:
        raise ValueError("a certificate is not in PEM") from None


def join_bundles(bundles: Iterable[str]) -> str:
    """Return the certificates of several texts in PEM as one, each once. Raises ValueError."""
    found = sorted({each for bundle in bundles for each in split_bundle(bundle)})
    return "".join(_encode(each) for each in found)


def has_all(bundle: str, wanted: str) -> bool:
    """Whether a bundle has all certificates of another one. Raises ValueError."""
    return set(split_bundle(wanted)) <= set(split_bundle(bundle))


def hash_trust(bundle: str) -> str:
    """Return the name of a set of trusted certificates. Raises ValueError."""
    return hashlib.sha256(b"".join(split_bundle(bundle))).hexdigest()[:TRUST_DIGITS]


def _encode(certificate: bytes) -> str:
    text = base64.b64encode(certificate).decode("ascii")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
