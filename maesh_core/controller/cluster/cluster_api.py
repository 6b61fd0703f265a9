"""The cluster as plugins see it: requests, the watch of a single object, and reviews of tokens.

Takes a client of the API server; implements `ClusterApi` of plugin_system/controllers.py. No policy.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from maesh_core.controller.discovery.kubernetes.watch import Emit, KindWatch
from maesh_core.controller.kubernetes.client import REQUEST_TIMEOUT_S, KubernetesClient
from maesh_core.controller.kubernetes.paths import JSON
from maesh_core.controller.kubernetes.review_client import ReviewClient
from maesh_core.model.events import Applied, Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.model.token_identity import TokenIdentity


class PluginCluster:
    """The cluster of one controller. Close it before its client."""

    __slots__ = ("_client", "_clock", "_pause", "reviews")

    def __init__(
        self,
        client: KubernetesClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._pause = pause
        self.reviews = ReviewClient(client, clock=clock)

    def __repr__(self) -> str:
        return f"<PluginCluster {self._client!r}>"

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> bytes:
        """Send a request, `body` as JSON, and return the body of the response. Raises KubernetesError."""
        return await self._client.send(method, path, body, query=query, content_type=content_type, timeout_s=timeout_s)

    async def watch_object(
        self, kind: ResourceKind, key: ObjectKey, *, report: Callable[[str | None], None]
    ) -> AsyncGenerator[Resource | None, None]:
        """Yield an object when it is first read and after each change, forever; None if it is missing."""
        changes: asyncio.Queue[Resource | Exception | None] = asyncio.Queue(maxsize=1)
        watch = KindWatch(self._client, kind, key=key, clock=self._clock, pause=self._pause)

        async def emit(events: Sequence[Event]) -> None:
            for event in events:
                if isinstance(event, Problem):
                    report(event.text)
                else:
                    await changes.put(_find_result(event))

        task = asyncio.create_task(_run(watch, emit, changes))
        try:
            while True:
                found = await changes.get()
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def review_token(self, token: str, audiences: Sequence[str], *, source: str = "") -> TokenIdentity | None:
        """Return the owner of a token that is valid for one of the audiences; None if it is not."""
        return await self.reviews.review_token(token, audiences, source=source)

    async def review_access(self, identity: TokenIdentity, verb: str, path: str, *, source: str = "") -> bool:
        """Return whether an owner may use a path that is no resource."""
        return await self.reviews.review_access(identity, verb, path, source=source)

    async def close(self) -> None:
        """End all reviews."""
        await self.reviews.close()


async def _run(watch: KindWatch, emit: Emit, changes: "asyncio.Queue[Resource | Exception | None]") -> None:
    try:
        await watch.run(emit)
    except Exception as error:  # raised in the reader of the queue
        await changes.put(error)


def _find_result(event: Event) -> Resource | None:
    """Return the object after an event of a watch that has no others."""
    if isinstance(event, Applied):
        return event.resource
    return next(iter(event.resources), None) if isinstance(event, Replaced) else None
