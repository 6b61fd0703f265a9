"""One kind of object in a cluster: listed page by page, then watched, and listed again when the watch cannot go on.

Takes a client and a kind, tells batches of events, forever. Knows for how long it has been out of touch. A kind that
the server does not serve is an empty list until it appears. Nothing ends it but being cancelled.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.discovery.kubernetes_objects import Change, ChangeType, Fault, ObjectDecoder
from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.backoff import Backoff
from maesh_core.kubernetes.paths import build_path
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

PAGE_SIZE = 500
"""Objects of a list that are asked for at a time, as kubectl does."""
WATCH_S = (45, 60)
"""The server is asked to end a watch after so long, by chance within these: one that is dead is found by then."""
SILENCE_MARGIN_S = 10.0
"""A watch that has not ended by then hangs."""
ABSENT_S = 10.0
"""How often a kind is looked for that the server does not serve."""
GONE = 410
NOT_FOUND = 404

Tell = Callable[[Sequence[Event]], Awaitable[None]]
Pause = Callable[[float], Awaitable[None]]


class Client(Protocol):
    """What is needed of a client of the API server."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Give the answer's body; raises KubernetesError."""

    def watch_lines(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> AsyncIterator[list[bytes]]:
        """Give lines, the first batch when the watch stands; raises KubernetesError."""


class _ApiResource(msgspec.Struct, frozen=True):
    name: str = ""


class _ApiResources(msgspec.Struct, frozen=True):
    """An APIResourceList."""

    resources: list[_ApiResource] | None = None


class KindWatch:
    """Follows one kind."""

    __slots__ = (
        *("_backoff", "_chance", "_client", "_clock", "_decoder", "_faulty", "_is_absent", "_kind", "_pause"),
        *("_path", "_resource_version", "broken_since", "failure"),
    )

    def __init__(
        self,
        client: Client,
        kind: ResourceKind,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._kind = kind
        self._decoder = ObjectDecoder(kind)
        self._clock = clock
        self._pause = pause
        self._chance = chance
        self._backoff = Backoff(chance=chance)
        self._path: str | None = None
        self._resource_version = ""
        self._is_absent = False
        self._faulty: set[ObjectKey] = set()
        self.broken_since: float | None = clock()
        """Since when it has been out of touch, on the clock; None while it is in touch."""
        self.failure = "not listed yet"

    def __repr__(self) -> str:
        where = "in touch" if self.broken_since is None else f"broken: {self.failure}"
        return f"<KindWatch {self._kind.plural} at {self._resource_version or 'no version'} {where}>"

    async def run(self, tell: Tell) -> None:
        """Tell of the kind, forever."""
        while True:
            try:
                await self._follow(tell)
                self._backoff.reset()
            except KubernetesError as error:
                await self._recover(error, tell)

    async def _follow(self, tell: Tell) -> None:
        """Do the next step: find the path, list, or watch until the server ends the watch."""
        if self._path is None:
            self._path = await find_path(self._client, self._kind)
            if self._path is None:
                await self._tell_absent(tell)
                await self._pause(ABSENT_S * (0.75 + self._chance() / 2))
                return
        if not self._resource_version:
            await self._list(self._path, tell)
        await self._watch(self._path, tell)

    async def _recover(self, error: KubernetesError, tell: Tell) -> None:
        if error.status == GONE or error.reason in ("Expired", "Gone"):
            self._resource_version = ""  # what happened meanwhile is found by listing anew
        if error.status == NOT_FOUND:
            self._path, self._resource_version = None, ""
        if self.broken_since is None:
            self.broken_since = self._clock()
        if self.failure != str(error):
            self.failure = str(error)
            await tell([Problem(self._origin, f"{self._kind.plural} cannot be followed: {error}")])
        await self._pause(self._backoff.next(at_least_s=error.retry_after_s))

    @property
    def _origin(self) -> str:
        return f"kubernetes {self._kind.plural}"

    async def _tell_absent(self, tell: Tell) -> None:
        if not self._is_absent:
            self._faulty.clear()
            await tell([Replaced(self._kind.type, ()), Problem(self._origin, None)])
        self._is_absent = True
        self._set_in_touch()

    def _set_in_touch(self) -> None:
        self.broken_since, self.failure = None, ""

    async def _list(self, path: str, tell: Tell) -> None:
        resources: list[Resource] = []
        faults: list[Fault] = []
        query = {"limit": str(PAGE_SIZE)}
        while True:
            page = self._decoder.decode_page(await self._client.get(path, query))
            resources += page.resources
            faults += page.faults
            if not page.next:
                break
            query = {"limit": str(PAGE_SIZE), "continue": page.next}
        if not page.resource_version:
            raise KubernetesError(f"the list of {self._kind.plural} has no resource version")
        healed = self._faulty - {fault.key for fault in faults}
        self._faulty = {fault.key for fault in faults}
        await tell(
            [
                Replaced(self._kind.type, resources),
                *(Problem(self._name_origin(key), None) for key in sorted(healed)),
                *(Problem(self._name_origin(fault.key), fault.text) for fault in faults),
                Problem(self._origin, None),
            ]
        )
        self._is_absent = False
        self._resource_version = page.resource_version

    async def _watch(self, path: str, tell: Tell) -> None:
        shortest, longest = WATCH_S
        timeout_s = shortest + round(self._chance() * (longest - shortest))
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        async for lines in self._client.watch_lines(path, query, silence_limit_s=timeout_s + SILENCE_MARGIN_S):
            if self.broken_since is not None:
                self._set_in_touch()
                await tell([Problem(self._origin, None)])
            if lines:
                await self._tell_lines(lines, tell)

    async def _tell_lines(self, lines: Sequence[bytes], tell: Tell) -> None:
        """Tell what lines say, up to one that is an error; the version moves only with what was told."""
        events: list[Event] = []
        version, failure = self._resource_version, None
        for line in lines:
            if not line.strip():
                continue
            try:
                change = self._decoder.decode_line(line)
            except KubernetesError as error:
                version, failure = "", error  # what the line was about is found by listing anew
                break
            version = change.resource_version or version
            events += self._build_events(change)
        if events:
            await tell(events)
            self._backoff.reset()
        self._resource_version = version
        if failure is not None:
            raise failure

    def _build_events(self, change: Change) -> list[Event]:
        if change.type is ChangeType.BOOKMARK:
            return []
        events: list[Event] = []
        if isinstance(change.result, Fault):
            self._faulty.add(change.key)
            events.append(Problem(self._name_origin(change.key), change.result.text))
        elif change.key in self._faulty:
            self._faulty.discard(change.key)
            events.append(Problem(self._name_origin(change.key), None))
        if isinstance(change.result, Resource):
            return [*events, Applied(change.result)]
        return [*events, Deleted(self._kind.type, change.key)]

    def _name_origin(self, key: ObjectKey) -> str:
        return f"{self._origin} {key}"


async def find_path(client: Client, kind: ResourceKind) -> str | None:
    """Find where the server serves a kind, in the first of its versions that it does; None where it does not."""
    for api_version in kind.api_versions:
        path = ("/apis/" if "/" in api_version else "/api/") + api_version
        try:
            body = await client.get(path)
        except KubernetesError as error:
            if error.status == NOT_FOUND:
                continue
            raise
        if kind.plural in _parse_resources(body):
            return build_path(api_version, kind.plural)
    return None


def _parse_resources(body: bytes) -> set[str]:
    try:
        found: Any = msgspec.json.decode(body, type=_ApiResources)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the server's list of what it serves is none: {error}") from error
    return {resource.name for resource in found.resources or ()}
