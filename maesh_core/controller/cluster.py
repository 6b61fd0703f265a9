"""This controller's part in a cluster: the source of its objects, and, while it leads, what it writes there.

Joins election, shadow services, Events and DNS to an engine. Every replica reads and serves; the leader alone writes,
and looks at everything anew when it begins to.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from maesh_core.controller.dns_keeper import DnsKeeper
from maesh_core.controller.engine import Engine
from maesh_core.controller.leader_election import LeaderElection
from maesh_core.controller.object_events import EventRecorder
from maesh_core.controller.shadow_keeper import ShadowKeeper
from maesh_core.controller.shadow_services import LABELS, build_name, is_hashed
from maesh_core.discovery.kubernetes import KubernetesSource
from maesh_core.discovery.kubernetes_watch import PAGE_SIZE
from maesh_core.dns.patching import ClusterDns
from maesh_core.errors import KubernetesError
from maesh_core.kubernetes.backoff import Backoff
from maesh_core.kubernetes.client import KubernetesClient
from maesh_core.kubernetes.paths import build_path
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service

STALE_S = 60.0
"""A controller that has been out of touch with the cluster for so long says that it is not ready, and leads no more."""

Pause = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


class _ListMeta(msgspec.Struct, frozen=True):
    continue_: str = msgspec.field(default="", name="continue")


class _ServiceList(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: list[Service] | None = None


class Cluster:
    """A cluster as one controller sees it. `client` is closed by who made it."""

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
        """Whether what is known of the cluster is not older than a minute."""
        return self.source.out_of_touch_s < STALE_S

    async def keep(self, engine: Engine, *, is_built: asyncio.Event) -> None:
        """Stand for election, and write while leading, until cancelled. Begins once the first full build is done."""
        election = self.election
        shadows = ShadowKeeper(self._client, engine, election, mesh_namespace=self._mesh_namespace, pause=self._pause)
        recorder = EventRecorder(
            self._client, engine.find_object_errors, election, clock=self._clock, pause=self._pause
        )
        dns = DnsKeeper(
            ClusterDns(
                self._client,
                mesh_namespace=self._mesh_namespace,
                cluster_domain=self._cluster_domain,
                pause=self._pause,
                clock=self._clock,
            ),
            election,
            list_long=lambda: self._list_long(engine),
            tell=lambda key, error: engine.set_outside_errors(key, (error,) if error else (), aspect="DNS"),
            pause=self._pause,
        )
        await is_built.wait()

        def mark(services: Iterable[ObjectKey]) -> None:
            if election.is_leader:
                shadows.mark(services)
                recorder.mark(services)
                dns.mark()

        async def lead() -> None:
            if await self._take_over(engine, election):
                engine.set_leading(is_leading=True)
                mark({*engine.list_services(), *engine.list_shadowed()})

        engine.on_built(mark)
        async with asyncio.TaskGroup() as group:
            taking_over: asyncio.Task[None] | None = None

            def change(is_leader: bool) -> None:  # noqa: FBT001 - what an election tells
                nonlocal taking_over
                if is_leader:
                    taking_over = group.create_task(lead())  # beside the election, which must go on renewing
                else:
                    if taking_over is not None:
                        taking_over.cancel()
                    engine.set_leading(is_leading=False)

            group.create_task(shadows.run())
            group.create_task(recorder.run())
            group.create_task(dns.run())
            group.create_task(election.run(change))

    def _list_long(self, engine: Engine) -> dict[ObjectKey, str]:
        """Name the services whose shadow services DNS cannot find by its general rule."""
        return {
            key: build_name(self._mesh_namespace, key)
            for key in engine.list_services()
            if is_hashed(self._mesh_namespace, key)
        }

    async def _take_over(self, engine: Engine, election: LeaderElection) -> bool:
        """Read what was written last, which the watch may not have told yet; False when the lead is lost."""
        backoff = Backoff()
        while election.is_leader:
            with suppress(KubernetesError):
                engine.observe_shadows([Replaced(Service, [each async for each in self._list_shadows()])])
                return True
            await self._pause(backoff.next())
        return False

    async def _list_shadows(self) -> AsyncIterator[Service]:
        path = build_path("v1", "services", namespace=self._mesh_namespace)
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        query = {"labelSelector": selector, "limit": str(PAGE_SIZE)}
        while True:
            body = await self._client.get(path, query)
            try:
                page: Any = msgspec.json.decode(body, type=_ServiceList)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise KubernetesError(f"the list of shadow services is none: {error}") from error
            for service in page.items or ():
                yield service
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_
