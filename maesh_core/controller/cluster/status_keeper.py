"""Writes the mesh's part of objects' statuses: brings those in the API server to the desired state.

Takes the desired statuses and a client. It writes only while this controller leads, only what differs, and at a limited
rate. A status that somebody else has changed is repaired when the watch reports the change. Every write names the
resource version that it was computed from; if somebody else was faster, the API server refuses it, and it is repeated.
After the watch has delivered the mesh's own write, no request is sent.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from maesh_core.controller.cluster.status_merging import merge_entries
from maesh_core.controller.cluster.work_queue import Leadership, WorkQueue
from maesh_core.controller.kubernetes.paths import APPLY_PATCH, JSON, build_path
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.reports.object_statuses import WantedStatus
from maesh_core.errors import KubernetesError
from maesh_core.process.allowance import Allowance

WRITERS = 4
BURST = 200
"""Number of statuses that can be written at once."""
PER_SECOND = 50.0
"""Number of statuses per second after that: those of 2,000 routes are written within 40 seconds."""
FIELD_MANAGER = "maesh-controller"
REQUEST_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 60.0
"""Longest pause before a failed write is repeated; a change is handled at once."""

_CONFLICT = 409
_GONE = 404
_log = logging.getLogger(__name__)


class Client(Protocol):
    """The methods used of a client of the API server."""

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float,
    ) -> bytes:
        """Send a request; raises KubernetesError."""


class StatusSource(Protocol):
    """The methods used of the desired statuses."""

    def find_wanted(self, subject: Subject) -> WantedStatus | None: ...  # noqa: D102


class _MissingError(KubernetesError):
    """There is no such object, or no such version."""


class _Settled(NamedTuple):
    """An object whose status is as desired: its version, and the one from which that was written."""

    uid: str
    versions: tuple[str, ...]
    entries: tuple[Mapping[str, Any], ...]

    def covers(self, wanted: WantedStatus) -> bool:
        """Whether nothing has to be done for an object."""
        is_known = wanted.uid == self.uid and wanted.resource_version in self.versions
        return is_known and wanted.entries == self.entries


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: dict[str, Any] | None = None


class StatusKeeper:
    """Writes the statuses of marked objects. `mark` may be called at any time, `run` in one task."""

    def __init__(
        self,
        client: Client,
        statuses: StatusSource,
        leadership: Leadership,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._statuses = statuses
        self._wall_clock = wall_clock
        self._queue = WorkQueue(
            self._process, leadership, writers=WRITERS, longest_pause_s=LONGEST_PAUSE_S, pause=pause
        )
        self._allowance = Allowance(burst=BURST, per_second=PER_SECOND, clock=clock, pause=pause)
        self._settled: dict[Subject, _Settled] = {}
        self._versions: dict[str, str] = {}
        """The version of each kind that the API server serves."""
        self._failures: dict[Subject, str] = {}
        self.writes: Counter[tuple[str, ...]] = Counter()
        """Requests that wrote a status, by result."""

    def __repr__(self) -> str:
        return f"<StatusKeeper {self._queue!r} failing={len(self._failures)}>"

    @property
    def failing(self) -> int:
        """The number of objects whose status cannot be written."""
        return len(self._failures)

    def mark(self, subjects: Iterable[Subject]) -> None:
        """Schedule a check of the statuses of these objects."""
        self._queue.mark(subjects)

    def forget(self) -> None:
        """Drop all marks and everything that is known: another controller leads now, and checks everything."""
        self._queue.forget()
        self._failures.clear()
        self._settled.clear()

    async def run(self) -> None:
        """Check what is marked, forever; while this controller does not lead, marks are dropped."""
        await self._queue.run()

    async def _process(self, subject: Subject) -> None:
        try:
            await self.reconcile(subject)
        except KubernetesError as failure:
            if self._queue.is_leading:
                if failure.status != _CONFLICT:
                    self._report(subject, str(failure))
                self._queue.retry(subject, failure.retry_after_s)
        else:
            self._queue.note_success(subject)
            if self._failures.pop(subject, None) is not None and not self._failures:
                _log.warning("the statuses of all objects can be written again")

    def _report(self, subject: Subject, text: str) -> None:
        """Log a failure; if others fail too, which often has the same cause, that is only counted."""
        if not self._failures:
            _log.warning("the status of %s cannot be written: %s", subject, text)
        self._failures[subject] = text

    async def reconcile(self, subject: Subject) -> None:
        """Bring the status of one object to its desired state. Raises KubernetesError, and NotLeadingError."""
        wanted = self._statuses.find_wanted(subject)
        if wanted is None:
            self._settled.pop(subject, None)
            return
        settled = self._settled.get(subject)
        if settled is not None and settled.covers(wanted):
            return
        try:
            version, found = await self._read(wanted)
            if (found.metadata.uid, found.metadata.resource_version) != (wanted.uid, wanted.resource_version):
                raise KubernetesError("the watch has not reported the last change yet", status=_CONFLICT)
            merged = self._merge(wanted, found)
            if merged is not None:
                await self._allowance.wait()
                if self._statuses.find_wanted(subject) != wanted:
                    self.mark((subject,))
                    return
                found = await self._write(wanted, version, merged)
        except KubernetesError as error:
            if error.status != _GONE:
                raise
            self._settled.pop(subject, None)  # the watch reports the deletion
            return
        versions = (wanted.resource_version, found.metadata.resource_version)
        self._settled[subject] = _Settled(wanted.uid, versions, wanted.entries)

    async def _read(self, wanted: WantedStatus) -> tuple[str, _Object]:
        """Read an object in the first version that has it, which is returned too. Raises KubernetesError."""
        kind = wanted.kind
        known = self._versions.get(kind.label)
        *others, last = sorted(kind.api_versions, key=lambda version: version != known)
        for version in others:
            with suppress(_MissingError):
                return await self._read_version(wanted, version)
        return await self._read_version(wanted, last)

    async def _read_version(self, wanted: WantedStatus, version: str) -> tuple[str, _Object]:
        try:
            found = _parse(await self._send("GET", wanted, version))
        except KubernetesError as error:
            raise (_MissingError(str(error), status=error.status) if error.status == _GONE else error) from error
        self._versions[wanted.kind.label] = version
        return version, found

    def _merge(self, wanted: WantedStatus, found: _Object) -> list[Any] | None:
        now = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        current = (found.status or {}).get(wanted.field)
        return merge_entries(current, wanted.entries, condition_types=wanted.condition_types, now=now)

    async def _write(self, wanted: WantedStatus, version: str, merged: list[Any]) -> _Object:
        """Apply the list; the resource version makes the API server refuse it if somebody else was faster."""
        namespace, name = wanted.key
        metadata = {"name": name, "uid": wanted.uid, "resourceVersion": wanted.resource_version}
        body = {
            "apiVersion": version,
            "kind": wanted.kind.name,
            "metadata": metadata | ({"namespace": namespace} if namespace else {}),
            "status": {wanted.field: merged},
        }
        try:
            written = _parse(await self._send("PATCH", wanted, version, body))
        except KubernetesError:
            self.writes["failed",] += 1
            raise
        self.writes["written",] += 1
        return written

    async def _send(self, method: str, wanted: WantedStatus, version: str, body: Any = None) -> bytes:
        timeout_s = self._queue.limit_request_s(REQUEST_TIMEOUT_S)
        namespace, name = wanted.key
        place = (version, wanted.kind.plural)
        if body is None:
            return await self._client.send(
                method, build_path(*place, namespace=namespace, name=name), timeout_s=timeout_s
            )
        return await self._client.send(
            method,
            build_path(*place, namespace=namespace, name=name, subresource="status"),
            body,
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            content_type=APPLY_PATCH,
            timeout_s=timeout_s,
        )


def _parse(body: bytes) -> _Object:
    try:
        return msgspec.json.decode(body, type=_Object)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the response is not an object with a status: {error}") from error
