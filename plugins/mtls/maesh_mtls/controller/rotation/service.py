"""Follows the state of the authority in a controller, and, in the leader, does the steps of a rotation.

Every controller passes revocations, and what nodes should trust, on to the rules of the transport. Only the leader
writes; a write that another controller has overtaken is dropped, and the next look begins again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec

from maesh_core.plugin import ConfigurationError, ControllerNode, MetricFamily, NodeReport
from maesh_mtls.controller.authority.ca import SigningAuthority
from maesh_mtls.controller.authority.effective import get_key_id, is_adopted, read_effective
from maesh_mtls.controller.authority.state import SETTLED, AuthorityState, drop_ended, parse_state, render_state
from maesh_mtls.controller.authority.stores import (
    AuthorityStore,
    StoreConflictError,
    Stored,
    StoreError,
    StoreReadOnlyError,
)
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.controller.rotation.metrics import collect_certificates
from maesh_mtls.controller.rotation.steps import Change, MeshView, ReportedNode, find_waiting, step
from maesh_mtls.facts import CertificateFacts, parse_facts
from maesh_mtls.trust import hash_trust
from maesh_mtls.wire import MeshShare

ORIGIN: Final = "mtls rotation"
LOOK_S: Final = 60.0
"""Time between two looks while nothing happens: for reports of proxies, and what has ended."""
PREPARE_ATTEMPTS: Final = 30
PREPARE_PAUSE_S: Final = 1.0
ROTATION_LOOK_S: Final = 1.0
"""The same while a rotation is under way."""
LOG_PERIOD_S: Final = 600.0
SECONDS_PER_NODE: Final = 0.03
WITHIN_LIMIT_S: Final = 60.0
"""Nodes renew their certificates within this time; less with few nodes."""

_log = logging.getLogger(__name__)


class RotationService:
    """Implements `CountingService` and `PreparedService`."""

    name = "mtls rotation"

    def __init__(
        self,
        controller: ControllerNode,
        store: AuthorityStore,
        rules: MtlsRules,
        *,
        step_s: float,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._controller = controller
        self._store = store
        self._rules = rules
        self._step_s = step_s
        self._now = now
        self._pause = pause
        self._changed = asyncio.Event()
        self._logged: tuple[str, float] = ("", 0.0)
        self._state = AuthorityState()
        self._authority: SigningAuthority | None = None
        self._waiting: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"<RotationService {self._state.phase}>"

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            while True:
                self._changed.clear()
                await self.look()
                await self._wait(LOOK_S if self._state.phase == SETTLED else ROTATION_LOOK_S)

    async def prepare(self) -> None:
        """Use the revocations before the first configuration is built. Raises ConfigurationError."""
        for attempt in range(PREPARE_ATTEMPTS):
            try:
                stored = await self._store.load()
            except StoreError as error:
                if attempt == PREPARE_ATTEMPTS - 1:
                    raise ConfigurationError(f"{self._store.place}: {error}") from error
                await self._pause(PREPARE_PAUSE_S)
                continue
            self._state = parse_state(stored.rotation)
            with suppress(ConfigurationError):  # there may be no authority yet
                self._use(stored, self._state, read_effective(stored, self._moment()))
                return
            self._rules.use(self._state.revoked, None)
            return

    def wake(self) -> None:
        """Look at the store now."""
        self._changed.set()

    async def look(self) -> None:
        """Read the store, use what is in it, and do what is due."""
        try:
            stored = await self._store.load()
            if stored.version:  # otherwise the keeper makes an authority, or reports that there is none
                state = parse_state(stored.rotation)
                self._use(stored, state, read_effective(stored, self._moment()))
                await self._work(stored)
        except (StoreError, ConfigurationError) as error:
            self._note_problem(str(error))
        else:
            self._controller.report(ORIGIN, None)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of certificates and of the authority."""
        return collect_certificates(
            [read_facts(each) for each in self._controller.list_own_proxies() if each.is_active],
            self._state,
            self._authority,
            waiting=len(self._waiting),
            now=self._now(),
        )

    async def _watch(self) -> None:
        async for _ in self._store.watch():
            self.wake()

    async def _wait(self, seconds: float) -> None:
        waking = asyncio.ensure_future(self._changed.wait())
        pausing = asyncio.ensure_future(self._pause(seconds))
        try:
            await asyncio.wait((waking, pausing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waking, pausing):
                task.cancel()
            await asyncio.gather(waking, pausing, return_exceptions=True)

    def _use(self, stored: Stored, state: AuthorityState, authority: SigningAuthority) -> None:
        """Pass on what is in the store. Nodes follow an authority only once the leader has recorded it."""
        self._state, self._authority = state, authority
        share = None
        if is_adopted(stored):
            within_s = min(WITHIN_LIMIT_S, SECONDS_PER_NODE * 2 ** len(self._controller.mesh_nodes).bit_length())
            share = MeshShare(trust=hash_trust(authority.bundle), authority=get_key_id(authority), within_s=within_s)
        if self._rules.use(state.revoked, share):
            self._controller.refresh_transport()

    async def _work(self, stored: Stored) -> None:
        """Do the next step, if this controller leads."""
        reports, is_complete = await self._controller.list_proxies()
        view = build_view(reports, tuple(self._controller.mesh_nodes), self._now(), is_complete=is_complete)
        self._waiting = find_waiting(stored, view, self._now()) if is_adopted(stored) else ()
        if not self._controller.is_leader:
            return
        change = step(stored, view, self._now(), least_s=self._step_s) or self._drop_ended(stored)
        if change is None:
            return
        with suppress(StoreConflictError, StoreReadOnlyError):
            await self._store.write(change.files, render_state(change.state), version=stored.version)
            _log.warning("authority: %s", change.text)
            self.wake()

    def _drop_ended(self, stored: Stored) -> Change | None:
        state = parse_state(stored.rotation)
        kept = drop_ended(state, self._now())
        return None if kept == state else Change({}, kept, "revocations of certificates that have ended are dropped")

    def _note_problem(self, text: str) -> None:
        self._controller.report(ORIGIN, text)
        now = self._now()
        if text != self._logged[0] or now - self._logged[1] >= LOG_PERIOD_S:
            self._logged = (text, now)
            _log.error("the authority in use stays: %s: %s", self._store.place, text)

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)


def build_view(reports: Sequence[NodeReport], nodes: Sequence[str], now: float, *, is_complete: bool) -> MeshView:
    """Build what a rotation needs to know of the mesh: active proxies only."""
    proxies = []
    for report in reports:
        if report.is_active:
            facts = read_facts(report)
            has_certificate = facts.is_valid(now) or not _has_reported(report)
            proxies.append(ReportedNode(report.name, facts.trust, facts.authority, has_certificate))
    return MeshView(nodes, proxies, is_complete)


def read_facts(report: NodeReport) -> CertificateFacts:
    """Read the facts of a report. Those of another controller were checked there."""
    if report.transport is msgspec.UNSET:
        return CertificateFacts()
    try:
        return parse_facts(report.transport.facts)
    except msgspec.ValidationError:
        return CertificateFacts()


def _has_reported(report: NodeReport) -> bool:
    """Whether a proxy says anything; one that does not may have a certificate."""
    return report.transport is not msgspec.UNSET and bool(report.transport.facts)
