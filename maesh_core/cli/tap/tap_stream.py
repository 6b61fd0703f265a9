"""One tap of the mesh: follows one controller, and another one when that is lost.

Takes the controllers that there are, and a query; hands decoded items to a printer. Every controller's tap has the
records of all proxies, so one is enough. The tap of a lost controller is closed before another one is opened, so no
record is shown twice; how long there was none is shown instead. What controllers send is decoded strictly.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import msgspec

from maesh_core.controller.api_clients.controllers import LOST, ControllerApi
from maesh_core.errors import MaeshError
from maesh_core.model.tap import TapDrops, TapError, TappedRecord

PATH: Final = "/api/tap"
SILENCE_LIMIT_S: Final = 15.0
"""A controller that sends nothing for so long is lost: it sends an empty line every 3 s."""
SHORT_S: Final = 5.0
PAUSE_S: Final = 1.0
"""If a controller is lost so soon after it answered, there is a pause before another one is asked."""

Item = TappedRecord | TapDrops | TapError

_decode_record = msgspec.json.Decoder(TappedRecord).decode
_decode_drops = msgspec.json.Decoder(TapDrops).decode
_decode_error = msgspec.json.Decoder(TapError).decode


class Printer(Protocol):
    """Shows what a tap has to show."""

    def show(self, item: Item) -> None:
        """Show a record, or what is missing."""


class _Loss(msgspec.Struct, frozen=True):
    """A controller that was lost after it had answered, with the times of its first and its last data."""

    name: str
    answered_s: float
    received_s: float
    error: MaeshError


class TapStream:
    """The records of a mesh, as far as its controllers answer. `limit` is a number of records, 0 without a limit."""

    __slots__ = ("_clock", "_left", "_loss", "_pause", "_printer", "_query")

    def __init__(
        self,
        query: Mapping[str, str],
        printer: Printer,
        *,
        limit: int = 0,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._query = query
        self._printer = printer
        self._left = limit or None
        self._clock = clock
        self._pause = pause
        self._loss: _Loss | None = None

    def __repr__(self) -> str:
        return f"<TapStream {self._query}, {self._left} left>"

    async def follow_one(self, apis: Sequence[ControllerApi]) -> bool:
        """Follow the first controller that answers, other than the one that was lost last.

        Returns False once the limit is reached, and True if the controller is lost. Raises MaeshError if none answers.
        """
        loss, failure = self._loss, None
        if loss is not None:
            apis = [api for api in apis if api.name != loss.name]
            failure = loss.error
            if apis and loss.received_s - loss.answered_s < SHORT_S:
                await self._pause(PAUSE_S)
        for api in apis:
            try:
                self._loss = await self._follow(api, loss)
            except MaeshError as error:
                failure = failure or error
            else:
                return self._loss is not None
        raise failure or MaeshError("there is no controller")

    async def _follow(self, api: ControllerApi, previous: _Loss | None) -> _Loss | None:
        """Follow a controller until it is lost, or to the limit. Raises MaeshError if it does not answer."""
        query = self._query if self._left is None else {**self._query, "limit": str(self._left)}
        answered_s: float | None = None
        received_s = 0.0
        try:
            async with aclosing(api.follow(PATH, query, silence_limit_s=SILENCE_LIMIT_S)) as batches:
                async for lines in batches:
                    received_s = self._clock()
                    if answered_s is None:
                        answered_s = received_s
                        self._show_gap(previous, api.name, until_s=answered_s)
                    for line in lines:
                        if line.strip() and self._show(parse_line(line)):
                            return None
            raise MaeshError(f"{LOST} {api.name}: it has ended the tap")
        except MaeshError as error:
            if answered_s is None:
                raise
            return _Loss(api.name, answered_s, received_s, error)

    def _show(self, item: Item) -> bool:
        """Show an item; returns whether it is the last one."""
        self._printer.show(item)
        if isinstance(item, TappedRecord) and self._left is not None:
            self._left -= 1
        return self._left == 0

    def _show_gap(self, loss: _Loss | None, name: str, *, until_s: float) -> None:
        if loss is not None:
            reason = str(loss.error).removeprefix(f"{LOST} {loss.name}: ")
            text = f"{reason}; {name} is followed after a gap of {until_s - loss.received_s:.1f} s or more"
            self._printer.show(TapError(error=text, controller=loss.name))


def parse_line(line: bytes) -> Item:
    """Decode a line of a tap; raises MaeshError."""
    for decode in (_decode_record, _decode_drops):
        try:
            return decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            continue
    try:
        return _decode_error(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error
