"""Runs the services of plugins in the controller, and shows them the controller and its cluster.

Takes the services that plugins provide. A service that fails is started again after a growing pause. It knows neither
plugins nor what the services do.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maesh_core.controller.mesh_proxies.finder import Finder, Registry
from maesh_core.controller.mesh_proxies.plugin_reports import ReportGatherer
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.resources.kinds import ADDRESS_INDEX
from maesh_core.errors import ConfigurationError, StartupError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import NodeReport
from maesh_core.model.resources import Pod
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.controllers import ControllerService
from maesh_core.plugin_system.reports import ProxyReport
from maesh_core.process.backoff import Backoff

if TYPE_CHECKING:
    from maesh_core.controller.cluster.cluster_api import PluginCluster
    from maesh_core.controller.cluster.membership import Cluster

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Pauses before a failed service is started again; they double with every consecutive failure."""
STEADY_S = 60.0
"""A service that ran this long is started again after the first pause."""
EMPTY_TOPOLOGY = b'{"services":{},"pods":{}}'
"""The topology before anything is read."""

_log = logging.getLogger(__name__)


class ControllerHost:
    """The controller as plugins see it: a `ControllerNode`. `attach` what is created after the plugins' parts."""

    __slots__ = (
        "_engine",
        "_finder",
        "_membership",
        "_registry",
        "_reports",
        "cluster",
        "name",
        "problems",
        "settings",
    )

    def __init__(self, settings: Any, name: str, cluster: "PluginCluster | None" = None) -> None:
        self.settings = settings
        self.name = name
        self.cluster = cluster
        self.problems: dict[str, str] = {}
        """What plugins have reported, by origin."""
        self._engine: Engine | None = None
        self._membership: Cluster | None = None
        self._registry: Registry | None = None
        self._finder: Finder | None = None
        self._reports: ReportGatherer | None = None

    def __repr__(self) -> str:
        return f"<ControllerHost {self.name}>"

    @property
    def is_leader(self) -> bool:
        """Whether this controller may write to the cluster now."""
        if self.cluster is None:
            return True
        return self._membership is not None and self._membership.election.is_leader

    def attach(self, engine: Engine, membership: "Cluster | None") -> None:
        """Use these from now on."""
        self._engine = engine
        self._membership = membership

    def attach_proxies(self, registry: Registry, finder: Finder, reports: ReportGatherer | None = None) -> None:
        """Use the registry of this controller, the finder that also asks the other controllers, and the gatherer."""
        self._registry = registry
        self._finder = finder
        self._reports = reports

    @property
    def mesh_nodes(self) -> Mapping[str, Any]:
        """The nodes that take part in the transport, by name."""
        return {} if self._engine is None else self._engine.transport_nodes

    async def list_proxies(self) -> tuple[Sequence[NodeReport], bool]:
        """List what proxies report to all controllers, and whether all controllers have answered."""
        if self._finder is None:
            return (), False
        found = await self._finder.find()
        return found.reports, not found.missing

    def list_own_proxies(self) -> Sequence[NodeReport]:
        """List what proxies report to this controller."""
        return () if self._registry is None else self._registry.list_reports()

    async def gather_reports(self, name: str, add: Callable[[ProxyReport], None]) -> bool:
        """Call `add` with the report of each proxy; return whether all controllers named theirs."""
        return self._reports is not None and await self._reports.gather(name, add)

    def find_pods(self, address: str) -> Sequence[Pod]:
        """Find the pods that have an address now, without those that have ended."""
        return () if self._engine is None else self._engine.objects.find(Pod, ADDRESS_INDEX, address)

    def list_services(self) -> Sequence[ServiceNode]:
        """List the nodes of all services after every topology builder."""
        return () if self._engine is None else [node for node, _, _ in self._engine.list_described()]

    def refresh_transport(self) -> None:
        """Publish what the transport's rules describe differently now."""
        if self._engine is not None:
            self._engine.refresh_transport()

    def find_pod(self, key: ObjectKey) -> Pod | None:
        """Find a pod that the controller knows now."""
        return None if self._engine is None else self._engine.objects.get(Pod, key)

    def render_topology(self) -> bytes:
        """Render the document of `/api/topology/current`. It is kept until the next change."""
        return EMPTY_TOPOLOGY if self._engine is None else self._engine.render_topology()

    def report(self, origin: str, problem: str | None) -> None:
        """Show a problem in the controller's status until it is None."""
        if problem is None:
            self.problems.pop(origin, None)
        else:
            self.problems[origin] = problem

    async def close(self) -> None:
        """End the requests of plugins."""
        if self.cluster is not None:
            await self.cluster.close()


async def keep_running(
    service: ControllerService,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run a service, and start it again whenever it ends, until cancelled."""
    backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    while True:
        started_s = clock()
        failure: Exception | None = None
        try:
            await service.run()
        except Exception as error:  # a plugin's service may raise anything
            failure = error
        if clock() - started_s >= STEADY_S:
            backoff.reset()
        pause_s = backoff.next()
        reason = "ended" if failure is None else f"failed: {type(failure).__name__}: {failure}"
        _log.error("service %s %s; it is started again in %.1f s", service.name, reason, pause_s)
        _log.debug("the failure of service %s", service.name, exc_info=failure)
        await pause(pause_s)


async def prepare_services(services: Sequence[ControllerService]) -> None:
    """Let services read what they need before the first build. Raises StartupError."""
    for service in services:
        prepare = getattr(service, "prepare", None)
        if prepare is None:
            continue
        try:
            await prepare()
        except ConfigurationError as error:
            raise StartupError(f"{service.name}: {error}") from error


def list_collectors(services: Sequence[ControllerService]) -> list[Callable[[], Any]]:
    """List the functions that return the services' metrics."""
    found = (getattr(service, "collect_metrics", None) for service in services)
    return [each for each in found if each is not None]
