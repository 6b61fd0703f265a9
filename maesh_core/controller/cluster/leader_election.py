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

from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError

LEASE_NAME = "maesh-controller"
LEASE_S = 10
"""A leader that does not renew for so long is no leader any more."""
RETRY_S = 2.0
"""Between two renewals, and between two looks at another's lease."""
REQUEST_TIMEOUT_S = 3.0
GIVE_UP_TIMEOUT_S = 0.75
"""Of each of the two requests at the end, which a server that hangs must not hold up."""
LONGEST_LEASE_S = 60
"""A longer one in another's record is nothing that a controller has written."""
RELEASED_S = 1
"""What stands for the duration in a record that was given up (as client-go writes it)."""
TRANSITIONS_LIMIT = 2**31 - 1
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
        *("_chance", "_client", "_clock", "_failure", "_has_lapsed", "_identity", "_is_fit", "_namespace", "_pause"),
        *("_seen", "_seen_at", "_until", "_wall_clock", "_was_leader", "holder"),
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
        self._seen: _Lease | None = None
        self._seen_at = 0.0
        self._until = float("-inf")
        self._was_leader = False
        self._has_lapsed = False
        self._failure = ""
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
        """Stand for election until cancelled, then give up the lease. `on_change` hears of every change until then."""
        try:
            while True:
                failure = ""
                try:
                    await self.attempt()
                except KubernetesError as error:
                    failure = str(error)
                if failure and failure != self._failure:
                    _log.warning("the lease %s could not be held or looked at: %s", LEASE_NAME, failure)
                self._failure = failure
                self._tell(on_change)
                pause_s = RETRY_S * (0.9 + self._chance() / 5)
                await self._pause(min(pause_s, self.remaining_s or pause_s))
                self._tell(on_change)  # a lead that ends is told before a request that may take long
        finally:
            if self.is_leader:
                await self._give_up()

    def _tell(self, on_change: OnChange) -> None:
        """Tell of a change; a lead that lapsed and was taken again is two: others may have led meanwhile."""
        is_leader = self.is_leader
        steps = (False, True) if self._has_lapsed and self._was_leader and is_leader else (is_leader,)
        self._has_lapsed = False
        for leads in steps:
            if leads != self._was_leader:
                self._was_leader = leads
                _log.warning("%s", "this controller leads now" if leads else "this controller leads no more")
                on_change(leads)

    async def attempt(self) -> None:
        """Take, renew or look at the lease, once. Raises KubernetesError."""
        sent_at = self._clock()
        lease = await self._read(REQUEST_TIMEOUT_S)
        # Only now is it sure that the record was as it is: counted from before the request, a renewal that came
        # between would be taken for older than it is, and two would lead.
        was_ever_there = self._seen is not None
        found = lease or _Lease()
        if found != self._seen and (lease or was_ever_there):
            self._seen, self._seen_at = found, self._clock()
        self.holder = found.spec.holder_identity or ""
        if lease is not None and self.holder != self._identity:
            self._until = float("-inf")
        if not self._is_fit():
            return
        if lease is None:
            # One that was deleted may be led by still; its leader, and who never saw it, need not wait.
            if self.is_leader or not was_ever_there or self._is_free(found.spec):
                await self._write("POST", found, sent_at=sent_at)
        elif self.holder == self._identity or self._is_free(found.spec):
            await self._write("PUT", found, sent_at=sent_at)

    def _is_free(self, spec: _LeaseSpec) -> bool:
        """Say whether nobody can hold the lease any more.

        A record that is neither held nor given up, and one with a short duration, are no controller's work: whoever
        led may not have seen them yet, so they count from when they were seen, as one that is held does.
        """
        if spec.holder_identity == "" and spec.lease_duration_seconds == RELEASED_S:
            return True
        duration_s = min(max(spec.lease_duration_seconds or LEASE_S, LEASE_S), LONGEST_LEASE_S)
        return self._clock() - self._seen_at > duration_s

    async def _write(self, method: str, found: _Lease, *, sent_at: float) -> None:
        """Write the lease as ours; a conflict means that another was faster."""
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
        # Counted from before the request: the server can only have seen it later.
        self.holder, self._until = self._identity, sent_at + LEASE_S

    async def _read(self, timeout_s: float) -> _Lease | None:
        """Read the lease; None where there is none."""
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

    async def _give_up(self) -> None:
        """Leave the lease to whoever comes first; others would wait for its end otherwise."""
        self._until = float("-inf")
        try:
            lease = await self._read(GIVE_UP_TIMEOUT_S)
            if lease is not None and lease.spec.holder_identity == self._identity:
                free = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=RELEASED_S)
                await self._send("PUT", free, lease.metadata.resource_version, timeout_s=GIVE_UP_TIMEOUT_S)
        except KubernetesError as error:
            _log.warning("the lease %s could not be given up: %s", LEASE_NAME, error)


def _parse_lease(body: bytes) -> _Lease:
    try:
        lease = msgspec.json.decode(body, type=_Lease)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KubernetesError(f"the lease {LEASE_NAME} is none: {error}") from error
    if not lease.metadata.resource_version:
        raise KubernetesError(f"the lease {LEASE_NAME} has no resource version")  # it would be written over blindly
    return lease


def _render_time(seconds: float) -> str:
    """Write a MicroTime, as the API server does."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
