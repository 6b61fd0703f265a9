"""Follows one kind of object in a cluster: lists it in pages, watches it, and lists it again after a failure.

Takes a client and a kind; emits batches of events, forever. Knows how long it has been without contact. A kind that the
server does not serve is an empty list until it appears. It only ends when it is cancelled.
"""

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.controller.discovery.kubernetes.objects import Change, ChangeType, Fault, ObjectDecoder, show_key
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.process.backoff import Backoff

PAGE_SIZE = 500
"""Objects per page of a list, as in kubectl."""
WATCH_S = (45, 60)
"""Range of the random time after which the server should end a watch, so that a dead connection is noticed by then."""
SILENCE_MARGIN_S = 10.0
"""A watch that has not ended by then hangs."""
LONGEST_LIST_PAUSE_S = 30.0
"""Pause between two attempts that each fetched a whole list without success; other attempts are cheap and more
frequent."""
ABSENT_S = 10.0
"""Interval for looking up a kind that the server does not serve."""
SETTLED_S = 10.0
"""A watch that lasts this long is successful. One that ends or fails earlier, whatever it delivered, is not retried at
once: otherwise a server that fails each watch after its first event would be listed endlessly."""
GONE = 410
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429

Emit = Callable[[Sequence[Event]], Awaitable[None]]
Pause = Callable[[float], Awaitable[None]]


class Client(Protocol):
    """The methods used of a client of the API server."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return the body of the response; raises KubernetesError."""

    def watch_lines(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> AsyncIterator[list[bytes]]:
        """Yield batches of lines, the first when the watch is established; raises KubernetesError."""


class _ApiResource(msgspec.Struct, frozen=True):
    name: str = ""


class _ApiResources(msgspec.Struct, frozen=True):
    """An APIResourceList."""

    resources: list[_ApiResource] | None = None


class KindWatch:
    """Follows one kind, or of a kind only the object `key`, which needs no permission for others."""

    __slots__ = (
        *("_backoff", "_chance", "_client", "_clock", "_decoder", "_faulty", "_has_listed", "_is_absent", "_key"),
        *("_kind", "_list_backoff", "_path", "_pause", "_resource_version", "broken_since", "failure"),
    )

    def __init__(
        self,
        client: Client,
        kind: ResourceKind,
        *,
        key: ObjectKey | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._kind = kind
        self._key = key
        self._decoder = ObjectDecoder(kind)
        self._clock = clock
        self._pause = pause
        self._chance = chance
        self._backoff = Backoff(chance=chance)
        self._list_backoff = Backoff(longest_s=LONGEST_LIST_PAUSE_S, chance=chance)
        self._has_listed = False
        self._path: str | None = None
        self._resource_version = ""
        self._is_absent = False
        self._faulty: set[ObjectKey] = set()
        self.broken_since: float | None = clock()
        """The time since which there is no contact, by the clock; None while there is contact."""
        self.failure = "not listed yet"

    def __repr__(self) -> str:
        where = "in touch" if self.broken_since is None else f"broken: {self.failure}"
        return f"<KindWatch {self._kind.plural} at {self._resource_version or 'no version'} {where}>"

    @property
    def kind(self) -> ResourceKind:
        """The kind that it follows."""
        return self._kind

    async def run(self, emit: Emit) -> None:
        """Follow the kind, forever."""
        while True:
            try:
                await self._follow(emit)
            except KubernetesError as error:
                await self._recover(error, emit)

    async def _follow(self, emit: Emit) -> None:
        """Do the next step: find the path, list, or watch until the server ends the watch."""
        if self._path is None:
            self._path = await find_path(self._client, self._kind, namespace=self._key.namespace if self._key else "")
            if self._path is None:
                await self._emit_absent(emit)
                self._backoff.reset()
                await self._pause(ABSENT_S * (0.75 + self._chance() / 2))
                return
        if not self._resource_version:
            await self._list(self._path, emit)
        await self._watch(self._path, emit)

    async def _recover(self, error: KubernetesError, emit: Emit) -> None:
        if error.status == GONE or error.reason in ("Expired", "Gone"):
            self._resource_version = ""  # the next list has the changes of the meantime
        if error.status == NOT_FOUND:
            self._path, self._resource_version = None, ""
        if self.broken_since is None:
            self.broken_since = self._clock()
        if self.failure != str(error):
            self.failure = str(error)
            await emit([Problem(self._origin, f"{self._kind.plural} cannot be followed: {error}")])
        is_list_lost = self._has_listed and not self._resource_version
        self._has_listed = self._has_listed and not is_list_lost
        backoff = self._list_backoff if is_list_lost else self._backoff
        await self._pause(backoff.next(at_least_s=error.retry_after_s))

    def withdraw_problems(self) -> list[Event]:
        """Withdraw any reported problem, because another source follows the kind from now on."""
        return [Problem(self._origin, None), *self._heal(self._faulty)]

    def _heal(self, keys: Iterable[ObjectKey]) -> list[Event]:
        return [Problem(self._name_origin(key), None) for key in sorted(keys)]

    @property
    def _selection(self) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._key.name}"} if self._key else {}

    @property
    def _origin(self) -> str:
        return f"kubernetes {self._kind.plural}"

    async def _emit_absent(self, emit: Emit) -> None:
        events: list[Event] = [] if self._is_absent else [Replaced(self._kind.type, ()), *self._heal(self._faulty)]
        self._faulty.clear()
        self._is_absent = True
        await self._emit_in_contact(events, emit)

    async def _emit_in_contact(self, events: list[Event], emit: Emit) -> None:
        """Emit events, and withdraw the problem if there was no contact before."""
        if self.broken_since is not None:
            self.broken_since, self.failure = None, ""
            events = [*events, Problem(self._origin, None)]
        if events:
            await emit(events)

    async def _list(self, path: str, emit: Emit) -> None:
        resources: list[Resource] = []
        faults: list[Fault] = []
        query = {"limit": str(PAGE_SIZE), **self._selection}
        while True:
            page = self._decoder.decode_page(await self._client.get(path, query))
            resources += page.resources
            faults += page.faults
            if not page.next:
                break
            if page.next == query.get("continue"):
                raise KubernetesError(f"the list of {self._kind.plural} does not get past one of its pages")
            query = {"limit": str(PAGE_SIZE), **self._selection, "continue": page.next}
        if not page.resource_version:
            raise KubernetesError(f"the list of {self._kind.plural} has no resource version")
        healed = self._faulty - {fault.key for fault in faults}
        self._faulty = {fault.key for fault in faults}
        # Emitted even if its version is lower: a cluster's store may be restored to an older state.
        await emit(
            [
                Replaced(self._kind.type, resources),
                *self._heal(healed),
                *map(self._build_problem, faults),
            ]
        )
        self._is_absent = False
        self._has_listed = True
        self._resource_version = page.resource_version

    async def _watch(self, path: str, emit: Emit) -> None:
        shortest, longest = WATCH_S
        timeout_s = shortest + round(self._chance() * (longest - shortest))
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._resource_version,
            "timeoutSeconds": str(timeout_s),
            **self._selection,
        }
        batches = self._client.watch_lines(path, query, silence_limit_s=timeout_s + SILENCE_MARGIN_S)
        established_at: float | None = None
        try:
            async for lines in batches:
                if established_at is None:
                    established_at = self._clock()
                await self._emit_in_contact([], emit)
                if lines:
                    await self._emit_lines(lines, emit)
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()  # closes its connection now, not when it is garbage-collected
            is_settled = established_at is not None and self._clock() - established_at >= SETTLED_S
            if is_settled:
                self._backoff.reset()
                self._list_backoff.reset()
        if not is_settled:
            await self._pause(self._backoff.next())

    async def _emit_lines(self, lines: Sequence[bytes], emit: Emit) -> None:
        """Emit the events of lines up to the first error; the version only advances with emitted events."""
        events: list[Event] = []
        version, failure = self._resource_version, None
        for line in lines:
            if not line.strip():
                continue
            try:
                change = self._decoder.decode_line(line)
            except KubernetesError as error:
                failure = error
                if error.status != TOO_MANY_REQUESTS:
                    version = ""  # the next list has the object of the line
                break
            version = change.resource_version or version
            events += self._build_events(change)
        if events:
            await emit(events)
        self._resource_version = version
        if failure is not None:
            raise failure

    def _build_events(self, change: Change) -> list[Event]:
        if change.type is ChangeType.BOOKMARK:
            return []
        events: list[Event] = []
        if change.fault is not None:
            self._faulty.add(change.key)
            events.append(self._build_problem(change.fault))
        elif change.key in self._faulty:
            self._faulty.discard(change.key)
            events.append(Problem(self._name_origin(change.key), None))
        if isinstance(change.result, Resource):
            return [*events, Applied(change.result)]
        return [*events, Deleted(self._kind.type, change.key)]

    def _build_problem(self, fault: Fault) -> Problem:
        return Problem(self._name_origin(fault.key), fault.text, self._kind.label, fault.key, fault.uid)

    def _name_origin(self, key: ObjectKey) -> str:
        return f"{self._origin} {show_key(key)}"


async def find_path(client: Client, kind: ResourceKind, *, namespace: str = "") -> str | None:
    """Find the path of a kind in the first of its versions that the server serves; None if it serves none.

    The path is that of one namespace, or of all.
    """
    for api_version in kind.api_versions:
        path = ("/apis/" if "/" in api_version else "/api/") + api_version
        try:
            body = await client.get(path)
        except KubernetesError as error:
            if error.status == NOT_FOUND:
                continue
            raise
        if kind.plural in _parse_resources(body):
            return build_path(api_version, kind.plural, namespace=namespace)
    return None


def _parse_resources(body: bytes) -> set[str]:
    try:
        found: Any = msgspec.json.decode(body, type=_ApiResources)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the server's list of its resources is malformed: {error}") from error
    return {resource.name for resource in found.resources or ()}
