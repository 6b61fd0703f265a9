"""What a run does with bodies: asks the middlewares how they use them, and lets the content go through those uses.

The part of a run between the questions to guards (guarding.py) and the attempts (middleware_run.py). The flows of a
request and of a response do the work (request_flow.py, response_flow.py); this module decides who uses a body, and what
follows if such a use fails or takes too long.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from maesh_core.errors import ClientProtocolError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import BODY_TIMEOUT, MIDDLEWARE_FAILED, MIDDLEWARE_TIMEOUT, WHOLE_TOO_LARGE
from maesh_core.proxy.http.exchanges.attempt import Attempt
from maesh_core.proxy.http.exchanges.body_flow import BodyFlow, Stage, build_stage, close_stages
from maesh_core.proxy.http.exchanges.body_side import BodySide
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.guarding import GuardedExchange
from maesh_core.proxy.http.exchanges.request_flow import TOO_LARGE as REQUEST_TOO_LARGE
from maesh_core.proxy.http.exchanges.request_flow import RequestFlow
from maesh_core.proxy.http.exchanges.response_flow import ResponseFlow
from maesh_core.proxy.http.exchanges.run import ResponseBody
from maesh_core.proxy.http.messages.request_head import CHUNKED
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.upstreams.upstream_stream import DISCARDED, RENDERED, Forwarding

_Call = Callable[..., Any]


class BodyRun(GuardedExchange):
    """The bodies of one exchange, as far as middlewares use them."""

    request_flow: BodyFlow | None = None
    response_flow: ResponseBody | None
    _request: RequestFlow | None = None
    _response: ResponseFlow | None = None
    _side: BodySide | None = None

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.response_flow = None  # mypyc drops a default on the class whose type is a Protocol

    # --- implemented by the run

    @abstractmethod
    def on_gathered(self) -> None:
        """Begin the first attempt, which has waited for the request's body."""

    @abstractmethod
    def keep_body(self, body: bytes) -> None:
        """Store bytes of the request's body for another attempt, up to the chain's limit."""

    @abstractmethod
    def fail(self, call: _Call, error: BaseException, late: Response | None = None) -> None:
        """Answer for a middleware that has raised or timed out, unless the response has started."""

    # --- both bodies

    def expect_body(self) -> None:
        """Let the request's body go through the middlewares that may use it."""
        exchange = self._exchange
        if exchange.request_left and not exchange.head.upgrade:
            self.request_flow = self._request = RequestFlow(exchange, self)

    def prepare(self, attempt: Attempt) -> None:
        """Let what goes through middlewares know when an attempt's server reads again."""
        if self._request is not None:
            attempt.client = self._find_side()

    def _find_side(self) -> BodySide:
        if self._side is None:
            self._side = BodySide(self._exchange.client, self._request)
        return self._side

    def begin_body(self) -> None:
        """Ask the middlewares what to do with the request's body; `on_gathered` begins the first attempt."""
        stages, flow = self._list_stages(self.chain.on_request_body, REQUEST_TOO_LARGE), self._request
        if stages is None or flow is None:
            return
        if not stages and self._exchange.head.body != CHUNKED:  # of a chunked body, framing may have been removed
            self.request_flow = self._request = None
            flow.pass_all()
            self.on_gathered()
        else:
            flow.begin(stages)

    def _list_stages(self, calls: tuple[_Call, ...], too_large: Response) -> list[Stage] | None:
        """Ask middlewares what they do with a body; None if one has failed."""
        stages: list[Stage] = []
        note, room = self.note_failure, self._exchange.client.environment.collected
        for call in calls:
            try:
                use = call(self)
                if use is not None:
                    stages.append(build_stage(call, use, too_large=too_large, room=room, note_failure=note))
            except Exception as error:  # a middleware's error ends only its exchange
                close_stages(stages, note)
                self.fail(call, error)
                return None
        return stages

    def on_body_failed(self, call: _Call, error: BaseException) -> None:
        """Answer, or reset the connection, because a middleware has failed with a body."""
        exchange = self._exchange
        if exchange.is_finished:
            self.note_failure(call, error, "the exchange has ended")
        elif exchange.has_started_response:
            self.note_failure(call, error, "the response is cut")
            exchange.abort(reason=MIDDLEWARE_FAILED.reason, is_failure=False)
        else:
            self.fail(call, error)

    def open_response(self, response: ResponseHead, *, is_whole: bool) -> Forwarding | None:
        """Let the response's body go through the middlewares that use it."""
        exchange, attempt = self._exchange, self._exchange.attempt
        stages = self._list_stages(self.chain.on_response_body, WHOLE_TOO_LARGE)
        if stages is None:
            return DISCARDED
        if stages and attempt is not None:
            flow = ResponseFlow(exchange, self, response)
            self.response_flow = self._response = flow
            flow.begin(stages, is_whole=is_whole)
            if exchange.is_finished:
                return DISCARDED
            side = self._find_side()
            side.response = flow
            attempt.client = side
            return RENDERED
        return None

    def on_body_timeout(self) -> bool:
        """Fail the request if a middleware waits too long for its body, or with it; return False if none does."""
        exchange, flow = self._exchange, self._request
        for body in (flow, self._response):
            if body is not None and body.is_waiting:
                call, error = body.waiting_call, TimeoutError(MIDDLEWARE_TIMEOUT.reason)
                if exchange.has_started_response:
                    self.on_body_failed(call, error)
                else:
                    self.fail(call, error, MIDDLEWARE_TIMEOUT)
                return True
        if flow is None or not flow.is_holding or not exchange.request_left:
            return False
        exchange.fail(ClientProtocolError(BODY_TIMEOUT, 408))
        return True

    def close_bodies(self) -> None:
        """End the uses of bodies that have not ended."""
        if self._request is not None:
            self._request.close()
        if self._response is not None:
            self._response.close()

    def reframe_body(self) -> None:
        """Keep the framing of the request's body, whose head was rewritten."""
        flow = self._request
        if flow is not None and self.attempts:
            flow.reframe()
