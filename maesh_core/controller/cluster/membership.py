"""This controller's part in a cluster: the source of its objects and, while it leads, the writes to the cluster.

Connects election, shadow services, statuses, Events and DNS to an engine. Every replica reads and serves. Only the
leader writes, and it checks everything once when it starts to lead.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from maesh_core.controller.cluster.cluster_metrics import collect_cluster_metrics
from maesh_core.controller.cluster.dns_keeper import DnsKeeper
from maesh_core.controller.cluster.leader_election import LeaderElection
from maesh_core.controller.cluster.object_events import EventRecorder
from maesh_core.controller.cluster.shadow_keeper import ShadowKeeper
from maesh_core.controller.cluster.status_keeper import StatusKeeper
from maesh_core.controller.discovery.kubernetes.objects import ObjectDecoder
from maesh_core.controller.discovery.kubernetes.source import KubernetesSource
from maesh_core.controller.discovery.kubernetes.watch import PAGE_SIZE
from maesh_core.controller.dns.patching import ClusterDns
from maesh_core.controller.engine import Engine
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.controller.ports.port_table import GRACE_S
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import LABELS, build_name, is_hashed
from maesh_core.process.backoff import Backoff

STALE_S = 60.0
"""A controller without contact with the cluster for this long is not ready and does not lead."""
CONTACT_CHECK_S = 5.0
"""Interval for noticing that the contact was lost, or is back."""
FIRST_LOOK_S = 0.05
LONGEST_LOOK_S = 2.0
"""Pause between two checks whether the watch has delivered what was written."""

Pause = Callable[[float], Awaitable[None]]

_log = logging.getLogger(__name__)


class _Term:
    """This controller's leadership, from when it knows all earlier writes; until then it writes nothing."""

    __slots__ = ("_election", "is_begun")

    def __init__(self, election: LeaderElection) -> None:
        self._election = election
        self.is_begun = False

    def __repr__(self) -> str:
        return f"<_Term begun={self.is_begun} {self._election!r}>"

    @property
    def remaining_s(self) -> float:
        """How long this controller may write."""
        return self._election.remaining_s if self.is_begun else 0.0

    @property
    def is_leader(self) -> bool:
        """Whether this controller may write."""
        return self.remaining_s > 0


class Cluster:
    """A cluster as one controller sees it. The caller closes `client`."""

    def __init__(
        self,
        client: KubernetesClient,
        *,
        mesh_namespace: str,
        cluster_domain: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._client = client
        self._mesh_namespace = mesh_namespace
        self._cluster_domain = cluster_domain
        self._pause = pause
        self._clock = clock
        self._shadows: ShadowKeeper | None = None
        self._dns: DnsKeeper | None = None
        self._statuses: StatusKeeper | None = None
        self.source = KubernetesSource(client, clock=clock, pause=pause)
        self.election = LeaderElection(
            client,
            namespace=mesh_namespace,
            identity=identity,
            is_fit=lambda: self.is_current,
            clock=clock,
            pause=pause,
        )

    def __repr__(self) -> str:
        return f"<Cluster {self._client!r}>"

    @property
    def is_current(self) -> bool:
        """Whether the last contact with the cluster is less than a minute ago."""
        return self.source.out_of_touch_s < STALE_S

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics of the contact with the cluster, and of the leader's writes."""
        return collect_cluster_metrics(self.source.out_of_touch_s, self._shadows, self._dns, self._statuses)

    async def run(self, engine: Engine, *, is_built: asyncio.Event) -> None:
        """Take part in the election, and write while leading, until cancelled. Starts after the first full build."""
        term = _Term(self.election)
        shadows = ShadowKeeper(self._client, engine, term, mesh_namespace=self._mesh_namespace, pause=self._pause)
        reports = engine.reports
        recorder = EventRecorder(self._client, reports.find_identified, term, clock=self._clock, pause=self._pause)
        dns = self._build_dns_keeper(engine, term)
        statuses = StatusKeeper(self._client, engine.statuses, term, clock=self._clock, pause=self._pause)
        self._shadows, self._dns, self._statuses = shadows, dns, statuses
        await is_built.wait()

        def mark(services: Iterable[ObjectKey]) -> None:
            if term.is_leader:
                shadows.mark(services)
                if any(is_hashed(self._mesh_namespace, service) for service in services):
                    dns.mark()

        def record(subjects: Iterable[Subject]) -> None:
            if term.is_leader:
                recorder.mark(subjects)

        async def lead() -> None:
            if await self._catch_up(engine):
                term.is_begun = True
                engine.set_leading(is_leading=True)
                mark({*engine.list_services(), *engine.list_shadowed()})
                record(reports.list_subjects())
                statuses.mark(engine.statuses.list_subjects())

        engine.on_built(mark)
        reports.on_changed(record)
        engine.statuses.on_changed(statuses.mark)
        async with asyncio.TaskGroup() as group:
            taking_over: asyncio.Task[None] | None = None

            def change(is_leader: bool) -> None:  # noqa: FBT001 - what an election tells
                nonlocal taking_over
                if is_leader:
                    taking_over = group.create_task(
                        lead()
                    )  # in parallel with the election, which must continue to renew
                else:
                    if taking_over is not None:
                        taking_over.cancel()
                    term.is_begun = False
                    shadows.forget()
                    statuses.forget()
                    engine.set_leading(is_leading=False)

            group.create_task(shadows.run())
            group.create_task(recorder.run())
            group.create_task(statuses.run())
            group.create_task(dns.run())
            group.create_task(self.election.run(change))
            group.create_task(self._expire_reservations(engine))
            group.create_task(self._report_contact())

    def _build_dns_keeper(self, engine: Engine, term: _Term) -> DnsKeeper:
        dns = ClusterDns(
            self._client,
            mesh_namespace=self._mesh_namespace,
            cluster_domain=self._cluster_domain,
            pause=self._pause,
            clock=self._clock,
        )
        return DnsKeeper(
            dns,
            term,
            list_long=lambda: self._list_long(engine),
            report=lambda key, error: engine.set_outside_errors(key, (error,) if error else (), aspect="DNS"),
            pause=self._pause,
        )

    async def _expire_reservations(self, engine: Engine) -> None:
        """Assign ports whose reservation has expired to waiting services, even if nothing else happens."""
        while True:
            await self._pause(GRACE_S / 4)
            engine.apply((), source=self.source.name)

    async def _report_contact(self) -> None:
        """Log when this controller stops answering pulls because it has no contact with the cluster, and its end."""
        was_current = True
        while True:
            is_current = self.is_current
            if was_current and not is_current:
                _log.error("no contact with the cluster for %g s: pulls are refused until there is", STALE_S)
            elif is_current and not was_current:
                _log.warning("in contact with the cluster again: pulls are answered")
            was_current = is_current
            await self._pause(CONTACT_CHECK_S)

    def _list_long(self, engine: Engine) -> dict[ObjectKey, str]:
        """List the services whose shadow services DNS cannot find by its general rule."""
        return {
            key: build_name(self._mesh_namespace, key)
            for key in engine.list_services()
            if is_hashed(self._mesh_namespace, key)
        }

    async def _catch_up(self, engine: Engine) -> bool:
        """Wait until the watch has delivered all that others wrote; return False if this controller no longer leads.

        What it has delivered of services is then at least as recent as what the last leader acted on.
        """
        backoff = Backoff(first_s=FIRST_LOOK_S, longest_s=LONGEST_LOOK_S)
        while self.election.is_leader:
            with suppress(KubernetesError):
                if self._has_delivered(engine, {each.key: each async for each in self._list_shadows()}):
                    return True
            await self._pause(backoff.next())
        return False

    def _has_delivered(self, engine: Engine, listed: Mapping[ObjectKey, Service]) -> bool:
        known = {
            ObjectKey(self._mesh_namespace, build_name(self._mesh_namespace, key)) for key in engine.list_shadowed()
        }
        if not known <= listed.keys():
            return False
        pairs = ((each, engine.find_service(key)) for key, each in listed.items())
        return all(each and each.metadata.resource_version == there.metadata.resource_version for there, each in pairs)

    async def _list_shadows(self) -> AsyncIterator[Service]:
        """List shadow services as the source does: objects that it cannot use are left out."""
        decoder = ObjectDecoder(next(kind for kind in CORE_KINDS if kind.type is Service))
        path = build_path("v1", "services", namespace=self._mesh_namespace)
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        query = {"labelSelector": selector, "limit": str(PAGE_SIZE)}
        while True:
            page = decoder.decode_page(await self._client.get(path, query))
            for service in page.resources:
                if isinstance(service, Service):
                    yield service
            if not page.next:
                return
            query["continue"] = page.next
