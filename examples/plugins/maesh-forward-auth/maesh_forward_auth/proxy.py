"""The proxy's half: holds each request until the service has said yes, and refuses it where nobody did.

As Traefik's ForwardAuth: the question is a GET that tells method, scheme, host, target and address of the request; an
answer of 2xx lets it through, one of 3xx or 4xx goes to the client. Anything else is 503: it fails closed.
"""

import logging
from collections.abc import Sequence

from maesh_core.plugin import ClientHead, Exchange, Middleware, MiddlewareFactory, Response, hookimpl, override
from maesh_forward_auth import ForwardAuthSettings, Guard
from maesh_forward_auth.questions import Answer, Asker

HANDED_ON = frozenset({b"www-authenticate", b"location", b"set-cookie", b"content-type", b"cache-control"})
"""Of a refusal's headers the client gets these."""
_log = logging.getLogger(__name__)


class ForwardAuth(Middleware):
    """Guards one service."""

    failure_response = Response(status=503, reason="nobody said whether the request may pass")

    def __init__(self, guard: Guard, service: str) -> None:
        self._asker = Asker(guard.host, guard.port, connections=guard.connections, timeout_s=guard.timeout_s)
        self._target = guard.target.encode()
        self._asked = [name.encode() for name in guard.request_headers]
        self._told = [name.encode() for name in guard.response_headers]
        self._service = service

    def __repr__(self) -> str:
        return f"<ForwardAuth of {self._service}: {self._asker!r}>"

    @override
    async def on_request(self, exchange: Exchange) -> Response | None:
        """Ask, and let through, hand the refusal on, or refuse."""
        question = [
            (b"X-Forwarded-Method", exchange.method),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", exchange.host),
            (b"X-Forwarded-Uri", exchange.target),
            (b"X-Forwarded-For", exchange.client_address.encode()),
        ]
        question += [(name, value) for name in self._asked for value in exchange.client_headers.get_all(name)]
        try:
            answer = await self._asker.ask(self._target, question)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            _log.warning("%r brought no answer: %s", self, str(error) or type(error).__name__)
            return self.failure_response
        if 200 <= answer.status < 300:
            self._tell(exchange, answer)
            return None
        return _hand_on(answer) if 300 <= answer.status < 500 else self.failure_response

    @override
    def judge_changed(self, exchange: Exchange, sent: ClientHead) -> bool:
        """Let a request pass with another path or Host: the service has decided about the one that the client sent."""
        return True

    @override
    def judge_copy(self, exchange: Exchange, service: str, sent: ClientHead) -> bool:
        """Let copies pass of requests that the service has let through."""
        return True

    def _tell(self, exchange: Exchange, answer: Answer) -> None:
        """Tell the server what the answer's headers say; what a client claims under their names does not pass."""
        for name in self._told:
            exchange.request_headers.remove(name)
            for other, value in answer.headers:
                if other.lower() == name.lower():
                    exchange.request_headers.add(name, value)


def _hand_on(answer: Answer) -> Response:
    headers = tuple((name, value) for name, value in answer.headers if name.lower() in HANDED_ON)
    has_type = any(name.lower() == b"content-type" for name, _ in headers)
    body = answer.body if has_type or answer.body else None
    return Response(status=answer.status, reason="the authorization service refused", headers=headers, body=body)


class ForwardAuthFactory:
    """Builds the guard of each guarded service."""

    kind = "forward-auth"
    settings_type = Guard

    def build_middleware(self, settings: Guard, service: str) -> ForwardAuth:
        """Build the guard of one service."""
        return ForwardAuth(settings, service)


class ProxyHalf:
    """What a proxy loads; the plugin's own settings have gone into each service's."""

    def __init__(self, settings: ForwardAuthSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the one factory of this plugin."""
        return [ForwardAuthFactory()]
