"""The proxy's half: sends a request to the server of its session, and begins sessions by responses.

A request whose server is gone, is set aside or must not be used goes to another one, like a first request; its response
begins a new session.
"""

import re
from collections.abc import Sequence
from time import time
from typing import Final

from maesh_core.plugin import BackendChoice, ClientHead, Exchange, Middleware, ReadableHeaders
from maesh_session.session_values import Readings, SessionValue, SessionValues
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
    """The sessions of one service or rule.

    Without times, a value depends on nothing but the client's head, and a response of its server needs no new one.
    """

    keeps_choice: bool

    def __init__(self, settings: ServiceSession, readings: Readings | None = None, number: int = 0) -> None:
        self._settings = settings
        self._readings = Readings() if readings is None else readings
        self._number = number
        self._cookie = settings.cookie.encode()
        self._header = settings.header.encode()
        self._lifetime_s = settings.lifetime_s
        self._idle_s = settings.idle_s
        has_times = bool(settings.lifetime_s or settings.idle_s)
        self._has_times = has_times
        self.keeps_choice = not has_times
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
        now = int(time()) if self._has_times else 0
        for value in values:
            choice = index.get(value.token)
            if choice is not None and not (self._has_times and self._is_over(value, now)):
                return choice
        return None

    def on_response(self, exchange: Exchange) -> None:
        """Begin or continue the session, unless it has a value that is still good or the server has failed."""
        server = exchange.server
        if server is None or exchange.status >= FAILED_STATUS:
            return
        token = self._values.build_token(exchange.part, server)
        values = self._list_values(exchange.client_headers)
        if not self._has_times:
            for value in values:
                if value.token == token:
                    return
        now = started = int(time())
        for value in values:
            if value.token == token and not self._is_over(value, now):
                if not self._idle_s or now - value.used < self._idle_s / REFRESHES:
                    return
                started = value.started
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

    def _list_values(self, headers: ReadableHeaders) -> Sequence[SessionValue]:
        """List the values of a request that this key has signed, those of the header first; usually none or one."""
        fields = headers.get_all(b"Cookie") if self._cookie else ()
        if not self._header:
            if not fields:
                return ()
            if len(fields) == 1:
                known = self._readings.get(self._number, fields[0])
                return self._read_field(fields[0]) if known is None else known
        values = [*headers.get_all(self._header)] if self._header else []
        for field in fields:
            values += self._find(field)
        return self._verify(values)

    def _read_field(self, field: bytes) -> Sequence[SessionValue]:
        """Read the values of the field Cookie, and keep them for the client's next request."""
        values = self._verify(self._find(field))
        self._readings.keep(self._number, field, values)
        return values

    def _verify(self, values: Sequence[bytes]) -> tuple[SessionValue, ...]:
        """Read values, without those that this key has not signed."""
        found = [self._values.read(value) for value in values[:VALUES_OF_REQUEST]]
        return tuple(value for value in found if value is not None)

    def _is_over(self, value: SessionValue, now: int) -> bool:
        """Whether the lifetime or the idle time-out of a value is over."""
        if self._lifetime_s and now - value.started >= self._lifetime_s:
            return True
        return bool(self._idle_s) and now - value.used >= self._idle_s

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

    def __init__(self) -> None:
        self._readings = Readings()
        self._built = 0

    def build_middleware(self, settings: ServiceSession, service: str) -> Session:
        """Build the middleware of one service or rule."""
        self._built += 1
        return Session(settings, self._readings, self._built)
