"""Reads what a token claims (RFC 7519), to refuse most wrong tokens without a question to the API server.

Nothing is verified: a token that claims the right things must still be reviewed.
"""

import base64
from typing import Final

import msgspec

LEEWAY_S: Final = 60.0
"""How far the clock of the API server may be behind this one."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that matter. A token without an end is none of a pod."""

    aud: list[str] | str
    exp: float


def may_be_valid(token: str, audience: str, now: float) -> bool:
    """Whether a token claims to be for an audience, and not to have ended."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        decoded = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = msgspec.json.decode(decoded, type=_Claims)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return False
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    return audience in audiences and now < claims.exp + LEEWAY_S
