"""The source `kubernetes`: the objects of a cluster; one task lists and watches each kind.

Takes a client of the API server; yields batches of events. Events of several kinds that arrive together form one batch.
Reports whether it has contact with the cluster. Must not interpret objects, nor write anything.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from maesh_core.controller.discovery.kubernetes.watch import Client, KindWatch, Pause, find_path
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Event, Problem, Replaced
from maesh_core.model.resources import ResourceKind
from maesh_core.process.backoff import Backoff

QUEUE_LIMIT = 100
"""Limit of queued batches; a watch that is ahead waits."""

_Item = Sequence[Event] | Exception


class KubernetesSource:
    """A `hookspecs.Source` of one cluster."""

    name = "kubernetes"

    def __init__(
        self, client: Client, *, clock: Callable[[], float] = time.monotonic, pause: Pause = asyncio.sleep
    ) -> None:
        self._client = client
        self._clock = clock
        self._pause = pause
        self._watches: list[KindWatch] | None = None
        """None before the start, and while it waits to be restarted."""
        self._lost_at = clock()
        self._withdrawn: list[Event] = []

    def __repr__(self) -> str:
        return f"<KubernetesSource {'not following' if self._watches is None else self._watches}>"

    @property
    def out_of_touch_s(self) -> float:
        """How long the worst kind has been without contact; 0 if all are followed."""
        lost_at = self._find_lost_at()
        return 0.0 if lost_at is None else self._clock() - lost_at

    def _find_lost_at(self) -> float | None:
        if self._watches is None:
            return self._lost_at
        since = [watch.broken_since for watch in self._watches if watch.broken_since is not None]
        return min(since, default=None)

    def is_followed(self, kind: ResourceKind) -> bool:
        """Whether there is contact with the cluster about a kind; a kind that is not watched needs none."""
        if self._watches is None:
            return False
        return not any(watch.kind is kind and watch.broken_since is not None for watch in self._watches)

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncGenerator[Sequence[Event], None]:
        """Yield events of these kinds, forever. A kind that the cluster does not have is an empty list."""
        backoff = Backoff()
        while True:
            try:
                chosen = await self._choose(kinds)
                break
            except KubernetesError as error:
                yield [Problem(self.name, f"the cluster cannot be read: {error}")]
                await self._pause(backoff.next(at_least_s=error.retry_after_s))
        absent = [Replaced(kind.type, ()) for kind in kinds if kind not in chosen]
        yield [Problem(self.name, None), *self._withdrawn, *absent]
        queue: asyncio.Queue[_Item] = asyncio.Queue(QUEUE_LIMIT)
        watches = [KindWatch(self._client, kind, clock=self._clock, pause=self._pause) for kind in chosen]
        self._watches = watches
        tasks = [asyncio.create_task(_run_watch(watch, queue)) for watch in watches]
        try:
            while True:
                items = [await queue.get()]
                while not queue.empty():
                    items.append(queue.get_nowait())
                batch = [event for item in items if not isinstance(item, Exception) for event in item]
                if batch:
                    yield batch
                for item in items:
                    if isinstance(item, Exception):
                        raise item
        finally:
            lost_at = self._find_lost_at()
            self._lost_at = self._clock() if lost_at is None else lost_at
            self._watches = None
            self._withdrawn = [problem for watch in watches for problem in watch.withdraw_problems()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _choose(self, kinds: Sequence[ResourceKind]) -> list[ResourceKind]:
        """Choose the watched kinds, without those of manifests only, and fallbacks for kinds that are there."""
        preferred = {kind.fallback_of for kind in kinds}
        present = [kind.type for kind in kinds if kind.type in preferred and await find_path(self._client, kind)]
        return [kind for kind in kinds if kind.is_watched and kind.fallback_of not in present]


async def _run_watch(watch: KindWatch, queue: asyncio.Queue[_Item]) -> None:
    try:
        await watch.run(queue.put)
    except Exception as error:  # raised in the reader of the queue, whose caller restarts the source
        await queue.put(error)
