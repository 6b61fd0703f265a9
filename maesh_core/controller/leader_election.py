"""Which of several controllers writes: one holds a Lease (coordination.k8s.io/v1), renews it, and leads while it does.

Takes a client and an identity; says whether this controller leads, and for how long yet. Time is judged by this
machine's own clock alone, from when a record was first seen (as client-go does), so clocks need not agree.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.paths import build_path

LEASE_NAME = "maesh-controller"
LEASE_S = 10
"""A leader that does not renew for so long is no leader any more."""
RETRY_S = 2.0
"""Between two renewals, and between two looks at another's lease."""
REQUEST_TIMEOUT_S = 3.0
LONGEST_LEASE_S = 60
"""A longer one in another's record is nothing that a controller has written."""
API_VERSION = "coordination.k8s.io/v1"

Pause = Callable[[float], Awaitable[None]]
OnChange = Callable[[bool], None]

_log = logging.getLogger(__name__)


class Client(Protocol):
    """What is needed of a client of the API server."""

    async def send(self, method: str, path: str, body: Any = None, *, timeout_s: float) -> bytes:
        """Send a request; raises KubernetesError."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _LeaseSpec = _LeaseSpec()


class LeaderElection:
    """One candidate. Run it in one task."""

    __slots__ = (
        *("_chance", "_client", "_clock", "_identity", "_is_fit", "_namespace", "_pause", "_seen", "_seen_at"),
        *("_until", "_wall_clock", "holder"),
    )

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        identity: str,
        is_fit: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Pause = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._identity = identity
        self._is_fit = is_fit
        self._clock = clock
        self._wall_clock = wall_clock
        self._pause = pause
        self._chance = chance
        self._seen: _LeaseSpec | None = None
        self._seen_at = 0.0
        self._until = float("-inf")
        self.holder = ""
        """Who leads, as far as is known."""

    def __repr__(self) -> str:
        return f"<LeaderElection {self._identity} leader={self.is_leader} holder={self.holder}>"

    @property
    def remaining_s(self) -> float:
        """For how long this controller leads if it never reaches the API server again; 0 when it does not lead."""
        return max(0.0, self._until - self._clock())

    @property
    def is_leader(self) -> bool:
        """Whether this controller leads now."""
        return self.remaining_s > 0

    async def run(self, on_change: OnChange) -> None:
        """Stand for election until cancelled, then give up the lease. `on_change` hears of every change."""
        was_leader = False
        try:
            while True:
                try:
                    await self.attempt()
                except KubernetesError as error:
                    _log.warning("the lease %s could not be held or looked at: %s", LEASE_NAME, error)
                if self.is_leader != was_leader:
                    was_leader = self.is_leader
                    _log.warning("%s", "this controller leads now" if was_leader else "this controller leads no more")
                    on_change(was_leader)
                await self._pause(RETRY_S * (0.9 + self._chance() / 5))
        finally:
            if self.is_leader:
                await self._give_up()

    async def attempt(self) -> None:
        """Take, renew or look at the lease, once. Raises KubernetesError."""
        sent_at = self._clock()
        path = build_path(API_VERSION, "leases", namespace=self._namespace, name=LEASE_NAME)
        try:
            lease = _parse_lease(await self._client.send("GET", path, timeout_s=REQUEST_TIMEOUT_S))
        except KubernetesError as error:
            if error.status != 404 or not self._is_fit():
                raise
            await self._write("POST", _LeaseSpec(), resource_version="", sent_at=sent_at)
            return
        if lease.spec != self._seen:
            self._seen, self._seen_at = lease.spec, sent_at
        self.holder = lease.spec.holder_identity or ""
        if self.holder == self._identity and not self.is_leader:
            # A record of an earlier life under this name, or one that has lapsed: it is nobody's until it is taken.
            self._until = float("-inf")
        if self._is_fit() and (self.holder == self._identity or self._is_free(lease.spec)):
            await self._write("PUT", lease.spec, resource_version=lease.metadata.resource_version, sent_at=sent_at)

    def _is_free(self, spec: _LeaseSpec) -> bool:
        if not spec.holder_identity:
            return True
        duration_s = min(max(spec.lease_duration_seconds or LEASE_S, 1), LONGEST_LEASE_S)
        return self._clock() - self._seen_at > duration_s

    async def _write(self, method: str, old: _LeaseSpec, *, resource_version: str, sent_at: float) -> None:
        """Write the lease as ours; a conflict means that another was faster."""
        now = _render_time(self._wall_clock())
        is_renewal = old.holder_identity == self._identity
        spec = _LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=LEASE_S,
            acquire_time=(old.acquire_time if is_renewal else None) or now,
            renew_time=now,
            lease_transitions=(old.lease_transitions or 0) + (not is_renewal and old != _LeaseSpec()),
        )
        try:
            await self._send(method, spec, resource_version)
        except KubernetesError as error:
            if error.status == 409:
                self._until = float("-inf") if self.holder != self._identity else self._until
                return
            raise
        # Counted from before the request: the server can only have seen it later.
        self.holder, self._until = self._identity, sent_at + LEASE_S

    async def _send(self, method: str, spec: _LeaseSpec, resource_version: str) -> None:
        name = "" if method == "POST" else LEASE_NAME
        path = build_path(API_VERSION, "leases", namespace=self._namespace, name=name)
        metadata = {"name": LEASE_NAME, "namespace": self._namespace}
        if resource_version:
            metadata["resourceVersion"] = resource_version
        body = {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
        await self._client.send(method, path, body, timeout_s=REQUEST_TIMEOUT_S)

    async def _give_up(self) -> None:
        """Leave the lease to whoever comes first; others would wait for its end otherwise."""
        path = build_path(API_VERSION, "leases", namespace=self._namespace, name=LEASE_NAME)
        self._until = float("-inf")
        try:
            lease = _parse_lease(await self._client.send("GET", path, timeout_s=REQUEST_TIMEOUT_S))
            if lease.spec.holder_identity == self._identity:
                free = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=1)
                await self._send("PUT", free, lease.metadata.resource_version)
        except KubernetesError as error:
            _log.warning("the lease %s could not be given up: %s", LEASE_NAME, error)


def _parse_lease(body: bytes) -> _Lease:
    try:
        return msgspec.json.decode(body, type=_Lease)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the lease {LEASE_NAME} is none: {error}") from error


def _render_time(seconds: float) -> str:
    """Write a MicroTime, as the API server does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
