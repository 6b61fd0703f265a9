"""The proxy's half: sends a request to the server of its session, and begins sessions by responses.

A request whose server is gone, is set aside or must not be used goes to another one, like a first request; its response
begins a new session.
"""

import re
from collections.abc import Sequence
from time import time
from typing import Final

from maesh_core.plugin import BackendChoice, ClientHead, Exchange, Middleware, ReadableHeaders
from maesh_session.session_values import SessionValue, SessionValues
from maesh_session.settings import ServiceSession

ROUTES: Final = 16
"""Routes whose servers are kept by token; a service has one for each of its ports and branches."""
VALUES_OF_REQUEST: Final = 8
"""Values that are read of one request, at most: cookies with the same name may have several paths."""
REFRESHES: Final = 10
"""A session with an idle time-out gets a new value at most so often in this time."""
FAILED_STATUS: Final = 500

Index = dict[bytes, BackendChoice]


class Session(Middleware):
    """The sessions of one service or rule."""

    def __init__(self, settings: ServiceSession) -> None:
        self._settings = settings
        self._cookie = settings.cookie.encode()
        self._header = settings.header.encode()
        self._lifetime_s = settings.lifetime_s
        self._idle_s = settings.idle_s
        has_times = bool(settings.lifetime_s or settings.idle_s)
        self._has_times = has_times
        self._values = SessionValues(bytes.fromhex(settings.key), has_times=has_times)
        self._indexes: dict[int, tuple[Sequence[BackendChoice], Index]] = {}
        self._find = re.compile(rb'(?:^|;)[ \t]*%b="?([^;"]*)' % re.escape(self._cookie)).findall

    def __repr__(self) -> str:
        return f"<Session cookie={self._settings.cookie!r} header={self._settings.header!r}>"

    def choose_backend(self, head: ClientHead, backends: Sequence[BackendChoice]) -> BackendChoice | None:
        """Choose the server of the request's session."""
        values = self._list_values(head.client_headers)
        if not values:
            return None
        index = self._get_index(backends)
        now = int(time())
        for value in values:
            found = self._read(value, now)
            if found is not None and found.token in index:
                return index[found.token]
        return None

    def on_response(self, exchange: Exchange) -> None:
        """Begin or continue the session, unless it has a value that is still good or the server has failed."""
        server = exchange.server
        if server is None or exchange.status >= FAILED_STATUS:
            return
        token = self._values.build_token(exchange.part, server)
        now = started = int(time())
        for value in self._list_values(exchange.client_headers):
            found = self._read(value, now)
            if found is not None and found.token == token:
                if not self._idle_s or now - found.used < self._idle_s / REFRESHES:
                    return
                started = found.started
        self._send(exchange, self._values.build(token, started, now), int(started + self._lifetime_s - now))

    def _send(self, exchange: Exchange, value: bytes, left_s: int) -> None:
        headers = exchange.response_headers
        if self._header:
            headers.set(self._header, value)
        if self._cookie:
            cookie = b"%b=%b; Path=%b" % (self._cookie, value, self._settings.path.encode())
            if self._settings.is_permanent:
                cookie += b"; Max-Age=%d" % left_s
            headers.add(b"Set-Cookie", cookie + b"; HttpOnly")

    def _list_values(self, headers: ReadableHeaders) -> Sequence[bytes]:
        """List the values of a request, those of the header first; usually there is none or one."""
        values: list[bytes] = []
        if self._header:
            values += headers.get_all(self._header)
        if self._cookie:
            for field in headers.get_all(b"Cookie"):
                values += self._find(field)
        return values[:VALUES_OF_REQUEST]

    def _read(self, value: bytes, now: int) -> SessionValue | None:
        """Read a value; None if it is not valid, or not any more."""
        found = self._values.read(value)
        if found is None or not self._has_times:
            return found
        if self._lifetime_s and now - found.started >= self._lifetime_s:
            return None
        return None if self._idle_s and now - found.used >= self._idle_s else found

    def _get_index(self, backends: Sequence[BackendChoice]) -> Index:
        """Return the servers of a route by their tokens. The sequence is kept, so its identity stays its own."""
        known = self._indexes.get(id(backends))
        if known is None:
            while len(self._indexes) >= ROUTES:
                del self._indexes[next(iter(self._indexes))]
            index = {self._values.build_token(each.part, each.server): each for each in backends}
            known = self._indexes[id(backends)] = (backends, index)
        return known[1]


class SessionFactory:
    """Builds the middleware of each service or rule with sessions."""

    kind = "session"
    settings_type = ServiceSession

    def build_middleware(self, settings: ServiceSession, service: str) -> Session:
        """Build the middleware of one service or rule."""
        return Session(settings)
