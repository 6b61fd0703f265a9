"""The proxy's half: answers preflight requests, and says in responses which pages may read them.

The rules are those of the Fetch standard, sections 3.2 and 4.8, and of HTTPCORSFilter in the Gateway API. The policy is
complete: for a request with an Origin, fields of a server that begin with `Access-Control-` are replaced or removed.
"""

import re
from typing import Final

from maesh_core.plugin import ClientHead, Exchange, FieldChange, FieldChanges, Headers, Middleware, Response
from maesh_cors.origins import ANY, AllowedOrigins
from maesh_cors.settings import CorsPolicy

PREFLIGHT_REASON: Final = "a preflight request of a page"
REFUSED: Final = Response(status=403, reason="pages of this origin are not allowed")
OPTIONS: Final = b"OPTIONS"
ALLOW_ORIGIN: Final = b"Access-Control-Allow-Origin"
ALLOW_CREDENTIALS: Final = b"Access-Control-Allow-Credentials"
EXPOSE: Final = b"Access-Control-Expose-Headers"
VARY: Final = b"Vary"
VARIED: Final[FieldChange] = ("list", VARY, b"Origin")
"""Lets caches keep a response for this origin only."""
VARYING: Final = FieldChanges((VARIED,))
REMOVED: Final[tuple[FieldChange, ...]] = (
    ("remove", ALLOW_ORIGIN, b""),
    ("remove", ALLOW_CREDENTIALS, b""),
    ("remove", EXPOSE, b""),
)
KEPT_ORIGINS: Final = 64
KEPT_ORIGIN_BYTES: Final = 128
"""The changes of responses are kept for so many allowed origins of a policy, up to this size."""
_find_names: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").findall

_Field = tuple[bytes, bytes]


class Cors(Middleware):
    """The policy of one service or rule."""

    def __init__(self, policy: CorsPolicy) -> None:
        self._origins = AllowedOrigins(policy.origins)
        self._has_credentials: bool = policy.has_credentials
        self._is_open = self._origins.allows_any and not self._has_credentials
        """Whether every response is the same for all origins, so that caches need not distinguish them."""
        self._methods, self._allows_methods = _read(policy.methods)
        self._headers, self._allows_headers = _read(policy.headers)
        self._exposed, self._exposes_all = _read(policy.exposed)
        self._max_age = b"%d" % policy.max_age_s
        self._lists_exposed = self._exposes_all and self._has_credentials
        self._refused = FieldChanges(REMOVED if self._is_open else (*REMOVED, VARIED))
        self._changes: dict[bytes, FieldChanges] = {}

    def __repr__(self) -> str:
        return f"<Cors {self._origins!r}>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Answer a preflight request; None for any other."""
        if exchange.method != OPTIONS:
            return None
        headers = exchange.client_headers
        origin, method = headers.get(b"origin"), headers.get(b"access-control-request-method")
        if origin is None or method is None:
            return None
        if not self._origins.allows(origin):
            return REFUSED
        fields = [*self._list_common(origin), (b"Access-Control-Max-Age", self._max_age)]
        allowed = self._methods
        if self._allows_methods:
            allowed = method if self._has_credentials else b"*"
        if allowed:
            fields.append((b"Access-Control-Allow-Methods", allowed))
        allowed = self._headers
        if self._allows_headers:
            wanted = b", ".join(headers.get_all(b"access-control-request-headers"))
            allowed = b", ".join(_find_names(wanted)) or (b"" if self._has_credentials else b"*")
        if allowed:
            fields.append((b"Access-Control-Allow-Headers", allowed))
        vary = b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        fields.append((VARY, vary))
        return Response(status=204, reason=PREFLIGHT_REASON, headers=tuple(fields))

    def choose_response_changes(self, head: ClientHead) -> FieldChanges | None:
        """Say whether a page of the request's origin may read the response."""
        origin = head.client_headers.get(b"origin")
        if origin is None:
            return None if self._is_open else VARYING
        return self._changes.get(origin) or self._prepare(origin)

    def _prepare(self, origin: bytes) -> FieldChanges:
        """Prepare the changes of responses for pages of an origin. Those of the last allowed origins are kept."""
        if not self._origins.allows(origin):
            return self._refused
        changes = [*REMOVED, *(("set", name, value) for name, value in self._list_common(origin))]
        if not self._lists_exposed:
            exposed = b"*" if self._exposes_all else self._exposed
            if exposed:
                changes.append(("set", EXPOSE, exposed))
            if not self._is_open:
                changes.append(VARIED)
        if len(self._changes) >= KEPT_ORIGINS:
            self._changes.clear()
        prepared = FieldChanges(changes)
        if len(origin) <= KEPT_ORIGIN_BYTES:
            self._changes[origin] = prepared
        return prepared

    def _list_common(self, origin: bytes) -> list[_Field]:
        """List the fields about an allowed origin. With credentials, it is never `*`, which browsers then refuse."""
        if self._is_open:
            return [(ALLOW_ORIGIN, b"*")]
        if self._has_credentials:
            return [(ALLOW_ORIGIN, origin), (ALLOW_CREDENTIALS, b"true")]
        return [(ALLOW_ORIGIN, origin)]


class ListingCors(Cors):
    """A policy with credentials that allows pages to read all fields of responses, which have to be listed then."""

    def on_response(self, exchange: Exchange) -> None:
        """List the fields that a page of an allowed origin may read."""
        origin = exchange.client_headers.get(b"origin")
        if origin is not None and self._origins.allows(origin):
            headers = exchange.response_headers
            headers.set(EXPOSE, _list_names(headers))
            headers.apply(VARYING)


def _read(names: tuple[str, ...]) -> tuple[bytes, bool]:
    """Return a list as the value of a field, and whether it allows everything."""
    return ", ".join(names).encode(), ANY in names


def _list_names(headers: Headers) -> bytes:
    """List the fields that a page may read. With credentials, `*` would be a name, so all are listed."""
    names = {name.lower(): name for name, _ in headers.items()}
    return b", ".join(names.values())


class CorsFactory:
    """Builds the middleware of each service or rule with a policy."""

    kind = "cors"
    settings_type = CorsPolicy

    def build_middleware(self, settings: CorsPolicy, service: str) -> Cors:
        """Build the middleware of one service or rule."""
        lists_exposed = settings.has_credentials and ANY in settings.exposed
        return ListingCors(settings) if lists_exposed else Cors(settings)
