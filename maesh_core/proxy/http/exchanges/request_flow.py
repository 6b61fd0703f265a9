"""The body of a request on its way through middlewares (body_flow.py): from the client to the attempts.

Takes content from the exchange, and passes the result to the current attempt, or stores it until there is one. Decides
how the body is framed towards the server. If a middleware wants the whole body, the first attempt begins after it has
decided; the client's 100 (Continue) then comes from the mesh.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, final

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import BODY_TOO_LARGE
from maesh_core.proxy.http.exchanges.body_flow import WHOLE_LIMIT_BYTES, BodyFlow, Stage, WholeStage
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.messages.request_head import CHUNKED, STREAMED
from maesh_core.proxy.http.messages.response_head import parse_response_head

TOO_LARGE: Final = Response(status=413, reason=BODY_TOO_LARGE)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"
_EXPECT: Final = b"Expect: 100-continue\r\n"


class RequestFlowUser(Protocol):
    """The part of a middleware run that its request's body uses."""

    def keep_body(self, body: bytes) -> None:
        """Store bytes of the body for another attempt."""

    def on_gathered(self) -> None:
        """Begin the first attempt, which has waited for the body."""

    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count and log a middleware that has failed."""

    def on_body_failed(self, call: Callable[..., Any], error: BaseException) -> None:
        """Handle a middleware that has failed with a body."""


@final
class RequestFlow(BodyFlow):
    """The body of a request. `is_holding` means that the first attempt waits for it.

    `_length` is the number of bytes to send, if all of them were known before the first attempt; otherwise -1.
    """

    __slots__ = ("_exchange", "_length", "_user", "is_holding")

    def __init__(self, exchange: Exchange, user: RequestFlowUser) -> None:
        super().__init__()
        self._exchange = exchange
        self._user = user
        self._length = -1
        self.is_holding = False

    def begin(self, stages: list[Stage]) -> None:
        """Begin to process content; the first attempt begins in `on_gathered`, at once or later."""
        exchange = self._exchange
        self._stages = stages
        answer = self._refuse_size(stages)
        if answer is not None:
            exchange.answer(answer)
            return
        self.is_holding = True
        if self.is_gathering and exchange.is_expecting:
            exchange.is_expecting = False
            exchange.client.write_informational(parse_response_head(_CONTINUE, is_head_request=False))
        self.start(stages)

    def _refuse_size(self, stages: list[Stage]) -> Response | None:
        """Return the answer to a body whose declared length is too large for the first stage that changes it."""
        head = self._exchange.head
        declared = head.body if head.body >= 0 else head.declared_length
        for stage in stages:
            if stage.changes_length:
                return stage.refuse_size(declared) if isinstance(stage, WholeStage) else None
        return None

    def reframe(self) -> None:
        """Set the head to send upstream, if the body is not framed as the client has framed it."""
        exchange = self._exchange
        head, length = exchange.head, self._length
        if length >= 0:
            body, framing = length, b"Content-Length: %d\r\n" % length
        elif self.changes_length or head.body == CHUNKED:
            body, framing = STREAMED, _CHUNKED_FIELD
        else:
            body, framing = head.body, head.framing.replace(_EXPECT, b"")
        if exchange.is_expecting:
            framing += _EXPECT
        if body != head.body or framing != head.framing:
            exchange.rewritten = (exchange.rewritten or head).reframe(body, framing)

    # --- implements BodyFlow

    @property
    def can_write(self) -> bool:
        """Whether the server, or the store for its request, has room."""
        if self.is_holding:
            return len(self._exchange.pending_body or b"") <= WHOLE_LIMIT_BYTES
        return not self._exchange.is_output_held_up

    def write_output(self, data: bytes) -> None:
        """Pass content to the attempt."""
        self._user.keep_body(data)
        self._exchange.pass_body(data)

    def end_output(self, trailers: bytes) -> None:
        """Pass the end to the attempt."""
        if self.is_holding and not trailers:
            self._length = len(self._exchange.pending_body or b"")
        self._exchange.pass_end(trailers)

    def on_failed(self, call: Callable[..., Any], error: BaseException) -> None:
        """Answer, or reset the connection."""
        self._user.on_body_failed(call, error)

    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count and log it."""
        self._user.note_failure(call, error, outcome)

    def on_answer(self, response: Response) -> None:
        """Answer in place of a server."""
        self._exchange.answer(response)

    def on_pumped(self) -> None:
        """Begin the first attempt if it has waited only for this; otherwise read on, or let the client wait."""
        exchange = self._exchange
        client = exchange.client
        if exchange.is_finished:
            return
        if self.is_holding and not self.is_gathering:
            self.is_holding = False
            self.reframe()
            self._user.on_gathered()
        elif exchange.is_body_held_up:
            client.pause_reading()
        elif client.is_read_paused:
            client.resume_reading()
        elif self.is_holding:
            client.wait_for_exchange()
