"""Passes the content of one body through what middlewares do with it: their transforms, taps and whole bodies.

Takes content without framing, in the order in which it arrived, and passes the result to the methods that a subclass
implements (request_flow.py, response_flow.py). One piece is processed at a time. While a stage is awaited, or the
output is full, what arrives waits, and the subclass pauses its source. It never decides how a body is framed.
"""

import asyncio
import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final

from maesh_core.plugin_system.interfaces import Response, WholeBody
from maesh_core.proxy.http.collected import Collected
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES

PIECE_BYTES: Final = 65536
"""The largest piece that a stage gets at once: a larger one takes too long for one turn of the event loop."""
WHOLE_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""The most that a `WholeBody` may collect: every byte is held in memory."""
_NOTHING: Final = b""


class Stage:
    """What one middleware does with a body; `call` is the method that has returned it, and names the middleware.

    `is_gathering` means that nothing is passed on before the body has ended; `changes_length` that the body's length
    is not that of the original.
    """

    __slots__ = ("call", "changes_length", "has_ended", "is_gathering")

    def __init__(self, call: Callable[..., Any], *, changes_length: bool, is_gathering: bool = False) -> None:
        self.call = call
        self.changes_length = changes_length
        self.is_gathering = is_gathering
        self.has_ended = False

    @abstractmethod
    def feed(self, data: bytes) -> object:
        """Return the bytes to pass on for a piece, an awaitable of them, or a response. May raise anything."""

    @abstractmethod
    def end(self, trailers: bytes) -> object:
        """Return the bytes that follow the last piece, an awaitable of them, or a response. May raise anything."""

    @abstractmethod
    def close(self) -> None:
        """End without the rest of the body. May raise anything."""


class TransformStage(Stage):
    """A `BodyTransform`."""

    __slots__ = ("_end", "_feed", "_use")

    def __init__(self, call: Callable[..., Any], use: Any) -> None:
        super().__init__(call, changes_length=True)
        self._use = use
        self._feed: Callable[[bytes], object] = use.feed
        self._end: Callable[[bytes], object] = use.end

    def feed(self, data: bytes) -> object:
        """Transform a piece."""
        return self._feed(data)

    def end(self, trailers: bytes) -> object:
        """Transform the end."""
        return self._end(trailers)

    def close(self) -> None:
        """Close the transform."""
        self._use.close()


class TapStage(Stage):
    """A `BodyTap`. If it raises, it is dropped, because the body does not depend on it."""

    __slots__ = ("_note_failure", "_use")

    def __init__(self, call: Callable[..., Any], use: Any, note_failure: Callable[..., None]) -> None:
        super().__init__(call, changes_length=False)
        self._use = use
        self._note_failure = note_failure

    def feed(self, data: bytes) -> object:
        """Show a piece to the tap, and pass it on."""
        if self._use is not None:
            try:
                self._use.observe(data)
            except Exception as error:  # a tap's error does not concern the body
                self._drop(error)
        return data

    def end(self, trailers: bytes) -> object:
        """Tell the tap that the body is complete."""
        self._finish(is_complete=True)
        return _NOTHING

    def close(self) -> None:
        """Tell the tap that the body has ended early."""
        self._finish(is_complete=False)

    def _finish(self, *, is_complete: bool) -> None:
        use, self._use = self._use, None
        if use is not None:
            try:
                use.end(is_complete=is_complete)
            except Exception as error:  # a tap's error does not concern the body
                self._drop(error)

    def _drop(self, error: Exception) -> None:
        self._use = None
        self._note_failure(self.call, error, "the body passes without it")


class WholeStage(Stage):
    """A `WholeBody`: collects the pieces until the end, or until there are too many."""

    __slots__ = ("_collected", "_is_passing", "_room", "_too_large", "_use")

    def __init__(self, call: Callable[..., Any], use: WholeBody, too_large: Response, room: Collected) -> None:
        super().__init__(call, changes_length=True, is_gathering=True)
        self._room = room
        self._use = use
        self._too_large = too_large
        self._collected = bytearray()
        self._is_passing = False

    def is_too_large(self, size: int) -> bool:
        """Whether a body of this size exceeds the limit."""
        return size > min(self._use.limit_bytes, WHOLE_LIMIT_BYTES)

    def refuse_size(self, size: int) -> Response | None:
        """Handle a body that is known to have this size: return the answer if it is too large, or let it pass."""
        if not self.is_too_large(size):
            return None
        if not self._use.is_passed_if_larger:
            return self._too_large
        self._pass()
        return None

    def feed(self, data: bytes) -> object:
        """Collect a piece; if the body is too large, pass on what was collected, or return the answer."""
        if self._is_passing:
            return data
        if not self.is_too_large(len(self._collected) + len(data)) and self._room.reserve(len(data)):
            self._collected += data
            return _NOTHING
        if not self._use.is_passed_if_larger:
            return self._too_large
        collected = self._take() + data
        self._pass()
        return collected

    def end(self, trailers: bytes) -> object:
        """Let the middleware decide about the whole body."""
        if self._is_passing:
            return _NOTHING
        return self._use.decide(self._take())

    def close(self) -> None:
        """Drop what was collected."""
        self._take()

    def _pass(self) -> None:
        self._is_passing, self.is_gathering, self.changes_length = True, False, False

    def _take(self) -> bytes:
        """Return what was collected, and hold it no longer."""
        collected = bytes(self._collected)
        self._room.release(len(collected))
        self._collected.clear()
        return collected


def build_stage(
    call: Callable[..., Any], use: object, *, too_large: Response, room: Collected, note_failure: Callable[..., None]
) -> Stage:
    """Build the stage of what a middleware's method has returned. Raises TypeError."""
    if isinstance(use, WholeBody):
        return WholeStage(call, use, too_large, room)
    if callable(getattr(use, "end", None)):
        if callable(getattr(use, "observe", None)):
            return TapStage(call, use, note_failure)
        if callable(getattr(use, "feed", None)) and callable(getattr(use, "close", None)):
            return TransformStage(call, use)
    if inspect.iscoroutine(use):
        use.close()
    raise TypeError(f"expected a BodyTransform, a BodyTap, a WholeBody or None, not {type(use).__name__}")


def close_stages(stages: list[Stage], note_failure: Callable[..., None]) -> None:
    """End the stages that have not ended, without the rest of the body."""
    for stage in stages:
        if not stage.has_ended:
            stage.has_ended = True
            try:
                stage.close()
            except Exception as error:  # the body has ended, whatever the middleware does
                note_failure(stage.call, error, "its use of a body has ended anyway")


class BodyFlow:
    """One body on its way. `is_complete` means that its end has been passed on, `is_closed` that nothing more will be.

    Before `start`, it only collects. `_input` has content that no stage has seen yet, `_work` content on its way, each
    with the index of the next stage; the last one is the next to be processed.
    """

    __slots__ = (
        "_awaited",
        "_ended_stages",
        "_has_received_all",
        "_input",
        "_is_pumping",
        "_is_started",
        "_stages",
        "_task",
        "_trailers",
        "_work",
        "is_closed",
        "is_complete",
    )

    def __init__(self) -> None:
        self._stages: list[Stage] = []
        self._input = bytearray()
        self._work: list[tuple[bytes, int]] = []
        self._task: asyncio.Future[Any] | None = None
        self._awaited = 0
        self._ended_stages = 0
        self._trailers = b""
        self._is_started = False
        self._is_pumping = False
        self._has_received_all = False
        self.is_complete = False
        self.is_closed = False

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} stages={len(self._stages)} waiting={len(self._input)}/{len(self._work)}"
            f" complete={self.is_complete} closed={self.is_closed}>"
        )

    # --- implemented by subclasses

    @property
    @abstractmethod
    def can_write(self) -> bool:
        """Whether the output has room."""

    @abstractmethod
    def write_output(self, data: bytes) -> None:
        """Pass on content."""

    @abstractmethod
    def end_output(self, trailers: bytes) -> None:
        """Pass on the end of the body."""

    @abstractmethod
    def on_failed(self, call: Callable[..., Any], error: BaseException) -> None:
        """Handle a stage that has raised, or has returned something else than bytes."""

    @abstractmethod
    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count and log a stage that has raised, which has no other effect."""

    @abstractmethod
    def on_answer(self, response: Response) -> None:
        """Handle a stage that answers."""

    @abstractmethod
    def on_pumped(self) -> None:
        """Continue after content was processed, which may have ended the exchange: resume the source, for example."""

    # --- called by the source

    @property
    def is_waiting(self) -> bool:
        """Whether a stage is awaited."""
        return self._task is not None

    @property
    def waiting_call(self) -> Callable[..., Any]:
        """The method whose stage is awaited."""
        return self._stages[self._awaited].call

    @property
    def is_gathering(self) -> bool:
        """Whether a stage does not pass on anything before the body has ended."""
        for stage in self._stages:  # noqa: SIM110 - a generator takes three times as long
            if stage.is_gathering:
                return True
        return False

    @property
    def changes_length(self) -> bool:
        """Whether the body's length may differ from that of the original."""
        for stage in self._stages:  # noqa: SIM110 - a generator takes three times as long
            if stage.changes_length:
                return True
        return False

    @property
    def is_held_up(self) -> bool:
        """Whether so much content waits that no more should be read."""
        if not self._is_started:
            return len(self._input) > PENDING_LIMIT_BYTES
        return bool(self._input) or bool(self._work)

    def start(self, stages: list[Stage]) -> None:
        """Begin to process content."""
        self._stages = stages
        self._is_started = True
        self.pump()

    def pass_all(self) -> None:
        """Pass on what has arrived, and nothing more: what follows does not go through the flow."""
        self.is_closed = True
        if self._input:
            self.write_output(bytes(self._input))
            self._input.clear()
        if self._has_received_all:
            self.is_complete = True
            self.end_output(self._trailers)

    def feed(self, data: bytes) -> None:
        """Process content, or keep it."""
        if self.is_closed or not data:
            return
        if self._input or self._work or not self._is_started or len(data) > PIECE_BYTES:
            self._input += data
        else:
            self._work.append((data, 0))
        self.pump()

    def end(self, trailers: bytes) -> None:
        """Process the end of the content."""
        if not self.is_closed:
            self._has_received_all, self._trailers = True, trailers
            self.pump()

    def pump(self) -> None:
        """Process what waits, until a stage is awaited or the output is full."""
        if self._is_pumping or not self._is_started or self.is_closed:
            return
        self._is_pumping = True
        while self._can_step() and self._step():
            pass
        self._is_pumping = False
        self.on_pumped()

    def _can_step(self) -> bool:
        return self._task is None and not self.is_closed and self.can_write

    def close(self) -> None:
        """End early: nothing is passed on any more. Does nothing after the body's end."""
        if self.is_closed:
            return
        self.is_closed = True
        self._input.clear()
        self._work.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        close_stages(self._stages, self.note_failure)

    # --- processing

    def _step(self) -> bool:
        """Process one piece; return False if nothing is left to do now."""
        if self._work:
            data, position = self._work.pop()
            if position == len(self._stages):
                self.write_output(data)
            else:
                self._call(self._stages[position].feed, data, position)
        elif self._input:
            data = bytes(self._input[:PIECE_BYTES])
            del self._input[:PIECE_BYTES]
            self._push(data, 0)
        elif not self._has_received_all or self.is_complete:
            return False
        elif self._ended_stages < len(self._stages):
            position = self._ended_stages
            self._ended_stages += 1
            stage = self._stages[position]
            stage.has_ended = True
            self._call(stage.end, self._trailers, position)
        else:
            self.is_complete = self.is_closed = True
            self.end_output(self._trailers)
        return True

    def _push(self, data: bytes, position: int) -> None:
        """Let content continue at a stage, in pieces that are small enough for it."""
        if len(data) <= PIECE_BYTES or position == len(self._stages):
            if data:
                self._work.append((data, position))
            return
        starts = range(0, len(data), PIECE_BYTES)
        self._work.extend((data[start : start + PIECE_BYTES], position) for start in reversed(starts))

    def _call(self, method: Callable[[bytes], object], data: bytes, position: int) -> None:
        try:
            result = method(data)
        except Exception as error:  # a middleware's error ends only its exchange
            self._fail(position, error)
            return
        if isinstance(result, Awaitable):
            self._awaited = position
            self._task = asyncio.ensure_future(result)
            self._task.add_done_callback(self._on_done)
        else:
            self._apply(result, position)

    def _on_done(self, task: "asyncio.Future[Any]") -> None:
        """Continue with the result of an awaited stage."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._task is not task:  # the body has ended early
            return
        self._task = None
        if error is not None:
            self._fail(self._awaited, error)
        else:
            self._apply(task.result(), self._awaited)
        self.pump()

    def _apply(self, result: object, position: int) -> None:
        stage = self._stages[position]
        if isinstance(result, bytes):
            if stage.has_ended:
                stage.is_gathering = False
            self._push(result, position + 1)
        elif isinstance(result, Response) and isinstance(stage, WholeStage):
            self.close()
            self.on_answer(result)
        else:
            self._fail(position, TypeError(f"a use of a body returned {type(result).__name__}"))

    def _fail(self, position: int, error: BaseException) -> None:
        call = self._stages[position].call
        self.close()
        self.on_failed(call, error)
