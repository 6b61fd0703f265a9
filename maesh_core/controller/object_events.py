"""Tells errors where `kubectl describe` shows them: as Kubernetes Events on the objects they concern.

Takes what the engine finds wrong with a service, and with what concerns it; writes through a client, while this
controller leads. The same error of the same object is one Event, told again only when it has lasted or come back; all
Events together are rate-limited. An Event that cannot be written is dropped: it is news, not a record.
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

from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.paths import MERGE_PATCH, build_path
from maesh_core.model.keys import ObjectIdentity, ObjectKey

REASON = "MeshError"
COMPONENT = "maesh-controller"
MESSAGE_LIMIT_BYTES = 1000
"""Kubernetes documents 1,024 for a message."""
NAME_LIMIT = 200
"""Characters of an object's name in that of its Event, which may have 253 in all."""
AGAIN_S = 1800.0
"""An error that lasts is told again so often: API servers keep an Event for an hour."""
BURST = 50
"""So many Events may be written at once,"""
PER_SECOND = 2.0
"""and so many a second after that."""
LOOK_S = AGAIN_S / 10
"""Between two looks for errors that have lasted."""
CLUSTER_NAMESPACE = "default"
"""Where the Events of objects are that have no namespace."""
PENDING_LIMIT = 10_000
REMEMBERED_LIMIT = 20_000
TIMEOUT_S = 5.0

Pause = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


class Told(msgspec.Struct):
    """When an error was told last, on the clock, and how often."""

    at: float
    count: int


class Client(Protocol):
    """What is needed of a client of the API server."""

    async def send(
        self, method: str, path: str, body: Any = None, *, content_type: str = ..., timeout_s: float
    ) -> bytes:
        """Send a request; raises KubernetesError."""


class Lead(Protocol):
    """Whether this controller may write."""

    @property
    def is_leader(self) -> bool: ...  # noqa: D102


ErrorFinder = Callable[[ObjectKey], Mapping[ObjectIdentity, tuple[str, ...]]]


class EventRecorder:
    """Writes Events. `mark` may be called at any time, `run` in one task."""

    def __init__(
        self,
        client: Client,
        find_errors: ErrorFinder,
        lead: Lead,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._client = client
        self._find_errors = find_errors
        self._lead = lead
        self._clock = clock
        self._wall_clock = wall_clock
        self._pause = pause
        self._failing: set[ObjectKey] = set()
        self._pending: dict[tuple[ObjectIdentity, str], ObjectKey] = {}
        """What is to be told, in order, and the service that it was found with last."""
        self._told: dict[tuple[ObjectIdentity, str], Told] = {}
        self._allowance = float(BURST)
        self._allowed_at = clock()
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<EventRecorder pending={len(self._pending)} told={len(self._told)}>"

    def mark(self, services: Iterable[ObjectKey]) -> None:
        """Have the errors of these services looked at."""
        for service in services:
            found = self._find_errors(service)
            if found:
                self._failing.add(service)
            else:
                self._failing.discard(service)
            for identity, texts in found.items():
                for text in texts:
                    self._want(identity, _cut(text), service)
        if self._pending:
            self._wake.set()

    def _want(self, identity: ObjectIdentity, text: str, service: ObjectKey) -> None:
        told = self._told.get((identity, text))
        is_due = told is None or self._clock() - told.at >= AGAIN_S
        if is_due and (len(self._pending) < PENDING_LIMIT or (identity, text) in self._pending):
            self._pending[(identity, text)] = service

    async def run(self) -> None:
        """Write what is wanted, forever; what lasts is looked at again from time to time."""
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
                if self._can_tell(identity, text):
                    await self._wait_for_allowance()
                if self._can_tell(identity, text):  # still, for there may have been a wait
                    await self._write(identity, text)
                del self._pending[(identity, text)]

    def _can_tell(self, identity: ObjectIdentity, text: str) -> bool:
        """Say whether this controller leads and the error is there still: a long queue outlives many an error."""
        found = self._find_errors(self._pending[(identity, text)]) if self._lead.is_leader else {}
        return any(_cut(each) == text for each in found.get(identity, ()))

    async def _wait_for_allowance(self) -> None:
        now = self._clock()
        self._allowance = min(BURST, self._allowance + (now - self._allowed_at) * PER_SECOND)
        self._allowed_at = now
        self._allowance -= 1
        if self._allowance < 0:
            await self._pause(-self._allowance / PER_SECOND)

    async def _write(self, identity: ObjectIdentity, text: str) -> None:
        told = self._told.pop((identity, text), None) or Told(0.0, 0)
        told = self._told[(identity, text)] = Told(self._clock(), told.count + 1)  # last: the longest remembered
        if len(self._told) > REMEMBERED_LIMIT:
            del self._told[next(iter(self._told))]
        event = self._build(identity, text, told.count)
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            try:
                path = build_path("v1", "events", namespace=namespace)
                await self._client.send("POST", path, event, timeout_s=TIMEOUT_S)
            except KubernetesError as error:
                if error.status != 409:
                    raise
                told.count = max(told.count, 2)  # one that an earlier controller has written
                again = {"count": told.count, "lastTimestamp": event["lastTimestamp"]}
                path = build_path("v1", "events", namespace=namespace, name=name)
                await self._client.send("PATCH", path, again, content_type=MERGE_PATCH, timeout_s=TIMEOUT_S)
        except KubernetesError as error:
            _log.info("an Event on %s %s could not be written: %s", identity.kind, identity.key, error)

    def _build(self, identity: ObjectIdentity, text: str, count: int) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        digest = hashlib.sha256(f"{identity}{text}".encode()).hexdigest()[:16]
        namespace, name = identity.key
        prefix = name[:NAME_LIMIT].rstrip("-.")  # what is cut off may leave what no name ends with
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
            "reason": REASON,
            "message": text,
            "type": "Warning",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
        }


def _cut(text: str) -> str:
    """Cut a text to what a message may have; what cannot be written in UTF-8 is replaced."""
    encoded = text.encode(errors="replace")
    if len(encoded) > MESSAGE_LIMIT_BYTES:
        return encoded[: MESSAGE_LIMIT_BYTES - len("…".encode())].decode(errors="ignore") + "…"
    return encoded.decode()
