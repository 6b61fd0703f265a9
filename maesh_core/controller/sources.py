"""Feeds the events of sources to the engine, one task for each source, and restarts a source that fails.

Takes sources and the engine's `apply`. A failing source affects no other one, and its earlier events stay in effect.
Must not look into events.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from maesh_core.model.events import Event
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import Source

FIRST_PAUSE_S = 1.0
"""Pause before a failed source is restarted; it doubles with every consecutive failure."""
LONGEST_PAUSE_S = 30.0
SETTLED_S = 10.0
"""A source works again once it has done so for this long; otherwise a source that fails after each first batch would
be logged endlessly."""

Apply = Callable[[Sequence[Event], str], None]
Pause = Callable[[float], Awaitable[None]]

_log = logging.getLogger(__name__)


async def feed_source(source: Source, kinds: Sequence[ResourceKind], apply: Apply, *, pause: Pause) -> None:
    """Apply a source's batches, forever. If it raises or ends, it is restarted.

    The log has one line for a reason that repeats, and one when the source works again.
    """
    pause_s = FIRST_PAUSE_S
    failures = _FailureLog(source.name, pause)
    while True:
        has_succeeded = False
        reason: Exception | None = None
        batches = source.watch_events(kinds)
        try:
            async for batch in batches:
                apply(batch, source.name)
                has_succeeded = True
                failures.note_success()
        except Exception as error:  # a source may raise anything
            reason = error
        finally:
            failures.close()
            await _close(batches)
        pause_s = FIRST_PAUSE_S if has_succeeded else pause_s
        failures.note_failure(reason, pause_s)
        await pause(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


class _FailureLog:
    """Logs that a source fails, and that it works again: when it has worked for SETTLED_S."""

    __slots__ = ("_logged", "_name", "_pause", "_settling")

    def __init__(self, name: str, pause: Pause) -> None:
        self._name = name
        self._pause = pause
        self._logged = ""
        self._settling: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<_FailureLog {self._name} {self._logged or 'well'}>"

    def note_failure(self, reason: Exception | None, pause_s: float) -> None:
        """Log why the source failed or ended, unless this is already logged."""
        what = f"failed: {type(reason).__name__}: {reason}" if reason else "ended"
        if what != self._logged:
            _log.error("source %s %s; it is restarted in %g s", self._name, what, pause_s, exc_info=reason)
        self._logged = what

    def note_success(self) -> None:
        """Start to wait for SETTLED_S, if the source had failed."""
        if self._logged and self._settling is None:
            self._settling = asyncio.create_task(self._settle())

    def close(self) -> None:
        """Stop waiting, because the source has ended."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    async def _settle(self) -> None:
        await self._pause(SETTLED_S)
        _log.warning("source %s works again", self._name)
        self._logged = ""
        self._settling = None


async def _close(batches: AsyncIterator[Sequence[Event]]) -> None:
    """Close an asynchronous generator now, not when it is garbage-collected."""
    close = getattr(batches, "aclose", None)
    if close is not None:
        with suppress(Exception):  # it is not used any more
            await close()
