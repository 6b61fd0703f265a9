"""The source `kubernetes`: the objects of a cluster, each kind listed and watched by a task of its own.

Takes a client of the API server, gives batches of events as they come; what several kinds tell at one time is one
batch. Says whether it is in touch with the cluster. Must not interpret the objects, nor write anything.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from maesh_core.discovery.kubernetes_watch import Client, KindWatch, Pause, find_path
from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.backoff import Backoff
from maesh_core.model.events import Event, Problem, Replaced
from maesh_core.model.resources import ResourceKind

QUEUE_LIMIT = 100
"""Batches that wait to be taken; a watch that is ahead waits."""

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
        self._watches: list[KindWatch] = []
        self._started_at = clock()

    def __repr__(self) -> str:
        return f"<KubernetesSource {self._watches}>"

    @property
    def out_of_touch_s(self) -> float:
        """For how long the kind that is worst off has been out of touch; 0 when all are followed."""
        if not self._watches:
            return self._clock() - self._started_at
        since = [watch.broken_since for watch in self._watches if watch.broken_since is not None]
        return self._clock() - min(since) if since else 0.0

    async def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Tell of the objects of these kinds, forever. A kind that the cluster does not have is an empty list."""
        backoff = Backoff()
        while True:
            try:
                chosen = await self._choose(kinds)
                break
            except KubernetesError as error:
                yield [Problem(self.name, f"the cluster cannot be read: {error}")]
                await self._pause(backoff.next(at_least_s=error.retry_after_s))
        yield [Problem(self.name, None), *(Replaced(kind.type, ()) for kind in kinds if kind not in chosen)]
        queue: asyncio.Queue[_Item] = asyncio.Queue(QUEUE_LIMIT)
        self._watches = [KindWatch(self._client, kind, clock=self._clock, pause=self._pause) for kind in chosen]
        tasks = [asyncio.create_task(_run_watch(watch, queue)) for watch in self._watches]
        try:
            while True:
                batch = _open(await queue.get())
                while not queue.empty():
                    batch += _open(queue.get_nowait())
                yield batch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _choose(self, kinds: Sequence[ResourceKind]) -> list[ResourceKind]:
        """Choose what is watched: nothing that only manifests hold, and no fallback beside what it stands in for."""
        preferred = {kind.fallback_of for kind in kinds}
        absent = [kind.type for kind in kinds if kind.type in preferred and not await find_path(self._client, kind)]
        return [kind for kind in kinds if kind.is_watched and (kind.fallback_of is None or kind.fallback_of in absent)]


async def _run_watch(watch: KindWatch, queue: asyncio.Queue[_Item]) -> None:
    try:
        await watch.run(queue.put)
    except Exception as error:  # told to who reads the queue, who starts the source again
        await queue.put(error)


def _open(item: _Item) -> list[Event]:
    if isinstance(item, Exception):
        raise item
    return list(item)
