"""The source `manifests`: files and folders of Kubernetes manifests, watched for change.

Takes paths; yields batches of events: first a list of every kind, then changes. Files are read in a thread, so that the
event loop continues. A watch reports changes at once; a periodic sweep finds those that the watch cannot see. Must not
interpret the objects.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence

from maesh_core.controller.discovery.manifests.files import build_root
from maesh_core.controller.discovery.manifests.reading import ManifestReader
from maesh_core.controller.discovery.manifests.watching import FolderWatch
from maesh_core.errors import StartupError
from maesh_core.model.events import Event
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

SETTLE_S = 0.05
"""Time without changes after which a file is read; half-written YAML can be valid."""

SWEEP_S = 2.0
"""Interval between two comparisons of all files, which take at most 15 ms for 5,000 files: links, network file systems
and a full event queue hide changes from the watch."""

FIRST_WAIT_S = 1.0
"""How long the first list waits for files that are being written."""


class ManifestSource:
    """A `hookspecs.Source` of files and folders. A folder is read without its sub-folders unless `is_recursive`.

    `switches` explains how to enable the plugin of a kind that no enabled plugin reads. `makes_pods`: the first list
    has a pod for each workload, such as a Deployment, of namespaces without pods; changes are not followed so.
    """

    name = "manifests"

    def __init__(
        self,
        paths: Sequence[str],
        *,
        is_recursive: bool = False,
        settle_s: float = SETTLE_S,
        switches: Mapping[str, str] | None = None,
        makes_pods: bool = False,
    ) -> None:
        self._paths = tuple(dict.fromkeys(os.fspath(path) for path in paths))
        self._is_recursive = is_recursive
        self._settle_s = settle_s
        self._switches = switches
        self._makes_pods = makes_pods
        self.origins: Mapping[tuple[type[Resource], ObjectKey], str] = {}
        """Where the objects of the first list are defined, as `path document 2 line 10`."""

    def __repr__(self) -> str:
        return f"<ManifestSource {', '.join(self._paths)}>"

    def check_paths(self) -> None:
        """Raise StartupError, which names the path, if a path does not exist."""
        for path in self._paths:
            if not os.path.exists(path):
                raise StartupError(f"{path}: no such file or folder")

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncGenerator[Sequence[Event], None]:
        """Yield events of these kinds, forever, in batches; the first one lists every kind."""
        roots = [build_root(path, is_recursive=self._is_recursive) for path in self._paths]
        reader = ManifestReader(
            roots, kinds, settle_s=self._settle_s, switches=self._switches, makes_pods=self._makes_pods
        )
        watch = FolderWatch(roots)
        try:
            await watch.renew()  # before the first read, so that no change is missed
            await _load(reader)
            lists = reader.collect_lists()
            self.origins = reader.list_origins()
            yield lists
            next_sweep = time.monotonic() + SWEEP_S
            while True:
                next_due = reader.next_due()
                hints = await watch.wait(next_sweep if next_due is None else min(next_due, next_sweep))
                if watch.is_stale or time.monotonic() >= next_sweep:
                    await watch.renew()
                    await asyncio.to_thread(reader.sweep)
                    next_sweep = time.monotonic() + SWEEP_S
                events = await asyncio.to_thread(_process_hints, reader, hints)
                if events:
                    yield events
        finally:
            reader.stop()
            await watch.close()


async def _load(reader: ManifestReader) -> None:
    """Read all files that no longer change, and wait a while for the rest; later ones are reported as changes."""
    await asyncio.to_thread(reader.load)
    give_up = time.monotonic() + FIRST_WAIT_S
    while (due := reader.next_due()) is not None and (now := time.monotonic()) < give_up:
        await asyncio.sleep(min(due, give_up) - now)
        await asyncio.to_thread(reader.process_hints, {}, time.monotonic())


def _process_hints(reader: ManifestReader, hints: Mapping[str, bool]) -> list[Event]:
    reader.process_hints(hints, time.monotonic())
    return reader.collect_events()
