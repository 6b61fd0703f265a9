"""The body of a response on its way through middlewares (body_flow.py): from the server to the client.

Takes content from the attempt (body_side.py), and passes the result to the client. Decides how the body is framed
towards the client. The head is held back while a middleware collects the whole body, and if the body arrived together
with its head, so that its new length can be declared.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, final

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.exchanges.body_flow import WHOLE_LIMIT_BYTES, BodyFlow, Stage, WholeStage
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.run import ResponseBody
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import CHUNKED, STREAMED
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.transports import WRITE_HIGH_BYTES

_CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"


class ResponseFlowUser(Protocol):
    """The part of a middleware run that its response's body uses."""

    changed_response: Headers | None

    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count and log a middleware that has failed."""

    def on_body_failed(self, call: Callable[..., Any], error: BaseException) -> None:
        """Handle a middleware that has failed with a body."""


@final
class ResponseFlow(BodyFlow, ResponseBody):
    """The body of a response. `is_withheld` means that its head was not sent yet.

    While the head is withheld, what the stages return is collected in `_output`, up to `_output_limit` bytes.
    """

    __slots__ = (
        "_exchange",
        "_output",
        "_output_limit",
        "_response",
        "_sent_bytes",
        "_user",
        "is_withheld",
        "trailers",
    )

    def __init__(self, exchange: Exchange, user: ResponseFlowUser, response: ResponseHead) -> None:
        super().__init__()
        self._exchange = exchange
        self._user = user
        self._response = response
        self._output = bytearray()
        self._output_limit = WRITE_HIGH_BYTES
        self._sent_bytes = 0
        self.is_withheld = True
        self.trailers = b""
        """The trailer lines of the server's response, once they have arrived."""

    def begin(self, stages: list[Stage], *, is_whole: bool) -> None:
        """Prepare for the content; `is_whole` means that all of it arrives with the first call."""
        exchange = self._exchange
        self._stages = stages
        for stage in stages:
            if not stage.changes_length:
                continue
            if isinstance(stage, WholeStage) and (answer := stage.refuse_size(self._response.declared_length)):
                exchange.answer(answer)
                return
            break
        if self.is_gathering:
            self._output_limit = WHOLE_LIMIT_BYTES
        self.is_withheld = self.is_gathering or (is_whole and self.changes_length)
        self._is_started = True

    def send_head(self) -> None:
        """Send the head now, unless it is withheld; the content follows."""
        if not self.is_withheld:
            self._send_head(self.find_framing())

    def find_framing(self) -> ResponseHead:
        """Return the head whose framing fits a body of unknown length, or of the same length as the server's."""
        response = self._response
        if self.changes_length or response.left == CHUNKED:
            return response.reframe(STREAMED, _CHUNKED_FIELD)
        return response

    def _release(self, response: ResponseHead) -> None:
        """Send the head, and what was collected behind it."""
        self.is_withheld = False
        self._send_head(response)
        output = bytes(self._output)
        self._output.clear()
        if output:
            self._sent_bytes += len(output)
            self._exchange.client.write_content(output)

    def _send_head(self, response: ResponseHead) -> None:
        self._exchange.has_started_response = True
        self._exchange.client.start_response(response, self._user.changed_response, b"")

    def receive(self, data: bytes) -> None:
        """Process content. What the client gets counts as sent, not what the server has sent."""
        self.feed(data)
        if not self._exchange.is_finished:
            self._exchange.sent_bytes = self._sent_bytes

    # --- implements BodyFlow

    @property
    def can_write(self) -> bool:
        """Whether the client has room."""
        return self.is_withheld or not self._exchange.client.is_write_paused

    def write_output(self, data: bytes) -> None:
        """Send content to the client, or collect it behind the withheld head."""
        if self.is_withheld:
            self._output += data
            if not self.is_gathering and len(self._output) > self._output_limit:
                self._release(self.find_framing())
            return
        self._sent_bytes += len(data)
        self._exchange.client.write_content(data)

    def end_output(self, trailers: bytes) -> None:
        """End the response."""
        exchange = self._exchange
        if self.is_withheld:
            response = self._response
            if trailers:
                self._release(response.reframe(STREAMED, _CHUNKED_FIELD))
            else:
                size = len(self._output)
                self._release(response.reframe(size, b"Content-Length: %d\r\n" % size))
        exchange.sent_bytes = self._sent_bytes
        exchange.client.end_content(trailers)
        exchange.complete()

    def on_failed(self, call: Callable[..., Any], error: BaseException) -> None:
        """Answer, or reset the connection."""
        self._user.on_body_failed(call, error)

    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count and log it."""
        self._user.note_failure(call, error, outcome)

    def on_answer(self, response: Response) -> None:
        """Answer in place of the server."""
        self._exchange.answer(response)

    def on_pumped(self) -> None:
        """Pause the server while content waits, and read on afterwards."""
        exchange = self._exchange
        upstream = exchange.upstream
        if upstream is not None and not exchange.is_finished:
            if self.is_held_up:
                upstream.pause_reading()
            elif not exchange.client.is_write_paused:
                upstream.resume_reading()
