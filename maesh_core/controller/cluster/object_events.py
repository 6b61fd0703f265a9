"""Publishes errors and notices as Kubernetes Events on the objects they concern, for `kubectl describe`.

Takes findings; writes through a client, while this controller leads. An error is a Warning, a notice is Normal. The
same text on the same object is one Event, which is written again only if the finding persists or returns. All Events
together are rate-limited. An Event that cannot be written is dropped.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from maesh_core.controller.kubernetes.paths import MERGE_PATCH, build_path
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.errors import KubernetesError
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectIdentity
from maesh_core.process.allowance import Allowance

ERROR = ("Warning", "MeshError")
"""Type and reason of the Event of an error."""
NOTICE = ("Normal", "MeshNotice")
"""Type and reason of the Event of a notice."""
COMPONENT = "maesh-controller"
MESSAGE_LIMIT_BYTES = 1000
"""Kubernetes documents 1,024 for a message."""
NAME_LIMIT = 200
"""Limit for the object's name in the name of its Event, in characters; an Event's name can have 253."""
AGAIN_S = 1800.0
"""Interval at which a lasting finding is written again: API servers keep an Event for an hour."""
BURST = 50
"""Number of Events that can be written at once."""
PER_SECOND = 2.0
"""Number of Events per second after that."""
LOOK_S = AGAIN_S / 10
"""Interval between two checks for lasting findings."""
CLUSTER_NAMESPACE = "default"
"""Namespace of the Events on objects that have no namespace."""
PENDING_LIMIT = 10_000
REMEMBERED_LIMIT = 20_000
TIMEOUT_S = 5.0

Sort = tuple[str, str]
Pause = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


class WrittenEvent(msgspec.Struct):
    """When a finding was last written, by the clock, and how often."""

    at: float
    count: int


class Client(Protocol):
    """The methods used of a client of the API server."""

    async def send(
        self, method: str, path: str, body: Any = None, *, content_type: str = ..., timeout_s: float
    ) -> bytes:
        """Send a request; raises KubernetesError."""


class Leadership(Protocol):
    """Whether this controller may write."""

    @property
    def is_leader(self) -> bool: ...  # noqa: D102


Finder = Callable[[Subject], Mapping[ObjectIdentity, Findings]]


class EventRecorder:
    """Writes Events. `mark` may be called at any time, `run` in one task."""

    def __init__(
        self,
        client: Client,
        find: Finder,
        leadership: Leadership,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._client = client
        self._find = find
        self._leadership = leadership
        self._clock = clock
        self._wall_clock = wall_clock
        self._failing: set[Subject] = set()
        self._pending: dict[tuple[ObjectIdentity, str], Subject] = {}
        """Texts to write, in order."""
        self._written: dict[tuple[ObjectIdentity, str], WrittenEvent] = {}
        self._allowance = Allowance(burst=BURST, per_second=PER_SECOND, clock=clock, pause=pause)
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<EventRecorder pending={len(self._pending)} written={len(self._written)}>"

    def mark(self, subjects: Iterable[Subject]) -> None:
        """Check these objects for new findings."""
        for subject in subjects:
            found = self._find(subject)
            if found:
                self._failing.add(subject)
            else:
                self._failing.discard(subject)
            for identity, findings in found.items():
                for text in findings.texts:
                    self._schedule(identity, _cut(text), subject)
        if self._pending:
            self._wake.set()

    def _schedule(self, identity: ObjectIdentity, text: str, subject: Subject) -> None:
        written = self._written.get((identity, text))
        is_due = written is None or self._clock() - written.at >= AGAIN_S
        if is_due and (len(self._pending) < PENDING_LIMIT or (identity, text) in self._pending):
            self._pending[(identity, text)] = subject

    async def run(self) -> None:
        """Write pending Events, forever; lasting findings are checked again from time to time."""
        look_at = self._clock() + LOOK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - self._clock())):
                    await self._wake.wait()
            self._wake.clear()
            if self._clock() >= look_at:
                look_at = self._clock() + LOOK_S
                self.mark(tuple(self._failing))
            while self._pending:
                identity, text = next(iter(self._pending))
                if self._find_sort(identity, text) is not None:
                    await self._allowance.wait()
                sort = self._find_sort(identity, text)  # checked again after the wait
                if sort is not None:
                    await self._write(identity, text, sort)
                del self._pending[(identity, text)]

    def _find_sort(self, identity: ObjectIdentity, text: str) -> Sort | None:
        """Find the type and reason of a text; None if this controller does not lead, or if the finding is gone."""
        found = self._find(self._pending[(identity, text)]) if self._leadership.is_leader else {}
        findings = found.get(identity, Findings())
        if any(_cut(each) == text for each in findings.errors):
            return ERROR
        return NOTICE if any(_cut(each) == text for each in findings.notices) else None

    async def _write(self, identity: ObjectIdentity, text: str, sort: Sort) -> None:
        written = self._written.pop((identity, text), None) or WrittenEvent(0.0, 0)
        written = self._written[(identity, text)] = WrittenEvent(
            self._clock(), written.count + 1
        )  # re-inserted at the end, so that it is remembered longest
        if len(self._written) > REMEMBERED_LIMIT:
            del self._written[next(iter(self._written))]
        event = self._build(identity, text, sort, written.count)
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            try:
                path = build_path("v1", "events", namespace=namespace)
                await self._client.send("POST", path, event, timeout_s=TIMEOUT_S)
            except KubernetesError as error:
                if error.status != 409:
                    raise
                written.count = max(written.count, 2)  # an earlier controller has written this Event
                again = {"count": written.count, "lastTimestamp": event["lastTimestamp"]}
                path = build_path("v1", "events", namespace=namespace, name=name)
                await self._client.send("PATCH", path, again, content_type=MERGE_PATCH, timeout_s=TIMEOUT_S)
        except KubernetesError as error:
            _log.info("an Event on %s %s could not be written: %s", identity.kind, identity.key, error)

    def _build(self, identity: ObjectIdentity, text: str, sort: Sort, count: int) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        digest = hashlib.sha256(f"{identity}{text}".encode()).hexdigest()[:16]
        namespace, name = identity.key
        prefix = name[:NAME_LIMIT].rstrip("-.")  # a cut name may end with characters that a name must not end with
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{prefix}.{digest}", "namespace": namespace or CLUSTER_NAMESPACE},
            "involvedObject": {
                "apiVersion": identity.api_version,
                "kind": identity.kind,
                "namespace": namespace,
                "name": name,
                "uid": identity.uid,
            },
            "reason": sort[1],
            "message": text,
            "type": sort[0],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
        }


def _cut(text: str) -> str:
    """Shorten a text to the limit of a message; characters that UTF-8 cannot encode are replaced."""
    encoded = text.encode(errors="replace")
    if len(encoded) > MESSAGE_LIMIT_BYTES:
        return encoded[: MESSAGE_LIMIT_BYTES - len("…".encode())].decode(errors="ignore") + "…"
    return encoded.decode()
