"""Feeds the events of sources to the engine, one task for each source, and restarts a source that fails.

Takes sources and the engine's `apply`. A failing source affects no other one, and its earlier events stay in effect.
Must not look into events.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from maesh_core.model.events import Event
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import Source

FIRST_PAUSE_S = 1.0
"""Pause before a failed source is restarted; it doubles with every consecutive failure."""
LONGEST_PAUSE_S = 30.0

Apply = Callable[[Sequence[Event], str], None]
Pause = Callable[[float], Awaitable[None]]

_log = logging.getLogger(__name__)


async def feed_source(source: Source, kinds: Sequence[ResourceKind], apply: Apply, *, pause: Pause) -> None:
    """Apply a source's batches, forever. If it raises or ends, that is logged and it is restarted."""
    pause_s = FIRST_PAUSE_S
    while True:
        has_succeeded = False
        reason: Exception | None = None
        batches = source.watch_events(kinds)
        try:
            async for batch in batches:
                apply(batch, source.name)
                has_succeeded = True
        except Exception as error:  # a source may raise anything
            reason = error
        finally:
            await _close(batches)
        pause_s = FIRST_PAUSE_S if has_succeeded else pause_s
        what = f"failed: {type(reason).__name__}: {reason}" if reason else "ended"
        _log.error("source %s %s; it is restarted in %g s", source.name, what, pause_s, exc_info=reason)
        await pause(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def _close(batches: AsyncIterator[Sequence[Event]]) -> None:
    """Close an asynchronous generator now, not when it is garbage-collected."""
    close = getattr(batches, "aclose", None)
    if close is not None:
        with suppress(Exception):  # it is not used any more
            await close()
