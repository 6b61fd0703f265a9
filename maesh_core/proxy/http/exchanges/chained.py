"""An exchange whose route has middlewares: through them on the way in, attempt by attempt, and back out.

Calls what the chain lists in its order, waits where a middleware asks for it, and contains one that raises: an answer
for that exchange, a line in the log once per middleware, a count. It makes a task only for an async middleware.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamTimeoutError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.exchanges.answers import build_answer
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.owner import GIVEN_UP, RENDERED, Passing
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import ClientHeaders
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routing_table import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, Judge, read_verdict

ATTEMPT_LIMIT: Final = 100
"""However often middlewares ask for another attempt."""
DELAY_LIMIT_S: Final = 60.0
"""The longest that one middleware may hold a request, or put off an attempt, by returning a delay."""
_FAILED: Final = Response(status=500, reason="a middleware failed")
_CLIENT_ENDED: Final = Response(status=503, reason="the client ended its side before another attempt")
_LATE: Final = Response(status=504, reason="a middleware did not decide in time")
_REVOKED: Final = Response(status=403, reason="access is no longer allowed")

_logger = logging.getLogger(__name__)

_Call = Callable[..., Any]


class ChainedExchange(Exchange):
    """Implements `interfaces.Exchange`, and `interfaces.Connection` for judges.

    What is seldom set has its default on the class, where it costs no request.

    `_depth` says how many middlewares the request has reached, and `_position` where among them it waits; `_kept` is
    the request's body so far, unless that is too large.
    """

    _depth = 0
    _position = 0
    _timer: asyncio.TimerHandle | None = None
    _task: "asyncio.Future[object] | None" = None

    attempts = 0
    attempt_timeout_s = 0.0
    allowed_servers: Collection[tuple[str, int]] | None = None
    _attempt_timer: asyncio.TimerHandle | None = None
    _attempt_started_at = 0.0
    _failure: ExchangeError | None = None
    _kept: bytearray | None = None
    _is_too_large_to_keep = False
    _server: HttpServer | None = None
    tried: tuple[HttpServer, ...] = ()

    _response_headers: Headers | None = None
    _judged_destination = ""

    # --- what middlewares see

    @property
    def client_address(self) -> str:
        """The address of the connection's other end."""
        return self.connection.address

    @property
    def service(self) -> str:
        """The key of the service that the route leads to; empty without one."""
        return self.route.service if self.route is not None else ""

    @property
    def destination(self) -> str:
        """The key of what has the request: the service, or the branch of it that was chosen."""
        return self._judged_destination or (self.route.destination if self.route is not None else "")

    @property
    def method(self) -> bytes:
        """As the client sent it."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """Origin-form, as it goes upstream."""
        return self.head.target

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""
        return self.head.host

    @property
    def client_headers(self) -> ClientHeaders:
        """The fields as the client sent them; they cannot be changed."""
        return ClientHeaders(self.head)

    @property
    def request_headers(self) -> Headers:
        """The fields that go upstream; whoever asks may change them."""
        if self._request_headers is None:
            self._request_headers = self.head.build_headers()
        return self._request_headers

    @property
    def response_headers(self) -> Headers:
        """The fields of the attempt's response that go on; empty before there is one."""
        if self.response is None:
            return Headers()
        if self._response_headers is None:
            self._response_headers = self.response.build_headers()
        return self._response_headers

    @property
    def attempt_seconds(self) -> float:
        """How long ago the attempt was begun; 0 before there is one."""
        return self.attempts and self.connection.environment.clock_time() - (
            self._attempt_started_at or self.started_at
        )

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: its client is there, nothing was answered, nothing of a body is lost."""
        if self.has_started_response or self.is_finished or self.connection.has_ended:
            return False
        if self.attempts >= ATTEMPT_LIMIT:
            return False
        return not self.has_sent_body or not (self._is_too_large_to_keep or self.request_left)

    # --- the way in

    @property
    def _chain(self) -> Chain:
        return self.route.chain if self.route is not None else EMPTY_CHAIN

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Ask every middleware, outermost first, from where the request stands, and begin the first attempt."""
        chain, position = route.chain, self._position
        if chain.on_response:
            self.is_response_awaited = True
        if chain.on_finished:
            self.is_end_awaited = True
        for step in chain.on_request[position:] if position else chain.on_request:
            call, depth = step
            try:
                result = call(self)
            except Exception as error:  # one exchange is an edge: a middleware harms that alone
                self._depth = depth
                self._fail(call, error)
                return
            if result is not None:
                self._depth, self._position = depth, chain.on_request.index(step) + 1
                if self._is_held(call, result):
                    return
        if self.is_end_awaited:
            self._depth = chain.depth
        self._begin_attempt(balancer)

    def _is_held(self, call: _Call, result: object) -> bool:
        """Act on what on_request returned; True when the request goes no further for now."""
        if isinstance(result, Response):
            self.answer(result)
        elif isinstance(result, int | float) and not isinstance(result, bool):
            return self._is_delayed(result, self._go_on)
        elif isinstance(result, Awaitable):
            self.connection.wait(self.connection.environment.settings.response_timeout)
            self.is_end_awaited = True
            self._task = asyncio.ensure_future(result)
            self._task.add_done_callback(self._on_decided)
        else:
            self._fail(call, TypeError(f"on_request returned {type(result).__name__}"))
        return True

    def _is_delayed(self, seconds: float, go_on: Callable[[], None]) -> bool:
        if not seconds > 0:
            return False
        self.connection.wait(None)
        self.is_end_awaited = True
        self._timer = asyncio.get_running_loop().call_later(min(seconds, DELAY_LIMIT_S), go_on)
        return True

    def _go_on(self) -> None:
        self._timer = None
        if not self.is_finished:
            self._go_on_inwards()

    def _on_decided(self, task: "asyncio.Future[object]") -> None:
        """Go on with what an async middleware has decided."""
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self.is_finished:
            return
        call = self._chain.on_request[self._position - 1].call
        if error is not None:
            self._fail(call, error)
        elif (result := task.result()) is None or not self._is_held(call, result):
            self._go_on_inwards()

    def _go_on_inwards(self) -> None:
        self._attempt_started_at = self.connection.environment.clock_time()
        route = self.route
        assert route is not None  # noqa: S101 - it had middlewares
        assert route.balancer is not None  # noqa: S101 - it was open
        self.begin(route, route.balancer)

    def pass_body(self, body: bytes) -> None:
        """Send bytes of the request's body, and keep them for another attempt so far as they fit."""
        if not self._is_too_large_to_keep:
            if self._kept is None:
                self._kept = bytearray()
            self._kept += body
            if len(self._kept) > self._chain.kept_bytes:
                self._kept, self._is_too_large_to_keep = None, True
        super().pass_body(body)

    def render_request(self, forwarded: bytes) -> bytes:
        """Render the head that goes upstream where it has been changed; it ends with the forwarded fields."""
        head, headers = self.head, self.request_headers
        if not headers.is_split:
            return head.passing + headers.added + forwarded
        return b"".join((head.render_start(), *headers.lines, head.framing, forwarded))

    # --- attempts

    def _begin_attempt(self, balancer: Balancer[HttpServer]) -> None:
        self.attempts += 1
        self._server = server = (
            balancer.pick(self.tried, self) if self.allowed_servers is None else self._pick_allowed(balancer)
        )
        if server is None and self._failure is not None:
            self.answer(build_answer(self._failure))
            return
        if self.attempt_timeout_s:
            self.is_response_awaited = True
            loop = asyncio.get_running_loop()
            self._attempt_timer = loop.call_later(self.attempt_timeout_s, self._on_attempt_timeout)
        if server is not None and server.idle:
            self.send(server.take_idle())
        else:
            self.send_to(server)

    def _pick_allowed(self, balancer: Balancer[HttpServer]) -> HttpServer | None:
        """Pick among the servers that are allowed: those that are not count as tried."""
        allowed = self.allowed_servers or ()
        refused = [server for server in balancer.servers if (server.address, server.port) not in allowed]
        server = balancer.pick(dict.fromkeys((*self.tried, *refused)), self)
        return server if server is not None and (server.address, server.port) in allowed else None

    def _on_attempt_timeout(self) -> None:
        self._attempt_timer = None
        if self._connecting is not None:
            self._connecting.note_failure(self)
            self.on_attempt_failed(ConnectTimeoutError("no connection to the upstream in time"))
        else:
            self.on_attempt_failed(UpstreamTimeoutError("the upstream did not answer in time"))

    def _attempt_again(self, pause_s: float) -> None:
        if not self._is_delayed(pause_s, self._begin_again):
            self._begin_again()

    def _begin_again(self) -> None:
        """Begin another attempt, unless a middleware has something against it by now."""
        self._timer = None
        if self.connection.has_ended:
            self.answer(build_answer(self._failure) if self._failure is not None else _CLIENT_ENDED)
            return
        for call in self._chain.on_attempt:
            try:
                answer = call(self)
            except Exception as error:  # one exchange is an edge: a middleware harms that alone
                self._fail(call, error)
                return
            if isinstance(answer, Response):
                self.answer(answer)
                return
            if answer is not None:
                self._fail(call, TypeError(f"on_attempt returned {type(answer).__name__}"))
                return
        if self.has_sent_body:
            self._pending, self.has_sent_body = bytearray(self._kept or b""), False
        self.response = self._response_headers = None
        self.status = 0
        if self._server is not None:
            self.tried += (self._server,)
        self._attempt_started_at = self.connection.environment.clock_time()
        assert self.route is not None  # noqa: S101 - there was an attempt
        assert self.route.balancer is not None  # noqa: S101 - there was an attempt
        self.route.counters.retries += 1
        self._begin_attempt(self.route.balancer)

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Ask the middlewares about a failed attempt, and answer with the error if none wants another."""
        self.drop_upstream()
        self._failure = error
        pause_s = self._ask(self._chain.on_attempt_failed, error)
        if self.is_finished:
            return
        if pause_s is not None and self.can_repeat:
            self._attempt_again(pause_s)
        else:
            self.answer(build_answer(error))

    def _ask(self, calls: tuple[_Call, ...], failure: ExchangeError | None = None) -> float | None:
        """Ask every middleware whether it wants another attempt: the pause before it, None when there is to be none.

        Whoever says False forbids it. One that raises ends the exchange, which nobody may see any more then.
        """
        pause_s, is_forbidden = None, False
        for call in calls:
            try:
                word = call(self) if failure is None else call(self, failure)
                if word is False:
                    is_forbidden = True
                elif word is not None:
                    pause_s = max(pause_s or 0.0, 0.0 if word is True else float(word))
            except Exception as error:  # one exchange is an edge: a middleware harms that alone
                self._fail(call, error)
                return None
        return None if is_forbidden else pause_s

    def drop_upstream(self) -> None:
        """Let go of the connection, or of one that is being made."""
        if self._attempt_timer is not None:
            self._attempt_timer.cancel()
            self._attempt_timer = None
        super().drop_upstream()

    # --- the way out

    def judge_response(self) -> Passing | None:
        """Show a response's head to every middleware, innermost first; it may be given up for another attempt."""
        if self._attempt_timer is not None:
            self._attempt_timer.cancel()
            self._attempt_timer = None
        pause_s = self._ask(self._chain.on_response)
        if pause_s is not None and self.can_repeat:
            self._failure = None
            self.drop_upstream()
            self._attempt_again(pause_s)
            return GIVEN_UP
        if self.is_finished:
            return GIVEN_UP
        return None if self._response_headers is None else RENDERED

    def render_fields(self, response: ResponseHead, connection: bytes) -> bytes:
        """Render the status line and all fields; `connection` is one of them, or empty."""
        headers = self._response_headers
        if headers is None:
            return super().render_fields(response, connection)
        framing = self.choose_framing(response)
        if headers.is_split or framing != response.framing:
            return b"".join((response.status_line, *headers.lines, framing, connection))
        return response.passing + headers.added + connection

    def on_timeout(self) -> None:
        """End or go on after too long a wait; a middleware that has not decided lets nothing through."""
        if self._task is not None:
            call = self._chain.on_request[self._position - 1].call
            self._fail(call, TimeoutError("a middleware did not decide in time"), _LATE)
        else:
            super().on_timeout()

    def tell_end(self) -> None:
        """Tell the middlewares that saw the request of its end, and wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        for call, depth in self._chain.on_finished:
            if depth <= self._depth:
                try:
                    call(self)
                except Exception as error:  # one exchange is an edge: a middleware harms that alone
                    self._fail(call, error)

    # --- permission while it is under way

    @property
    def exchange(self) -> "ChainedExchange":
        """The request that judges look at."""
        return self

    @property
    def server(self) -> tuple[str, int] | None:
        """The server of the attempt; None before there is one."""
        return None if self._server is None else (self._server.address, self._server.port)

    @property
    def entrypoint(self) -> int:
        """The port that the client came to."""
        return self.connection.entrypoint

    def may_go_on(self) -> bool:
        """Say whether the exchange, or its tunnel, may go on, now that another table may be in force.

        Where the host leads elsewhere or nowhere now it may, unless a middleware could have ended it: that one is gone.
        A branch that is gone is judged as what the request would come to now.
        """
        route, current = self.route, self.connection.find_route(self.head.host)
        if route is None or (current is not None and current.has_route(route)):
            return True
        if current is None or current.service != route.service:
            return not route.chain.is_still_allowed
        if not current.has_destination(route.destination):
            chosen = current.choose(self.head)
            if chosen.balancer is None:
                return False
            self._judged_destination = chosen.destination
        is_allowed = all(self._may_stay(judge) for judge in current.chain.is_still_allowed)
        self._judged_destination = ""
        return is_allowed

    def revoke(self) -> None:
        """End because the permission is gone: an answer if none was begun, else a connection reset where it stands."""
        if self.has_started_response:
            self.cut()
        else:
            self.answer(_REVOKED)

    def _may_stay(self, judge: Judge) -> bool:
        try:
            return read_verdict(judge(self), default=False)
        except Exception as error:  # a plugin's code was to decide about access: no answer is no
            self.note_failure(judge, error, "what it judged is ended")
            return False

    def note_failure(self, call: _Call, error: BaseException, outcome: str) -> None:
        """Count a middleware that raised, and log the first failure of its type, and what came of it."""
        owner = type(getattr(call, "__self__", call))
        if self.connection.environment.failures.count(owner):
            _logger.error("middleware %s failed; %s", owner.__qualname__, outcome, exc_info=error)

    def _fail(self, call: _Call, error: BaseException, late: Response | None = None) -> None:
        """Contain a middleware that raised, or did not decide."""
        owner = getattr(call, "__self__", call)
        response: Any = late or getattr(owner, "failure_response", None) or _FAILED
        self.note_failure(call, error, f"its exchange is answered {response.status}")
        if not self.has_started_response:
            self.answer(response)
