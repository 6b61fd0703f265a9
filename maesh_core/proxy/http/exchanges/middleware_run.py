"""Runs one request through its route's middlewares: `on_request`, attempts, `on_response`, `on_finished`.

Calls the methods in the order of the chain, and waits if a middleware asks for it. Each gets the exchange as
exchange_view.py shows it. If a middleware raises, only its exchange fails: it is answered, and the failure is counted
and logged once per middleware type. A task is created only for async middlewares. If the client offers an upgrade, the
run also handles the 101 (upgrade.py).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

from maesh_core.errors import ExchangeError, UpstreamTimeoutError
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.answers import (
    CLIENT_ENDED,
    MIDDLEWARE_FAILED,
    MIDDLEWARE_TIMEOUT,
    REQUEST_TIMEOUT,
    build_answer,
)
from maesh_core.proxy.http.exchanges.attempt import Attempt
from maesh_core.proxy.http.exchanges.body_run import BodyRun
from maesh_core.proxy.http.exchanges.copying import (
    COPIES_OF_REQUEST,
    may_copy,
    send_copy,
)
from maesh_core.proxy.http.exchanges.exchange_view import NEVER
from maesh_core.proxy.http.exchanges.picking import Chosen, pick_server
from maesh_core.proxy.http.exchanges.run import Run
from maesh_core.proxy.http.exchanges.upgrade import switch_protocols
from maesh_core.proxy.http.grpc import NOT_KNOWN_YET
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.server_counters import FAILED_STATUS
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import DISCARDED, Forwarding, UpstreamStream
from maesh_core.proxy.middleware.chain import ChangeChooser, UnlessChosen
from maesh_core.proxy.network.time_limits import TimeLimit

DELAY_LIMIT_S: Final = 60.0
"""The longest delay of a request or an attempt that one middleware can set by returning seconds."""

_Call = Callable[..., Any]


@final
class MiddlewareRun(BodyRun, Run):
    """The middlewares' calls for one exchange. Attributes have defaults as in ExchangeView.

    `_depth` is the number of middlewares that the request has reached, `_position` the index at which `on_request`
    resumes. `_stored_body` is the request's body so far; None if it is too large. `_wanted_copies` are the copies to
    send with the first attempt, by side service.
    """

    _depth = 0
    _position = 0
    _timer: asyncio.TimerHandle | None = None
    _limit: TimeLimit | None = None
    _task: "asyncio.Future[object] | None" = None

    _wanted_copies: tuple[tuple[str, bytes], ...] = ()
    _failure: ExchangeError | None = None
    _stored_body: bytearray | None = None

    def __repr__(self) -> str:
        return f"<MiddlewareRun depth={self._depth} attempts={self.attempts} {self._exchange!r}>"

    # --- before the attempt

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Call the chain's `on_request` methods from `_position` on, then start the first attempt."""
        chain, position = route.chain, self._position
        for step in chain.on_request[position:] if position else chain.on_request:
            call, depth = step
            try:
                if isinstance(call, ChangeChooser):
                    self.change_request(call)
                    continue
                result = call(self)
            except Exception as error:  # a middleware's error ends only its exchange
                self._depth = depth
                self.fail(call, error)
                return
            if result is not None:
                self._depth, self._position = depth, chain.on_request.index(step) + 1
                if self._apply_result(call, result):
                    return
        self._depth = chain.depth
        now = 0.0
        if 0 < self.timeout_s < math.inf:
            environment = self._exchange.client.environment
            now = environment.clock_time()
            self.late_at = now + self.timeout_s
            self._limit = environment.exchange_limits.begin(self, self.timeout_s, now)
        if self.request_flow is not None:
            self.begin_body()
        else:
            self._begin_attempt(balancer, now)

    def _apply_result(self, call: _Call, result: object) -> bool:
        """Act on the result of on_request; return True if the request must not continue now."""
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
            self.fail(call, TypeError(f"on_request returned {type(result).__name__}"))
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
        """Continue with the result of an async middleware."""
        self._task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._exchange.is_finished:
            return
        call = self.chain.on_request[self._position - 1].call
        if error is not None:
            self.fail(call, error)
        elif (result := task.result()) is None or not self._apply_result(call, result):
            self._continue_inwards()

    def _continue_inwards(self) -> None:
        exchange = self._exchange
        self._attempt_started_at = exchange.client.environment.clock_time()
        route = exchange.route
        assert route is not None  # noqa: S101 - a route has the middlewares
        assert route.balancer is not None  # noqa: S101 - a closed route was answered before
        self.begin(route, route.balancer)

    def on_gathered(self) -> None:
        """Begin the first attempt, which has waited for the request's body."""
        route = self._exchange.route
        assert route is not None  # noqa: S101 - a route has the middlewares
        assert route.balancer is not None  # noqa: S101 - a closed route was answered before
        self._begin_attempt(route.balancer)

    def keep_body(self, body: bytes) -> None:
        """Store bytes of the request's body for another attempt, up to the chain's limit."""
        if not self._is_too_large_to_store:
            if self._stored_body is None:
                self._stored_body = bytearray()
            self._stored_body += body
            if len(self._stored_body) > self.chain.kept_bytes:
                self._stored_body, self._is_too_large_to_store = None, True

    # --- attempts

    def _begin_attempt(self, balancer: Balancer[HttpServer], now: float = 0.0) -> None:
        if not self.admits_changed():
            return
        self.attempts += 1
        server = pick_server(self, balancer)
        if server is None and self._failure is not None:
            self._exchange.answer(build_answer(self._failure))
            return
        self._exchange.attempt_at(server, self.attempt_timeout_s, self.attempt_total_s, now)
        if self._wanted_copies:
            self._send_wanted_copies()

    def on_exchange_limit(self) -> None:
        """End the exchange, whose time-out is over. The attempt in progress has failed; none follows it."""
        self._limit = None
        self.late_at = NEVER
        exchange = self._exchange
        if exchange.is_finished:
            return
        if self._timer is None:
            exchange.on_late(REQUEST_TIMEOUT)
        else:  # the attempt has failed before, and the next one has not begun
            exchange.answer(build_answer(UpstreamTimeoutError(REQUEST_TIMEOUT)))

    def _has_time(self, pause_s: float) -> bool:
        """Whether a further attempt can begin before the time-out of the exchange, after a pause."""
        return not self.late_at or self._exchange.client.environment.clock_time() + pause_s < self.late_at

    def _extend_wait(self) -> bool:
        """Wait for a response's head longer than the proxy's own limit, if a time-out of middlewares limits it."""
        exchange = self._exchange
        attempt = exchange.attempt
        if attempt is None or attempt.upstream is None or attempt.response is not None or exchange.has_body_left:
            return False
        is_unlimited = math.inf in (self.timeout_s, self.attempt_total_s)
        if self._limit is None and not attempt.has_total_limit and not is_unlimited:
            return False
        exchange.client.wait(None)
        return True

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.end()
            self._limit = None

    def pick_other(self, balancer: Balancer[HttpServer], passed_over: tuple[HttpServer, ...]) -> HttpServer | None:
        """Pick a server that the request may go to, preferably another than these and those of earlier attempts."""
        tried = self.tried
        self.tried = (*tried, *passed_over)
        try:
            return pick_server(self, balancer)
        finally:
            self.tried = tried

    def _schedule_retry(self, pause_s: float) -> None:
        if not self._delay(pause_s, self._begin_retry):
            self._begin_retry()

    def _begin_retry(self) -> None:
        """Start another attempt, unless a middleware's `on_attempt` refuses it."""
        self._timer = None
        exchange = self._exchange
        if exchange.client.has_ended:
            exchange.answer(build_answer(self._failure) if self._failure is not None else CLIENT_ENDED)
            return
        for call in self.chain.on_attempt:
            try:
                answer = call(self)
            except Exception as error:  # a middleware's error ends only its exchange
                self.fail(call, error)
                return
            if isinstance(answer, Response):
                exchange.answer(answer)
                return
            if answer is not None:
                self.fail(call, TypeError(f"on_attempt returned {type(answer).__name__}"))
                return
        self._forget_attempt(exchange.attempt)
        route = exchange.route
        assert route is not None  # noqa: S101 - there was an attempt
        assert route.balancer is not None  # noqa: S101 - there was an attempt
        self._begin_attempt(route.balancer)

    def _forget_attempt(self, attempt: Attempt | None) -> None:
        """Restore the exchange's state from before the attempt, whose server counts as tried."""
        exchange = self._exchange
        if attempt is not None:
            self.tried += (attempt.server,)
            if exchange.grpc_status in GRPC_SERVER_ERRORS and exchange.status < FAILED_STATUS:
                attempt.server.counters.failed_responses += 1
            if attempt.has_sent_body:
                exchange.repeat_body(self._stored_body or b"")
        exchange.attempt = None
        exchange.status = 0
        exchange.grpc_status = NOT_KNOWN_YET
        self.changed_response = None
        self._attempt_started_at = exchange.client.environment.clock_time()

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Call the middlewares' `on_attempt_failed`; answer with the error if none asks for another attempt."""
        self._failure = error
        if self.response_flow is not None:  # its response was accepted, so there is no other attempt
            self._exchange.answer(build_answer(error))
            return
        pause_s = self._ask_for_retry(self.chain.on_attempt_failed, error)
        if self._exchange.is_finished:
            return
        if pause_s is not None and self.can_repeat and self._has_time(pause_s):
            self._schedule_retry(pause_s)
        else:
            self._exchange.answer(build_answer(error))

    def _ask_for_retry(self, calls: tuple[Any, ...], failure: ExchangeError | None = None) -> float | None:
        """Ask each middleware whether to start another attempt; return the pause before it, or None for no attempt.

        A middleware that returns False prevents the attempt. One that raises ends the exchange, and the remaining
        middlewares are not called.
        """
        pause_s, is_forbidden = None, False
        for each in calls:
            call = each
            if isinstance(each, UnlessChosen):
                if self._is_at_chosen(each.chooser):
                    continue
                call = each.call
            try:
                if isinstance(each, ChangeChooser):
                    self.change_response(each)
                    continue
                verdict = call(self) if failure is None else call(self, failure)
                if verdict is False:
                    is_forbidden = True
                elif verdict is not None:
                    pause_s = max(pause_s or 0.0, 0.0 if verdict is True else float(verdict))
            except Exception as error:  # a middleware's error ends only its exchange
                self.fail(call, error)
                return None
        return None if is_forbidden else pause_s

    # --- copies

    def send_copy(self, service: str, body: bytes) -> bool:
        """Send a copy of the request to a side service, with the first attempt or now; False if it is dropped."""
        exchange = self._exchange
        route = exchange.route
        if route is None or service not in route.sides or exchange.is_finished or exchange.head.upgrade:
            return False
        if len(self._wanted_copies) >= COPIES_OF_REQUEST or not may_copy(exchange, service, len(body)):
            return False
        if self.attempts:
            return send_copy(exchange, self.chain, service, body, self)
        self._wanted_copies += ((service, body),)
        return True

    def _send_wanted_copies(self) -> None:
        """Send the copies that `on_request` has asked for, unless no server got the request itself."""
        wanted, self._wanted_copies = self._wanted_copies, ()
        exchange = self._exchange
        if exchange.attempts and exchange.route is not None:
            for service, body in wanted:
                send_copy(exchange, exchange.route.chain, service, body, self)

    # --- after the response head

    def judge_response(self, response: ResponseHead, *, is_whole: bool) -> Forwarding | None:
        """Call the chain's `on_response` methods; start another attempt if one asks for it."""
        exchange = self._exchange
        pause_s = self._ask_for_retry(self.chain.on_response)
        if pause_s is not None and self.can_repeat and self._has_time(pause_s):
            self._failure = None
            exchange.abandon_attempt()
            self._schedule_retry(pause_s)
            return DISCARDED
        if exchange.is_finished:
            return DISCARDED
        if response.left and self.chain.on_response_body:
            return self.open_response(response, is_whole=is_whole)
        return None

    def _is_at_chosen(self, chooser: object) -> bool:
        """Whether the current attempt is at the server that this `choose_backend` has chosen."""
        exchange = self._exchange
        chosen: Chosen | None = self.chosen
        return (
            chosen is not None
            and chosen.chooser is chooser
            and exchange.attempt is not None
            and exchange.attempt.server is chosen.server
            and exchange.part == chosen.part
        )

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Connect the client and the upstream by a tunnel, which no time-out of requests ends.

        Raises UpstreamProtocolError.
        """
        switch_protocols(self._exchange, upstream, response, rest)
        if self._exchange.has_started_response:
            self._stop_limit()

    def on_timeout(self) -> bool:
        """Fail the request if an async middleware has taken too long, or wait longer; return False for neither."""
        if self._task is None:
            return self.on_body_timeout() or self._extend_wait()
        call = self.chain.on_request[self._position - 1].call
        self.fail(call, TimeoutError("a middleware did not decide in time"), MIDDLEWARE_TIMEOUT)
        return True

    def on_finished(self) -> None:
        """Call `on_finished` of the middlewares that saw the request, and cancel pending waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop_limit()
        if self._task is not None:
            self._task.cancel()
        if self.request_flow is not None or self.response_flow is not None:
            self.close_bodies()
        for call, depth in self.chain.on_finished:
            if depth <= self._depth:
                try:
                    call(self)
                except Exception as error:  # a middleware's error ends only its exchange
                    self.fail(call, error)

    def fail(self, call: Any, error: BaseException, late: Response | None = None) -> None:
        """Handle a middleware that raised or timed out: answer with its failure response."""
        if isinstance(call, ChangeChooser):
            call = call.method
        owner = getattr(call, "__self__", call)
        response: Any = late or getattr(owner, "failure_response", None) or MIDDLEWARE_FAILED
        self.note_failure(call, error, f"the exchange is answered with {response.status}")
        if not self._exchange.has_started_response:
            self._exchange.answer(response)
