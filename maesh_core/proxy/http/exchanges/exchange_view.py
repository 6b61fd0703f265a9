"""What middlewares and judges see of a request: its client, route, head and current attempt.

Implements the interfaces of `plugin_system/interfaces/` over one exchange (exchange.py), and decides nothing.
middleware_run.py derives from it, and calls the middlewares with itself.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from maesh_core.model.metrics import Exemplar
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.grpc import NOT_KNOWN_YET
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import ClientHeaders
from maesh_core.proxy.http.messages.syntax import is_authority, is_path_and_query
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import ChangeChooser

ATTEMPT_LIMIT: Final = 100
"""Attempts of one exchange, at most, however often middlewares ask for another one."""
NEVER: Final = -1.0
TRACE_ID_LIMIT: Final = 64
"""OpenMetrics allows 128 characters for all names and values of an exemplar's labels."""


class ExchangeView:
    """Implements `interfaces.Exchange` for middlewares and `interfaces.Connection` for judges, over one exchange.

    Attributes that are rarely set have defaults on the class, which cost nothing per request.
    """

    attempts = 0
    attempt_timeout_s = 0.0
    attempt_total_s = 0.0
    timeout_s = 0.0
    late_at = 0.0
    """When the time-out of the exchange is over, or NEVER afterwards; 0 means that it has none."""
    allowed_servers: Collection[tuple[str, int]] | None = None
    preferred_server: tuple[str, int] | None = None
    chosen: Any = None
    """The server that was chosen before the exchange existed, as a `picking.Chosen`."""
    tried: tuple[HttpServer, ...] = ()
    changed_response: Headers | None = None
    _attempt_started_at = 0.0
    _is_too_large_to_store = False
    _judged_destination = ""
    _new_target = b""
    _new_host = b""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def exchange(self) -> "ExchangeView":
        """The request that judges inspect."""
        return self

    @property
    def client_address(self) -> str:
        """The client's IP address."""
        return self._exchange.client.address

    @property
    def entrypoint(self) -> int:
        """The port that the client connected to."""
        return self._exchange.client.entrypoint

    @property
    def service(self) -> str:
        """The key of the route's service; empty without a route."""
        route = self._exchange.route
        return route.service if route is not None else ""

    @property
    def destination(self) -> str:
        """The key of the service that receives the request: the service itself, or the chosen branch."""
        route = self._exchange.route
        return self._judged_destination or (route.destination if route is not None else "")

    @property
    def part(self) -> str:
        """The key of the part that was picked or chosen; empty without parts."""
        return self._exchange.part

    @property
    def server(self) -> tuple[str, int] | None:
        """The server of the current attempt; None before the first attempt."""
        attempt = self._exchange.attempt
        return None if attempt is None else (attempt.server.address, attempt.server.port)

    @property
    def server_path(self) -> str:
        """How the current attempt has reached its server, if the service has encryption."""
        attempt = self._exchange.attempt
        return attempt.path.kind if attempt is not None and attempt.path is not None else ""

    @property
    def method(self) -> bytes:
        """As the client sent it."""
        return self._exchange.head.method

    @property
    def target(self) -> bytes:
        """The target in origin-form, as the client sent it."""
        return self._exchange.head.target

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""
        return self._exchange.head.host

    @property
    def protocol(self) -> str:
        """The protocol of the client's connection."""
        return self._exchange.protocol

    @property
    def client_headers(self) -> ClientHeaders:
        """The fields as the client sent them; read-only."""
        return ClientHeaders(self._exchange.head)

    def head_matches(self, search: Callable[[bytes], object]) -> bool:
        """Whether a search of the client's head finds something."""
        return self._exchange.head.matches(search)

    @property
    def request_headers(self) -> Headers:
        """The fields to send upstream; a middleware may change them."""
        exchange = self._exchange
        if exchange.changed_headers is None:
            exchange.changed_headers = exchange.head.build_headers()
        return exchange.changed_headers

    @property
    def response_headers(self) -> Headers:
        """The fields of the attempt's response to forward; empty before there is a response."""
        attempt = self._exchange.attempt
        if self.changed_response is None:
            if attempt is None or attempt.response is None:
                return Headers()
            self.changed_response = attempt.response.build_headers()
        return self.changed_response

    def change_request(self, chooser: ChangeChooser) -> None:
        """Change the fields to send upstream as a middleware chooses for the client's head."""
        changes = self._exchange.head.find_request_changes(chooser)
        if changes is not None:
            self.request_headers.apply(changes)

    def change_response(self, chooser: ChangeChooser) -> None:
        """Change the fields of the response to forward as a middleware chooses for the client's head."""
        changes = self._exchange.head.find_response_changes(chooser)
        if changes is not None:
            self.response_headers.apply(changes)

    @property
    def response_length(self) -> int | None:
        """The declared length of the response's body; None if it is unknown."""
        attempt = self._exchange.attempt
        length = -1 if attempt is None or attempt.response is None else attempt.response.declared_length
        return None if length < 0 else length

    @property
    def status(self) -> int:
        """The status of the attempt's response or of the mesh's answer; 0 before there is either."""
        return self._exchange.status

    @property
    def reason(self) -> str:
        """Why the mesh answered or ended the exchange; empty for responses of servers."""
        return self._exchange.reason

    @property
    def is_delivered(self) -> bool:
        """Whether the proxy of another node has sent the request on."""
        route = self._exchange.route
        return route is not None and route.is_delivered

    @property
    def would_deny(self) -> str:
        """Why access control would deny the request if it were not in audit mode."""
        return self._exchange.would_deny

    @would_deny.setter
    def would_deny(self, reason: str) -> None:
        self._exchange.would_deny = reason

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""
        return self._exchange.head.body != 0

    def send_copy(self, service: str, body: bytes) -> bool:
        """Send a copy of the request, if there is a run that can."""
        return False

    @property
    def is_grpc(self) -> bool:
        """Whether the request is a gRPC call."""
        return self._exchange.head.is_grpc

    @property
    def grpc_status(self) -> int | None:
        """The status of the call; None while the trailers have it, and for other requests."""
        status = self._exchange.grpc_status
        return None if status == NOT_KNOWN_YET else status

    @property
    def attempt_seconds(self) -> float:
        """Seconds since the attempt started; 0 before the first attempt."""
        exchange = self._exchange
        return self.attempts and exchange.client.environment.clock_time() - (
            self._attempt_started_at or exchange.started_at
        )

    def add_exemplar(self, trace_id: str) -> None:
        """Attach a trace to the bucket of this request's duration."""
        exchange = self._exchange
        if exchange.route is not None:
            environment = exchange.client.environment
            now = environment.clock_time()
            exemplar = Exemplar(trace_id[:TRACE_ID_LIMIT], now - exchange.started_at, now + environment.wall_offset_s)
            exchange.route.counters.add_exemplar(exemplar)

    # --- changes of the request

    @property
    def new_target(self) -> bytes:
        """The path and query to send instead of the client's; empty: the client's."""
        return self._new_target

    @new_target.setter
    def new_target(self, target: bytes) -> None:
        exchange = self._exchange
        is_checked = not target or exchange.head.is_rewritten_to(target, b"")
        if not is_checked and (
            not is_path_and_query(target) or len(target) > exchange.client.environment.settings.head_limit
        ):
            raise ValueError(f"not a path and query: {target[:80]!r}")
        self._new_target = target
        self._rewrite()

    @property
    def new_host(self) -> bytes:
        """The Host to send instead of the client's; empty: the client's."""
        return self._new_host

    @new_host.setter
    def new_host(self, host: bytes) -> None:
        if not self._exchange.head.is_rewritten_to(b"", host) and (not is_authority(host) or host.startswith(b":")):
            raise ValueError(f"not a host: {host[:80]!r}")
        self._new_host = host
        self._rewrite()

    def _rewrite(self) -> None:
        exchange, target, host = self._exchange, self._new_target, self._new_host
        exchange.rewritten = exchange.head.rewrite(target, host) if target or host else None
        self.reframe_body()

    def reframe_body(self) -> None:
        """Keep the framing of a body that goes through middlewares; body_run.py does it."""

    # --- attempts

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible.

        It is not after a response has started, after the client has closed its side, at the limit of attempts, after
        the time-out of the exchange, or if bytes of the body were sent that are not stored. A request that offers an
        upgrade is never sent twice.
        """
        exchange, attempt = self._exchange, self._exchange.attempt
        if exchange.has_started_response or exchange.is_finished or exchange.client.has_ended:
            return False
        if self.attempts >= ATTEMPT_LIMIT or self.late_at == NEVER:
            return False
        if attempt is None:
            return True
        if attempt.was_sent and exchange.head.upgrade:
            return False
        return not attempt.has_sent_body or not (self._is_too_large_to_store or exchange.has_body_left)
