"""The values of cookies and headers: which server a session has, signed, and since when.

Takes a key that all proxies share; builds values, and reads those of clients. A value shows no address: it has a keyed
hash of the server, which is compared with those of the servers of the route. So a value is only valid for the rule, or
the service, whose key has signed it. Times are whole Unix seconds.
"""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

TOKEN_BYTES: Final = 18
TIMES_BYTES: Final = 8
SIGNATURE_BYTES: Final = 10
"""All are multiples of three in sum, so that base64 has no padding and each value one form."""
CACHED_TOKENS: Final = 4096
KEPT_FIELDS: Final = 4096
KEPT_FIELD_BYTES: Final = 256
KEPT_VALUES: Final = 2

_match_value: Final = re.compile(rb"[A-Za-z0-9_-]{24}(?:[A-Za-z0-9_-]{24})?").fullmatch


class SessionValue(NamedTuple):
    """A value that was read: the token of its server; when the session began, and when the value was built."""

    token: bytes
    started: int
    used: int


class Readings:
    """What was read of the fields Cookie of clients, for their next requests; all sessions of a worker share it.

    Holds up to `KEPT_FIELDS` short fields with at most `KEPT_VALUES` values each, a few megabytes. `session` is a
    number for the key and the cookie: what was read for one is not valid for another.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[int, bytes], tuple[SessionValue, ...]] = {}

    def __repr__(self) -> str:
        return f"<Readings of {len(self._found)} fields>"

    def get(self, session: int, field: bytes) -> tuple[SessionValue, ...] | None:
        """Return the values of a field; None if they are not known."""
        return self._found.get((session, field))

    def keep(self, session: int, field: bytes, values: tuple[SessionValue, ...]) -> None:
        """Keep the values of a field, unless it is large. If there is no room, all others are forgotten."""
        if len(field) > KEPT_FIELD_BYTES or len(values) > KEPT_VALUES:
            return
        if len(self._found) >= KEPT_FIELDS:
            self._found.clear()
        self._found[session, field] = values


class SessionValues:
    """Builds and reads the values of one service or rule. `has_times` means that they contain times."""

    def __init__(self, key: bytes, *, has_times: bool) -> None:
        self._key = key
        self._has_times = has_times
        self._tokens: dict[tuple[str, tuple[str, int]], bytes] = {}

    def __repr__(self) -> str:
        return f"<SessionValues tokens={len(self._tokens)} has_times={self._has_times}>"

    def build_token(self, part: str, server: tuple[str, int]) -> bytes:
        """Build the token of a server; the last ones are kept."""
        token = self._tokens.get((part, server))
        if token is None:
            if len(self._tokens) >= CACHED_TOKENS:
                self._tokens.clear()
            address, port = server
            text = f"server\0{part}\0{address}\0{port}".encode()
            token = hmac.digest(self._key, text, "sha256")[:TOKEN_BYTES]
            self._tokens[part, server] = token
        return token

    def build(self, token: bytes, started: int, used: int) -> bytes:
        """Build the value for a token."""
        if not self._has_times:
            return urlsafe_b64encode(token)
        content = token + started.to_bytes(4, "big") + used.to_bytes(4, "big")
        return urlsafe_b64encode(content + self._sign(content))

    def read(self, value: bytes) -> SessionValue | None:
        """Read a client's value; None if this key has not signed it. A token is only compared, so it needs no check."""
        if not _match_value(value):
            return None
        content = urlsafe_b64decode(value)
        if not self._has_times:
            return SessionValue(content, 0, 0) if len(content) == TOKEN_BYTES else None
        signature = content[TOKEN_BYTES + TIMES_BYTES :]
        content = content[: TOKEN_BYTES + TIMES_BYTES]
        if not hmac.compare_digest(signature, self._sign(content)):
            return None
        started = int.from_bytes(content[TOKEN_BYTES : TOKEN_BYTES + 4], "big")
        return SessionValue(content[:TOKEN_BYTES], started, int.from_bytes(content[TOKEN_BYTES + 4 :], "big"))

    def _sign(self, content: bytes) -> bytes:
        return hmac.digest(self._key, b"times\0" + content, "sha256")[:SIGNATURE_BYTES]
