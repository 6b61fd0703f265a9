"""What the leader writes to a cluster: shadow services, the configuration of DNS, Events and statuses.

Takes the changes of an engine, and marks for each keeper what it must check. While this controller does not lead,
changes are ignored, because the leader checks everything once when it starts to lead.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

from maesh_core.controller.cluster.dns_keeper import DnsKeeper
from maesh_core.controller.cluster.leader_election import LeaderElection
from maesh_core.controller.cluster.object_events import EventRecorder
from maesh_core.controller.cluster.shadow_keeper import ShadowKeeper
from maesh_core.controller.cluster.status_keeper import StatusKeeper
from maesh_core.controller.dns.patching import ClusterDns
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.model.keys import ObjectKey
from maesh_core.model.shadow_names import build_name, is_hashed

Pause = Callable[[float], Awaitable[None]]


class Term:
    """This controller's leadership, from when it knows all earlier writes; until then it writes nothing."""

    __slots__ = ("_election", "is_begun")

    def __init__(self, election: LeaderElection) -> None:
        self._election = election
        self.is_begun = False

    def __repr__(self) -> str:
        return f"<Term begun={self.is_begun} {self._election!r}>"

    @property
    def remaining_s(self) -> float:
        """How long this controller may write."""
        return self._election.remaining_s if self.is_begun else 0.0

    @property
    def is_leader(self) -> bool:
        """Whether this controller may write."""
        return self.remaining_s > 0


class LeaderWrites:
    """The keepers of what the leader writes. `mesh_namespace` is that of the shadow services."""

    __slots__ = ("_mesh_namespace", "_recorder", "_term", "dns", "engine", "shadows", "statuses")

    def __init__(
        self,
        client: KubernetesClient,
        engine: Engine,
        election: LeaderElection,
        *,
        mesh_namespace: str,
        cluster_domain: str,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._mesh_namespace = mesh_namespace
        self._term = term = Term(election)
        self.engine = engine
        self.shadows = ShadowKeeper(client, engine, term, mesh_namespace=mesh_namespace, pause=pause)
        self._recorder = EventRecorder(client, engine.reports.find_identified, term, clock=clock, pause=pause)
        dns = ClusterDns(client, mesh_namespace=mesh_namespace, cluster_domain=cluster_domain, pause=pause, clock=clock)
        self.dns = self._build_dns_keeper(dns, pause)
        self.statuses = StatusKeeper(client, engine.statuses, term, clock=clock, pause=pause)

    def __repr__(self) -> str:
        return f"<LeaderWrites {self._term!r}>"

    def _build_dns_keeper(self, dns: ClusterDns, pause: Pause) -> DnsKeeper:
        return DnsKeeper(
            dns,
            self._term,
            list_long=self._list_long,
            report=lambda key, error: self.engine.set_outside_errors(key, (error,) if error else (), aspect="DNS"),
            pause=pause,
        )

    def follow_engine(self) -> None:
        """Let the engine say what has changed from now on."""
        self.engine.on_built(self._mark_services)
        self.engine.reports.on_changed(self._record)
        self.engine.statuses.on_changed(self.statuses.mark)

    def run_keepers(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Return what each keeper runs, until cancelled."""
        yield self.shadows.run()
        yield self._recorder.run()
        yield self.statuses.run()
        yield self.dns.run()

    def begin(self) -> None:
        """Begin to write: this controller leads, and knows all earlier writes. Check everything once."""
        engine = self.engine
        self._term.is_begun = True
        engine.set_leading(is_leading=True)
        self._mark_services({*engine.list_services(), *engine.list_shadowed()})
        self._record(engine.reports.list_subjects())
        self.statuses.mark(engine.statuses.list_subjects())

    def end(self) -> None:
        """Write nothing from now on."""
        self._term.is_begun = False
        self.shadows.forget()
        self.statuses.forget()
        self.engine.set_leading(is_leading=False)

    def _mark_services(self, services: Iterable[ObjectKey]) -> None:
        if self._term.is_leader:
            self.shadows.mark(services)
            if any(is_hashed(self._mesh_namespace, service) for service in services):
                self.dns.mark()

    def _record(self, subjects: Iterable[Subject]) -> None:
        if self._term.is_leader:
            self._recorder.mark(subjects)

    def _list_long(self) -> dict[ObjectKey, str]:
        """List the services whose shadow services DNS cannot find by its general rule."""
        return {
            key: build_name(self._mesh_namespace, key)
            for key in self.engine.list_services()
            if is_hashed(self._mesh_namespace, key)
        }
