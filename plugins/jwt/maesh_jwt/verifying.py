"""Verifies tokens (RFC 7519, RFC 8725) and remembers the results.

Takes the value of a header; returns the claims of its token, or None if there is none that can be verified. Never
raises. What is remembered is bounded, in numbers and bytes, separately for good and for bad tokens, so that nobody can
displace the tokens of others with bad ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from maesh_jwt import JwtSettings
from maesh_jwt.keys import KeySource, VerificationKey

TOKEN_LIMIT_BYTES: Final = 8192
"""Longer tokens are not verified."""
GOOD_LIMIT, BAD_LIMIT = 4096, 1024
"""Numbers of remembered tokens."""
BYTES_LIMIT: Final = 4 << 20
"""Limit of the remembered bytes of tokens, for good and for bad ones each."""
GOOD_LIMIT_S, BAD_LIMIT_S = 300.0, 5.0
"""How long a result is used at most, in seconds."""
TRIED_KEYS_LIMIT: Final = 4
"""How many keys are tried for a token that names none."""

Claims = Mapping[str, Any]
_OPTIONS: Final = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""`_find_end` checks the times, by the clock that it is given. The types of `sub` and `jti` make no difference."""


class _Remembered:
    """Results by token, of which the oldest are forgotten above the limits."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._found: dict[bytes, tuple[Claims | None, float]] = {}

    def __repr__(self) -> str:
        return f"<_Remembered {len(self._found)} tokens, {self._bytes} bytes>"

    def get(self, token: bytes) -> tuple[Claims | None, float] | None:
        """Return the result of a token, and until when it may be used."""
        return self._found.get(token)

    def set(self, token: bytes, claims: Claims | None, until: float) -> None:
        """Remember a result."""
        if self._found.pop(token, None) is None:
            self._bytes += len(token)
        self._found[token] = (claims, until)
        while len(self._found) > self._limit or self._bytes > BYTES_LIMIT:
            oldest = next(iter(self._found))
            del self._found[oldest]
            self._bytes -= len(oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._found.clear()
        self._bytes = 0


class Verifier:
    """Verifies the tokens of one proxy's requests; `time` returns Unix times."""

    def __init__(self, settings: JwtSettings, keys: KeySource, time: Callable[[], float]) -> None:
        self._settings, self._keys, self._time = settings, keys, time
        self._version = keys.version
        self._good, self._bad = _Remembered(GOOD_LIMIT), _Remembered(BAD_LIMIT)

    def __repr__(self) -> str:
        return f"<Verifier {self._keys!r}, good {self._good!r}, bad {self._bad!r}>"

    def find_claims(self, value: bytes | None) -> Claims | None:
        """Return the claims of the token in a header; None without a token that can be verified."""
        if not value:
            return None
        now = self._time()
        self._keys.refresh(now)
        if self._version != self._keys.version:
            self._version = self._keys.version
            self._good.clear()
            self._bad.clear()
        token = cut_token(value)
        for remembered in (self._good, self._bad):
            found = remembered.get(token)
            if found is not None and now < found[1]:
                return found[0]
        return self._verify(token, now)

    def _verify(self, token: bytes, now: float) -> Claims | None:
        if not 0 < len(token) <= TOKEN_LIMIT_BYTES:
            return None
        claims = self._decode(token)
        end = _find_end(claims, now, self._settings.leeway) if claims is not None else now
        if claims is None or end <= now:
            self._bad.set(token, None, now + BAD_LIMIT_S)
            return None
        self._good.set(token, claims, min(end, now + GOOD_LIMIT_S))
        return claims

    def _decode(self, token: bytes) -> Claims | None:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            for key in self._select_keys(kid):
                try:
                    return self._decode_with(token, key)
                except jwt.InvalidTokenError:
                    continue
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):  # what a bad token can cause
            return None
        return None

    def _select_keys(self, kid: object) -> list[VerificationKey]:
        """Select the keys of a token; keys without a name can be those of any token."""
        keys = [key for key in self._keys.keys if kid is None or key.kid in ("", kid)]
        return keys[:TRIED_KEYS_LIMIT]

    def _decode_with(self, token: bytes, key: VerificationKey) -> Claims:
        settings = self._settings
        options: Any = {**_OPTIONS, "verify_aud": bool(settings.audience), "verify_iss": bool(settings.issuer)}
        return jwt.decode(
            token,
            key=key.key,
            algorithms=list(key.algorithms),
            audience=settings.audience or None,
            issuer=settings.issuer or None,
            options=options,
        )


def cut_token(value: bytes) -> bytes:
    """Cut the scheme `Bearer` off a header's value (RFC 6750 section 2.1), if it has it."""
    scheme, space, rest = value.partition(b" ")
    return rest.strip() if space and scheme.lower() == b"bearer" else value.strip()


def _find_end(claims: Claims, now: float, leeway_s: float) -> float:
    """Return until when claims are valid, as a Unix time; 0 if they are not valid now."""
    for name in ("exp", "nbf"):
        if name in claims and (isinstance(claims[name], bool) or not isinstance(claims[name], int | float)):
            return 0.0
    try:
        if float(claims.get("nbf", now)) > now + leeway_s:
            return 0.0
        return float(claims.get("exp", now + GOOD_LIMIT_S)) + leeway_s
    except OverflowError:  # a number with more digits than a float can have
        return 0.0
