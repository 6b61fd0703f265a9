"""The proxy's half: the source `claim:NAME`, which reads a claim of a request's verified token."""

import time
from collections.abc import Sequence

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    Exchange,
    Node,
    RequestSource,
    SourceReader,
    find_header_problem,
    hookimpl,
)
from maesh_jwt import JwtSettings
from maesh_jwt.keys import KeySource
from maesh_jwt.verifying import Verifier

NO_CLAIM = b""
"""The value of requests without a token that can be verified, or without the claim. No JSON text is empty."""


class ClaimSource:
    """Reads claims. Implements `RequestSource`."""

    name: str = "claim"

    def __init__(self, verifier: Verifier, header: str) -> None:
        self._verifier, self._header = verifier, header.encode()

    def __repr__(self) -> str:
        return f"<ClaimSource {self._verifier!r}>"

    def build_reader(self, argument: str) -> SourceReader:
        """Build the function that reads one claim, as JSON."""
        find_claims, header = self._verifier.find_claims, self._header

        def read(exchange: Exchange) -> bytes:
            claims = find_claims(exchange.client_headers.get(header))
            value = None if claims is None else claims.get(argument)
            try:
                return NO_CLAIM if value is None else msgspec.json.encode(value, order="deterministic")
            except (UnicodeEncodeError, RecursionError):  # half of a surrogate pair, or lists in lists in lists
                return NO_CLAIM

        return read


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: JwtSettings) -> None:
        if problem := find_header_problem(settings.header):
            raise ConfigurationError(f"setting header of plugin jwt: {settings.header!r} {problem}")
        self._settings = settings
        self._keys = KeySource(settings.keys)

    @hookimpl
    def maesh_request_sources(self, node: Node) -> Sequence[RequestSource]:
        """Return the only source of this plugin."""
        return [ClaimSource(Verifier(self._settings, self._keys, time.time), self._settings.header)]
