"""One exchange's way through its route's middlewares; only routes that have any make one of these.

Calls what the chain lists in its order, waits where a middleware asks for it, and contains one that raises: 500 for
that exchange, logged with its traceback once per middleware and counted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from maesh_core.hookspecs import Response
from maesh_core.proxy.middleware.chain import Chain

if TYPE_CHECKING:
    from maesh_core.proxy.protocol.http.exchange import Exchange

_logger = logging.getLogger(__name__)

_FAILED = Response(status=500, reason="a middleware failed")
_LATE = Response(status=504, reason="a middleware did not decide in time")
DELAY_LIMIT_S = 60.0
"""The longest that one middleware may hold a request by returning a delay."""


class MiddlewareRun:
    """Where an exchange is on its way inwards, and what it waits for there."""

    __slots__ = ("_chain", "_depth", "_exchange", "_position", "_timer", "_waiting")

    def __init__(self, exchange: "Exchange", chain: Chain) -> None:
        self._exchange = exchange
        self._chain = chain
        self._position = 0
        self._depth = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<MiddlewareRun {self._position}/{len(self._chain.on_request)}>"

    def admit(self) -> None:
        """Call on_request from where the run stands, and begin the first attempt once all have agreed."""
        steps = self._chain.on_request
        while self._position < len(steps):
            step = steps[self._position]
            self._position += 1
            self._depth = step.depth
            if step.is_async:
                self._wait_for(step.call)
                return
            if self._is_held(self._call(step.call, self._exchange)):
                return
        self._depth = self._chain.depth
        self._exchange.begin_attempt()

    @property
    def is_waiting(self) -> bool:
        """Whether an async middleware has not decided yet."""
        return self._waiting is not None

    def on_timeout(self) -> None:
        """Go on without the word of an async middleware: the request goes nowhere."""
        error = TimeoutError("a middleware did not decide in time")
        self._fail(self._chain.on_request[self._position - 1].call, error, _LATE)

    def wants_attempt_after(self, error: Exception) -> bool:
        """Tell of a failed attempt; every middleware hears of it, and any may ask for another."""
        return self._ask(self._chain.on_attempt_failed, self._exchange, error)

    def wants_attempt_instead(self) -> bool:
        """Show a response head; every middleware sees it, and any may ask for another attempt."""
        return self._ask(self._chain.on_response, self._exchange)

    def finish(self) -> None:
        """Tell of the end, and wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
        for step in self._chain.on_finished:
            if step.depth <= self._depth:
                self._call(step.call, self._exchange)

    def _ask(self, calls: tuple[Callable[..., Any], ...], *arguments: object) -> bool:
        """Ask all, unless one raises: the exchange has ended then, and nobody may see it any more."""
        is_wanted = False
        for call in calls:
            is_wanted = self._call(call, *arguments) is True or is_wanted
            if self._exchange.is_finished:
                return False
        return is_wanted

    def _call(self, call: Callable[..., Any], *arguments: object) -> Any:
        try:
            return call(*arguments)
        except Exception as error:  # one exchange is an edge: a middleware harms that alone
            self._fail(call, error)
            return None

    def _fail(self, call: Callable[..., Any], error: Exception, response: Response = _FAILED) -> None:
        owner = getattr(call, "__self__", call)
        exchange = self._exchange
        if exchange.connection.handler.count_middleware_failure(type(owner)):
            name = type(owner).__qualname__
            _logger.error("middleware %s failed; its exchange is answered %d", name, response.status, exc_info=error)
        if not exchange.has_started_response:
            exchange.answer(response)

    def _is_held(self, result: object) -> bool:
        """Act on what on_request returned; True when the request goes no further for now."""
        if self._exchange.is_finished:
            return True
        if result is None:
            return False
        if isinstance(result, Response):
            self._exchange.answer(result)
            return True
        if isinstance(result, int | float):
            return self._is_delayed(result)
        if isinstance(result, Awaitable):
            self._wait_for(lambda _: result)
        else:
            error = TypeError(f"on_request returned {type(result).__name__}")
            self._fail(self._chain.on_request[self._position - 1].call, error)
        return True

    def _is_delayed(self, seconds: float) -> bool:
        if not seconds > 0:
            return False
        self._exchange.connection.wait(None)
        self._timer = asyncio.get_running_loop().call_later(min(seconds, DELAY_LIMIT_S), self._go_on)
        return True

    def _go_on(self) -> None:
        self._timer = None
        if not self._exchange.is_finished:
            self.admit()

    def _wait_for(self, call: Callable[..., Awaitable[object]]) -> None:
        connection = self._exchange.connection
        connection.wait(connection.handler.settings.response_timeout)
        self._waiting = asyncio.get_running_loop().create_task(self._run_async(call))

    async def _run_async(self, call: Callable[..., Awaitable[object]]) -> None:
        try:
            result = await call(self._exchange)
        except Exception as error:  # one exchange is an edge: a middleware harms that alone
            self._waiting = None
            self._fail(self._chain.on_request[self._position - 1].call, error)
            return
        self._waiting = None
        if not self._exchange.is_finished and not self._is_held(result):
            self.admit()
