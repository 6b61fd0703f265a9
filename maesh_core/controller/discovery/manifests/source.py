"""The source `manifests`: files and folders of Kubernetes manifests, watched for change.

Takes paths, gives batches of events: first a list of every kind, then what changed. Files are read in a thread, so
that the loop goes on meanwhile. A watch tells what changed at once; a rare sweep finds what the watch cannot see.
Must not interpret the objects.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from maesh_core.controller.discovery.manifests.files import build_root
from maesh_core.controller.discovery.manifests.reading import ManifestReader
from maesh_core.controller.discovery.manifests.watching import FolderWatch
from maesh_core.errors import StartupError
from maesh_core.model.events import Event
from maesh_core.model.resources import ResourceKind

SETTLE_S = 0.05
"""How long a file must stand still before it is read; half-written YAML can be valid."""

SWEEP_S = 2.0
"""How often all files are looked at, at no more than 15 ms for 5,000: links, network file systems and a full event
queue hide changes from the watch."""

FIRST_WAIT_S = 1.0
"""How long the first list waits for files that are being written."""


class ManifestSource:
    """A `hookspecs.Source` of files and folders. A folder is read without its sub-folders unless `is_recursive`.

    `switches` says of kinds that no enabled plugin reads how that is switched on.
    """

    name = "manifests"

    def __init__(
        self,
        paths: Sequence[str],
        *,
        is_recursive: bool = False,
        settle_s: float = SETTLE_S,
        switches: Mapping[str, str] | None = None,
    ) -> None:
        self._paths = tuple(dict.fromkeys(os.fspath(path) for path in paths))
        self._is_recursive = is_recursive
        self._settle_s = settle_s
        self._switches = switches

    def __repr__(self) -> str:
        return f"<ManifestSource {', '.join(self._paths)}>"

    def check_paths(self) -> None:
        """Raise StartupError, which names it, if a path does not exist."""
        for path in self._paths:
            if not os.path.exists(path):
                raise StartupError(f"{path}: no such file or folder")

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Tell of the objects of these kinds, forever, a batch at a time; the first lists every kind."""
        roots = [build_root(path, is_recursive=self._is_recursive) for path in self._paths]
        reader = ManifestReader(roots, kinds, settle_s=self._settle_s, switches=self._switches)
        watch = FolderWatch(roots)
        try:
            await watch.renew()  # before the first look, so that no change falls between
            await _load(reader)
            yield reader.collect_lists()
            next_sweep = time.monotonic() + SWEEP_S
            while True:
                next_due = reader.next_due()
                hints = await watch.wait(next_sweep if next_due is None else min(next_due, next_sweep))
                if watch.is_stale or time.monotonic() >= next_sweep:
                    await watch.renew()
                    await asyncio.to_thread(reader.sweep)
                    next_sweep = time.monotonic() + SWEEP_S
                events = await asyncio.to_thread(_look, reader, hints)
                if events:
                    yield events
        finally:
            reader.stop()
            await watch.close()


async def _load(reader: ManifestReader) -> None:
    """Read all that stands still, and for a while wait for the rest; what still moves then comes as a change."""
    await asyncio.to_thread(reader.load)
    give_up = time.monotonic() + FIRST_WAIT_S
    while (due := reader.next_due()) is not None and (now := time.monotonic()) < give_up:
        await asyncio.sleep(min(due, give_up) - now)
        await asyncio.to_thread(reader.look, {}, time.monotonic())


def _look(reader: ManifestReader, hints: Mapping[str, bool]) -> list[Event]:
    reader.look(hints, time.monotonic())
    return reader.collect_events()
