"""Leader election: the controller that holds the Lease (coordination.k8s.io/v1) leads, and renews it.

Takes a client and an identity; returns whether this controller leads, and for how long. Only this machine's own clock
is used, starting when a record is first seen (as in client-go), so clocks need not agree.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError

LEASE_NAME = "maesh-controller"
LEASE_S = 10
"""Duration of the lease: a leader that does not renew it for this long no longer leads."""
RETRY_S = 2.0
"""Pause between two renewals, and between two reads of another controller's lease."""
REQUEST_TIMEOUT_S = 3.0
GIVE_UP_TIMEOUT_S = 0.75
"""Time-out of each of the two requests at the end, which a server that hangs must not delay."""
LONGEST_LEASE_S = 60
"""Limit for the duration in a record; no controller writes a longer one."""
RELEASED_S = 1
"""The duration in a released record (as client-go writes it)."""
TRANSITIONS_LIMIT = 2**31 - 1
API_VERSION = "coordination.k8s.io/v1"

Pause = Callable[[float], Awaitable[None]]
OnChange = Callable[[bool], None]

_log = logging.getLogger(__name__)


class Client(Protocol):
    """The methods used of a client of the API server."""

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
    """One candidate. Call `run` in one task."""

    __slots__ = (
        *("_chance", "_client", "_clock", "_failure", "_has_lapsed", "_identity", "_is_fit", "_namespace", "_pause"),
        *("_record", "_record_seen_at", "_until", "_wall_clock", "_was_leader", "holder"),
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
        self._record: _Lease | None = None
        self._record_seen_at = 0.0
        self._until = float("-inf")
        self._was_leader = False
        self._has_lapsed = False
        self._failure = ""
        self.holder = ""
        """The identity of the leader, as far as known."""

    def __repr__(self) -> str:
        return f"<LeaderElection {self._identity} leader={self.is_leader} holder={self.holder}>"

    @property
    def remaining_s(self) -> float:
        """How long this controller still leads if it cannot reach the API server again; 0 if it does not lead."""
        return max(0.0, self._until - self._clock())

    @property
    def is_leader(self) -> bool:
        """Whether this controller leads now."""
        return self.remaining_s > 0

    async def run(self, on_change: OnChange) -> None:
        """Take part in the election until cancelled, then release the lease. Call `on_change` at every change."""
        try:
            while True:
                failure = ""
                try:
                    await self.attempt()
                except KubernetesError as error:
                    failure = str(error)
                if failure and failure != self._failure:
                    _log.warning("the lease %s could not be read or renewed: %s", LEASE_NAME, failure)
                if self._failure and not failure:
                    _log.warning("the lease %s can be read and renewed again", LEASE_NAME)
                self._failure = failure
                self._notify(on_change)
                pause_s = RETRY_S * (0.9 + self._chance() / 5)
                await self._pause(min(pause_s, self.remaining_s or pause_s))
                self._notify(on_change)  # report a lost lease before the next request, which may take long
        finally:
            if self.is_leader:
                await self._release()

    def _notify(self, on_change: OnChange) -> None:
        """Report a change; a lease that expired and was acquired again is two: another may have led."""
        is_leader = self.is_leader
        steps = (False, True) if self._has_lapsed and self._was_leader and is_leader else (is_leader,)
        self._has_lapsed = False
        for leads in steps:
            if leads != self._was_leader:
                self._was_leader = leads
                _log.warning("%s", "this controller leads now" if leads else "this controller no longer leads")
                on_change(leads)

    async def attempt(self) -> None:
        """Acquire, renew or read the lease, once. Raises KubernetesError."""
        sent_at = self._clock()
        lease = await self._read(REQUEST_TIMEOUT_S)
        # The time starts when the answer arrives. Starting before the request, a renewal in between would count as
        # older than it is, and two controllers could lead.
        was_seen_before = self._record is not None
        found = lease or _Lease()
        if found != self._record and (lease or was_seen_before):
            self._record, self._record_seen_at = found, self._clock()
        self.holder = found.spec.holder_identity or ""
        if lease is not None and self.holder != self._identity:
            self._until = float("-inf")
        if not self._is_fit():
            return
        if lease is None:
            # A deleted lease may still have a leader. That leader, and a controller that never saw the lease, need not
            # wait.
            if self.is_leader or not was_seen_before or self._is_free(found.spec):
                await self._write("POST", found, sent_at=sent_at)
        elif self.holder == self._identity or self._is_free(found.spec):
            await self._write("PUT", found, sent_at=sent_at)

    def _is_free(self, spec: _LeaseSpec) -> bool:
        """Whether nobody can hold the lease any more.

        A record that is neither held nor released, or that has a short duration, was not written by a controller. The
        leader may not have seen it yet, so its time starts when it was first seen, as for a held record.
        """
        if spec.holder_identity == "" and spec.lease_duration_seconds == RELEASED_S:
            return True
        duration_s = min(max(spec.lease_duration_seconds or LEASE_S, LEASE_S), LONGEST_LEASE_S)
        return self._clock() - self._record_seen_at > duration_s

    async def _write(self, method: str, found: _Lease, *, sent_at: float) -> None:
        """Write the lease with this controller as holder; a conflict means that another controller was faster."""
        now, old = _render_time(self._wall_clock()), found.spec
        is_renewal = old.holder_identity == self._identity
        is_transition = not is_renewal and old != _LeaseSpec()
        spec = _LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=LEASE_S,
            acquire_time=(old.acquire_time if is_renewal else None) or now,
            renew_time=now,
            lease_transitions=min(max(old.lease_transitions or 0, 0) + is_transition, TRANSITIONS_LIMIT),
        )
        try:
            await self._send(method, spec, found.metadata.resource_version, timeout_s=REQUEST_TIMEOUT_S)
        except KubernetesError as error:
            if error.status != 409:
                raise
            if not is_renewal:
                self._until = float("-inf")
            return
        self._has_lapsed |= not self.is_leader
        # Start before the request: the server can only have seen it later.
        self.holder, self._until = self._identity, sent_at + LEASE_S

    async def _read(self, timeout_s: float) -> _Lease | None:
        """Read the lease; None if it does not exist."""
        path = build_path(API_VERSION, "leases", namespace=self._namespace, name=LEASE_NAME)
        try:
            body = await self._client.send("GET", path, timeout_s=timeout_s)
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise
        return _parse_lease(body)

    async def _send(self, method: str, spec: _LeaseSpec, resource_version: str, *, timeout_s: float) -> None:
        name = "" if method == "POST" else LEASE_NAME
        path = build_path(API_VERSION, "leases", namespace=self._namespace, name=name)
        metadata = {"name": LEASE_NAME, "namespace": self._namespace}
        if resource_version:
            metadata["resourceVersion"] = resource_version
        body = {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
        await self._client.send(method, path, body, timeout_s=timeout_s)

    async def _release(self) -> None:
        """Release the lease, so that others need not wait until it expires."""
        self._until = float("-inf")
        try:
            lease = await self._read(GIVE_UP_TIMEOUT_S)
            if lease is not None and lease.spec.holder_identity == self._identity:
                free = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=RELEASED_S)
                await self._send("PUT", free, lease.metadata.resource_version, timeout_s=GIVE_UP_TIMEOUT_S)
        except KubernetesError as error:
            _log.warning("the lease %s could not be released: %s", LEASE_NAME, error)


def _parse_lease(body: bytes) -> _Lease:
    try:
        lease = msgspec.json.decode(body, type=_Lease)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the lease {LEASE_NAME} is malformed: {error}") from error
    if not lease.metadata.resource_version:
        raise KubernetesError(
            f"the lease {LEASE_NAME} has no resource version"
        )  # without it, a write would ignore conflicts
    return lease


def _render_time(seconds: float) -> str:
    """Render a MicroTime, as the API server does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
