"""Feeds what sources tell to the engine, one task each, and starts a source again that fails.

Takes sources and the engine's `apply`. A source harms nobody but itself: what it told stays. Must not look into events.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from maesh_core.model.events import Event
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import Source

FIRST_PAUSE_S = 1.0
"""Before a failed source is started again; doubles with every failure in a row."""
LONGEST_PAUSE_S = 30.0

Apply = Callable[[Sequence[Event], str], None]
Pause = Callable[[float], Awaitable[None]]

_log = logging.getLogger(__name__)


async def feed_source(source: Source, kinds: Sequence[ResourceKind], apply: Apply, *, pause: Pause) -> None:
    """Apply a source's batches, forever. One that raises or ends is told in the log and started again."""
    pause_s = FIRST_PAUSE_S
    while True:
        has_told = False
        reason: Exception | None = None
        batches = source.watch_events(kinds)
        try:
            async for batch in batches:
                apply(batch, source.name)
                has_told = True
        except Exception as error:  # the edge of the controller's run: a source may raise anything
            reason = error
        finally:
            await _close(batches)
        pause_s = FIRST_PAUSE_S if has_told else pause_s
        what = f"failed: {type(reason).__name__}: {reason}" if reason else "ended"
        _log.error("source %s %s; it is started again in %g s", source.name, what, pause_s, exc_info=reason)
        await pause(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def _close(batches: AsyncIterator[Sequence[Event]]) -> None:
    """End an asynchronous generator now, not when it is collected."""
    close = getattr(batches, "aclose", None)
    if close is not None:
        with suppress(Exception):  # it is being given up
            await close()
