"""Watches folders through the operating system, and returns hints that paths changed.

Takes roots; returns changed paths. Watches folders, not files, because the watch of a replaced file is lost. `renew`
watches a folder again that was removed and recreated. Hints may be missing or superfluous; they decide nothing.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from watchfiles import Change, awatch

from maesh_core.controller.discovery.manifests.files import Root

logger = logging.getLogger(__name__)

_STEP_MS = 5
_DEBOUNCE_MS = 20
"""Time in which changes are collected: they are returned when none came for a step, or after this time."""

_WATCH_TIMEOUT_MS = 1000
"""Longest sleep of the watching thread, which limits how long stopping takes."""

_Changes = set[tuple[Change, str]]
_Identity = tuple[int, int]


class FolderWatch:
    """The watched folders of some roots. Use from one task; `close` it."""

    __slots__ = ("_complaint", "_queue", "_roots", "_stop", "_tasks", "_watched", "is_stale")

    def __init__(self, roots: Sequence[Root]) -> None:
        self._roots = roots
        self._queue: asyncio.Queue[_Changes] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._watched: dict[str, _Identity] = {}
        self._complaint = ""
        self.is_stale = False
        """Whether a watched folder was itself removed or replaced; its new inode may have the old number."""

    def __repr__(self) -> str:
        return f"<FolderWatch {len(self._watched)} folders {len(self._tasks)} tasks>"

    async def renew(self) -> None:
        """Watch the current folders. Costs nothing if they are already watched."""
        folders = {root.path if root.is_folder else os.path.dirname(root.path): root for root in self._roots}
        identities = {folder: identity for folder in folders if (identity := _identify(folder)) is not None}
        if identities == self._watched and not self.is_stale and not any(task.done() for task in self._tasks):
            if self._complaint:
                self._complaint = ""
                logger.warning("watching %s works again", ", ".join(identities))
            return
        await self.close()
        self.is_stale = False
        self._stop, self._watched = asyncio.Event(), identities
        deep = {root.path for root in self._roots if root.is_recursive} & identities.keys()
        for paths, is_deep in ((sorted(identities.keys() - deep), False), (sorted(deep), True)):
            if paths:
                self._tasks.append(asyncio.create_task(self._watch(paths, is_deep=is_deep)))
        await asyncio.sleep(0)  # lets the tasks register their watches, which they do before they first wait

    async def wait(self, until: float) -> dict[str, bool]:
        """Wait for changes, or until a monotonic time; true if something appeared and nothing else happened."""
        hints: dict[str, bool] = {}
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                _add_hints(hints, await self._queue.get())
        except TimeoutError:
            pass
        while not self._queue.empty():
            _add_hints(hints, self._queue.get_nowait())
        self.is_stale = self.is_stale or any(path in self._watched for path in hints)
        return hints

    async def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def _watch(self, paths: list[str], *, is_deep: bool) -> None:
        try:
            async for changes in awatch(
                *paths,
                watch_filter=None,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                rust_timeout=_WATCH_TIMEOUT_MS,
                recursive=is_deep,
                ignore_permission_denied=True,
            ):
                self._queue.put_nowait(changes)
        except (OSError, RuntimeError, ExceptionGroup) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("watching %s failed, so changes are seen late: %s", ", ".join(paths), error)


def _identify(folder: str) -> _Identity | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _add_hints(hints: dict[str, bool], changes: _Changes) -> None:
    for change, path in changes:
        hints[path] = change is Change.added and hints.get(path, True)
