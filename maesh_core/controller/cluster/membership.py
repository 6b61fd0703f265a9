"""This controller's part in a cluster: the source of its objects and, while it leads, the writes to the cluster.

Every replica reads and serves. Only the leader writes (leader_writes.py), once its watch has delivered everything that
earlier leaders wrote.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

from maesh_core.controller.cluster.cluster_metrics import collect_cluster_metrics
from maesh_core.controller.cluster.leader_election import LeaderElection
from maesh_core.controller.cluster.leader_writes import LeaderWrites
from maesh_core.controller.discovery.kubernetes.objects import ObjectDecoder
from maesh_core.controller.discovery.kubernetes.source import KubernetesSource
from maesh_core.controller.discovery.kubernetes.watch import PAGE_SIZE
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.controller.ports.port_table import GRACE_S
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import LABELS, build_name
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
        self._writes: LeaderWrites | None = None
        self._taking_over: asyncio.Task[None] | None = None
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
        return collect_cluster_metrics(self.source.out_of_touch_s, self._writes)

    async def run(self, engine: Engine, *, is_built: asyncio.Event) -> None:
        """Take part in the election, and write while leading, until cancelled. Starts after the first full build."""
        writes = self._writes = LeaderWrites(
            self._client,
            engine,
            self.election,
            mesh_namespace=self._mesh_namespace,
            cluster_domain=self._cluster_domain,
            clock=self._clock,
            pause=self._pause,
        )
        await is_built.wait()
        writes.follow_engine()
        async with asyncio.TaskGroup() as group:
            for keeper in writes.run_keepers():
                group.create_task(keeper)
            group.create_task(
                self.election.run(lambda is_leader: self._change_leader(writes, group, is_leader=is_leader))
            )
            group.create_task(self._expire_reservations(engine))
            group.create_task(self._report_contact())

    def _change_leader(self, writes: LeaderWrites, group: asyncio.TaskGroup, *, is_leader: bool) -> None:
        """Begin to take over the leader's writes, or end them. The election continues to renew the Lease meanwhile."""
        if is_leader:
            self._taking_over = group.create_task(self._take_over(writes))
            return
        if self._taking_over is not None:
            self._taking_over.cancel()
        writes.end()

    async def _take_over(self, writes: LeaderWrites) -> None:
        if await self._catch_up(writes.engine):
            writes.begin()

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
