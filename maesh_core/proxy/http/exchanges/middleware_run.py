"""The way of one request through its route's middlewares: in, attempt by attempt, and back out.

Calls what the chain lists in its order, waits where a middleware asks for it, and contains one that raises: an answer
for that exchange, a line in the log once per middleware, a count. It creates a task only for an async middleware. Where
the client offers another protocol it also receives the 101 (upgrade.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, final

from maesh_core.errors import ExchangeError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.exchanges.answers import (
    CLIENT_ENDED,
    MIDDLEWARE_FAILED,
    MIDDLEWARE_TIMEOUT,
    REVOKED,
    build_answer,
)
from maesh_core.proxy.http.exchanges.attempt import Attempt
from maesh_core.proxy.http.exchanges.exchange import Exchange, Run
from maesh_core.proxy.http.exchanges.upgrade import switch_protocols
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import ClientHeaders
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routing_table import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import GIVEN_UP, RENDERED, Passing, UpstreamStream
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, Judge, read_verdict

ATTEMPT_LIMIT: Final = 100
"""However often middlewares ask for another attempt."""
DELAY_LIMIT_S: Final = 60.0
"""The longest that one middleware may hold a request, or put off an attempt, by returning a delay."""

_logger = logging.getLogger(__name__)

_Call = Callable[..., Any]


@final
class MiddlewareRun(Run):
    """Implements `interfaces.Exchange`, and `interfaces.Connection` for judges, over one exchange.

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
    _attempt_started_at = 0.0
    _failure: ExchangeError | None = None
    _kept: bytearray | None = None
    _is_too_large_to_keep = False
    tried: tuple[HttpServer, ...] = ()

    changed_response: Headers | None = None
    _judged_destination = ""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __repr__(self) -> str:
        return f"<MiddlewareRun depth={self._depth} attempts={self.attempts} {self._exchange!r}>"

    # --- what middlewares see

    @property
    def exchange(self) -> "MiddlewareRun":
        """The request that judges look at."""
        return self

    @property
    def client_address(self) -> str:
        """The address of the connection's other end."""
        return self._exchange.client.address

    @property
    def entrypoint(self) -> int:
        """The port that the client came to."""
        return self._exchange.client.entrypoint

    @property
    def service(self) -> str:
        """The key of the service that the route leads to; empty without one."""
        route = self._exchange.route
        return route.service if route is not None else ""

    @property
    def destination(self) -> str:
        """The key of what has the request: the service, or the branch of it that was chosen."""
        route = self._exchange.route
        return self._judged_destination or (route.destination if route is not None else "")

    @property
    def server(self) -> tuple[str, int] | None:
        """The server of the attempt; None before there is one."""
        attempt = self._exchange.attempt
        return None if attempt is None else (attempt.server.address, attempt.server.port)

    @property
    def method(self) -> bytes:
        """As the client sent it."""
        return self._exchange.head.method

    @property
    def target(self) -> bytes:
        """Origin-form, as it goes upstream."""
        return self._exchange.head.target

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""
        return self._exchange.head.host

    @property
    def client_headers(self) -> ClientHeaders:
        """The fields as the client sent them; they cannot be changed."""
        return ClientHeaders(self._exchange.head)

    @property
    def request_headers(self) -> Headers:
        """The fields that go upstream; a middleware may change them."""
        exchange = self._exchange
        if exchange.changed_headers is None:
            exchange.changed_headers = exchange.head.build_headers()
        return exchange.changed_headers

    @property
    def response_headers(self) -> Headers:
        """The fields of the attempt's response that go on; empty before there is one."""
        attempt = self._exchange.attempt
        if self.changed_response is None:
            if attempt is None or attempt.response is None:
                return Headers()
            self.changed_response = attempt.response.build_headers()
        return self.changed_response

    @property
    def status(self) -> int:
        """Of the attempt's response or of the answer given; 0 before there is one."""
        return self._exchange.status

    @property
    def attempt_seconds(self) -> float:
        """How long ago the attempt was begun; 0 before there is one."""
        exchange = self._exchange
        return self.attempts and exchange.client.environment.clock_time() - (
            self._attempt_started_at or exchange.started_at
        )

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: its client is there, nothing was answered, nothing of a body is lost.

        A request that offers another protocol is never sent twice.
        """
        exchange, attempt = self._exchange, self._exchange.attempt
        if exchange.has_started_response or exchange.is_finished or exchange.client.has_ended:
            return False
        if self.attempts >= ATTEMPT_LIMIT:
            return False
        if attempt is None:
            return True
        if attempt.was_sent and exchange.head.upgrade:
            return False
        return not attempt.has_sent_body or not (self._is_too_large_to_keep or exchange.request_left)

    # --- the way in

    @property
    def _chain(self) -> Chain:
        route = self._exchange.route
        return route.chain if route is not None else EMPTY_CHAIN

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Call every middleware, outermost first, from where the request waits, and begin the first attempt."""
        chain, position = route.chain, self._position
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
                if self._apply_result(call, result):
                    return
        self._depth = chain.depth
        self._begin_attempt(balancer)

    def _apply_result(self, call: _Call, result: object) -> bool:
        """Act on what on_request returned; True when the request goes no further for now."""
        if isinstance(result, Response):
            self._exchange.answer(result)
        elif isinstance(result, int | float) and not isinstance(result, bool):
            return self._delay(result, self._resume)
        elif isinstance(result, Awaitable):
            client = self._exchange.client
            client.wait(client.environment.settings.response_timeout)
            self._task = asyncio.ensure_future(result)
            self._task.add_done_callback(self._on_decided)
        else:
            self._fail(call, TypeError(f"on_request returned {type(result).__name__}"))
        return True

    def _delay(self, seconds: float, resume: Callable[[], None]) -> bool:
        if not seconds > 0:
            return False
        self._exchange.client.wait(None)
        self._timer = asyncio.get_running_loop().call_later(min(seconds, DELAY_LIMIT_S), resume)
        return True

    def _resume(self) -> None:
        self._timer = None
        if not self._exchange.is_finished:
            self._continue_inwards()

    def _on_decided(self, task: "asyncio.Future[object]") -> None:
        """Continue with what an async middleware has decided."""
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._exchange.is_finished:
            return
        call = self._chain.on_request[self._position - 1].call
        if error is not None:
            self._fail(call, error)
        elif (result := task.result()) is None or not self._apply_result(call, result):
            self._continue_inwards()

    def _continue_inwards(self) -> None:
        exchange = self._exchange
        self._attempt_started_at = exchange.client.environment.clock_time()
        route = exchange.route
        assert route is not None  # noqa: S101 - it had middlewares
        assert route.balancer is not None  # noqa: S101 - it was open
        self.begin(route, route.balancer)

    def keep_body(self, body: bytes) -> None:
        """Keep bytes of the request's body for another attempt, as long as they fit."""
        if not self._is_too_large_to_keep:
            if self._kept is None:
                self._kept = bytearray()
            self._kept += body
            if len(self._kept) > self._chain.kept_bytes:
                self._kept, self._is_too_large_to_keep = None, True

    # --- attempts

    def _begin_attempt(self, balancer: Balancer[HttpServer]) -> None:
        self.attempts += 1
        server = balancer.pick(self.tried, self) if self.allowed_servers is None else self._pick_allowed(balancer)
        if server is None and self._failure is not None:
            self._exchange.answer(build_answer(self._failure))
            return
        self._exchange.attempt_at(server, self.attempt_timeout_s)

    def _pick_allowed(self, balancer: Balancer[HttpServer]) -> HttpServer | None:
        """Pick among the servers that are allowed: those that are not count as tried."""
        allowed = self.allowed_servers or ()
        refused = [server for server in balancer.servers if (server.address, server.port) not in allowed]
        server = balancer.pick(dict.fromkeys((*self.tried, *refused)), self)
        return server if server is not None and (server.address, server.port) in allowed else None

    def _attempt_again(self, pause_s: float) -> None:
        if not self._delay(pause_s, self._begin_again):
            self._begin_again()

    def _begin_again(self) -> None:
        """Begin another attempt, unless a middleware refuses it by now."""
        self._timer = None
        exchange = self._exchange
        if exchange.client.has_ended:
            exchange.answer(build_answer(self._failure) if self._failure is not None else CLIENT_ENDED)
            return
        for call in self._chain.on_attempt:
            try:
                answer = call(self)
            except Exception as error:  # one exchange is an edge: a middleware harms that alone
                self._fail(call, error)
                return
            if isinstance(answer, Response):
                exchange.answer(answer)
                return
            if answer is not None:
                self._fail(call, TypeError(f"on_attempt returned {type(answer).__name__}"))
                return
        self._forget_attempt(exchange.attempt)
        route = exchange.route
        assert route is not None  # noqa: S101 - there was an attempt
        assert route.balancer is not None  # noqa: S101 - there was an attempt
        route.counters.retries += 1
        self._begin_attempt(route.balancer)

    def _forget_attempt(self, attempt: Attempt | None) -> None:
        """Put the exchange back to where it was before the attempt, which counts as tried."""
        exchange = self._exchange
        if attempt is not None:
            self.tried += (attempt.server,)
            if attempt.has_sent_body:
                exchange.repeat_body(self._kept or b"")
        exchange.attempt = None
        exchange.status = 0
        self.changed_response = None
        self._attempt_started_at = exchange.client.environment.clock_time()

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Ask the middlewares about a failed attempt, and answer with the error if none wants another."""
        self._failure = error
        pause_s = self._ask(self._chain.on_attempt_failed, error)
        if self._exchange.is_finished:
            return
        if pause_s is not None and self.can_repeat:
            self._attempt_again(pause_s)
        else:
            self._exchange.answer(build_answer(error))

    def _ask(self, calls: tuple[_Call, ...], failure: ExchangeError | None = None) -> float | None:
        """Ask every middleware whether it wants another attempt: the pause before it, None when there is to be none.

        False forbids it. One that raises ends the exchange, which no other middleware sees then.
        """
        pause_s, is_forbidden = None, False
        for call in calls:
            try:
                verdict = call(self) if failure is None else call(self, failure)
                if verdict is False:
                    is_forbidden = True
                elif verdict is not None:
                    pause_s = max(pause_s or 0.0, 0.0 if verdict is True else float(verdict))
            except Exception as error:  # one exchange is an edge: a middleware harms that alone
                self._fail(call, error)
                return None
        return None if is_forbidden else pause_s

    # --- the way out

    def judge_response(self) -> Passing | None:
        """Show a response's head to every middleware, innermost first; it may be given up for another attempt."""
        exchange = self._exchange
        pause_s = self._ask(self._chain.on_response)
        if pause_s is not None and self.can_repeat:
            self._failure = None
            exchange.abandon_attempt()
            self._attempt_again(pause_s)
            return GIVEN_UP
        if exchange.is_finished:
            return GIVEN_UP
        return None if self.changed_response is None else RENDERED

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Connect the client and the upstream by a tunnel. Raises UpstreamProtocolError."""
        switch_protocols(self._exchange, upstream, response, rest)

    def on_timeout(self) -> bool:
        """Refuse the request if a middleware has not decided in time; False where none is awaited."""
        if self._task is None:
            return False
        call = self._chain.on_request[self._position - 1].call
        self._fail(call, TimeoutError("a middleware did not decide in time"), MIDDLEWARE_TIMEOUT)
        return True

    def on_finished(self) -> None:
        """Tell the middlewares that saw the request that it has ended, and stop waiting."""
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

    def may_continue(self) -> bool:
        """Whether the exchange, or its tunnel, is still allowed, now that another table may be in force.

        Where the host leads elsewhere or nowhere now, it is, unless one of its middlewares could have ended it: that
        middleware is gone. Where its branch is gone, the branch that the request would come to now is judged.
        """
        exchange = self._exchange
        route, current = exchange.route, exchange.client.find_route(exchange.head.host)
        if route is None or (current is not None and current.has_route(route)):
            return True
        if current is None or current.service != route.service:
            return not route.chain.is_still_allowed
        if not current.has_destination(route.destination):
            chosen = current.choose(exchange.head)
            if chosen.balancer is None:
                return False
            self._judged_destination = chosen.destination
        is_allowed = all(self._judge(judge) for judge in current.chain.is_still_allowed)
        self._judged_destination = ""
        return is_allowed

    def revoke(self) -> None:
        """End the exchange: with an answer, or with a reset once a response has begun."""
        if self._exchange.has_started_response:
            self._exchange.cut()
        else:
            self._exchange.answer(REVOKED)

    def _judge(self, judge: Judge) -> bool:
        try:
            return read_verdict(judge(self), default=False)
        except Exception as error:  # a plugin's code was to decide about access: no answer is no
            self._note_failure(judge, error, "what it judged is ended")
            return False

    def _note_failure(self, call: _Call, error: BaseException, outcome: str) -> None:
        """Count a middleware that raised, and log the first failure of its type, and what came of it."""
        owner = type(getattr(call, "__self__", call))
        if self._exchange.client.environment.failures.count(owner):
            _logger.error("middleware %s failed; %s", owner.__qualname__, outcome, exc_info=error)

    def _fail(self, call: _Call, error: BaseException, late: Response | None = None) -> None:
        """Contain a middleware that raised, or did not decide."""
        owner = getattr(call, "__self__", call)
        response: Any = late or getattr(owner, "failure_response", None) or MIDDLEWARE_FAILED
        self._note_failure(call, error, f"its exchange is answered {response.status}")
        if not self._exchange.has_started_response:
            self._exchange.answer(response)
