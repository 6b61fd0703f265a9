"""Runs the controller: creates and connects sources, engine and API from the settings, and stops them in bounded time.

Takes settings and loaded plugins; raises StartupError, with one line for the user, if it cannot start. Until the
services of plugins are prepared, the API answers probes only, and no object is read. Everything that was opened is
closed when it returns or raises, also at the start.
"""

import asyncio
import gc
import logging
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from maesh_core.controller.api.conditions import Conditions
from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.pages import index_pages
from maesh_core.controller.api.security.protection import Protection, choose_certifier, load_protection
from maesh_core.controller.building import (
    Plugins,
    build_engine,
    collect_kinds,
    collect_sources,
    collect_transport,
    find_fact_reader,
    is_cluster_meant,
)
from maesh_core.controller.controller_status import ControllerStatus
from maesh_core.controller.mesh_proxies.shared_names import SharedNames
from maesh_core.controller.metrics import BuildCounts, build_page
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.reports.finding_log import ProblemLog
from maesh_core.controller.services import ControllerHost, keep_running, list_collectors, prepare_services
from maesh_core.controller.serving import ApiService
from maesh_core.controller.sources import Pause, feed_source
from maesh_core.controller.traffic.prometheus_client import HttpPrometheusClient
from maesh_core.model.events import Event
from maesh_core.model.messages import ObjectReport, ServiceReport
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.conditions import MeshCondition
from maesh_core.plugin_system.controllers import ControllerService
from maesh_core.plugin_system.hookspecs import Source
from maesh_core.plugin_system.pages import ApiPage
from maesh_core.settings import ControllerSettings

if TYPE_CHECKING:
    from maesh_core.controller.cluster.cluster_api import PluginCluster
    from maesh_core.controller.cluster.membership import Cluster

SLOW_START_S = 10.0
"""If the first build takes longer, a warning says what it waits for."""
COLLECTED_PAUSE_S = 0.5
"""Pause between revisions that only change names or namespaces of pods, so that many do not wake all proxies each."""
STOP_S = 2.0
"""Time for sources to end when the controller stops."""

_Work = Callable[[], Coroutine[Any, Any, None]]

_log = logging.getLogger(__name__)


class Controller:
    """A running controller, as `ready` gets it: the API listens on `api_port`, and the first full build is done.

    `has_web_page` says whether a plugin serves a page at `/`.
    """

    __slots__ = ("_conditions", "_engine", "_is_built", "api_port", "has_web_page")

    def __init__(
        self,
        engine: Engine,
        api_port: int,
        is_built: asyncio.Event,
        *,
        conditions: Conditions,
        has_web_page: bool = False,
    ) -> None:
        self.api_port = api_port
        self.has_web_page = has_web_page
        self._engine = engine
        self._is_built = is_built
        self._conditions = conditions

    def __repr__(self) -> str:
        return f"<Controller :{self.api_port} {self._engine!r}>"

    async def wait_ready(self) -> None:
        """Return once the first full build is done."""
        await self._is_built.wait()

    def service_reports(self) -> list[ServiceReport]:
        """Report the current services, as `/api/services` does."""
        return self._engine.list_reports()

    def object_reports(self) -> list[ObjectReport]:
        """Report the objects with findings, as `/api/objects` does."""
        return self._engine.reports.list_reports()

    async def check_conditions(self) -> Sequence[MeshCondition]:
        """Return what plugins say about the whole mesh, as `/api/conditions` does."""
        return await self._conditions.check()


class _PluginParts(NamedTuple):
    """What plugins add to a controller, and how it protects its API."""

    host: ControllerHost
    pages: Mapping[str, ApiPage]
    conditions: Conditions
    services: Sequence[ControllerService]
    protection: Protection


class _Parts(NamedTuple):
    """The parts of a controller that jobs connect. Nothing of it runs yet."""

    engine: Engine
    kinds: Sequence[ResourceKind]
    sources: Sequence[Source]
    cluster: "Cluster | None"
    api: ApiService
    counts: BuildCounts
    added: _PluginParts


async def run_controller(
    settings: ControllerSettings,
    plugins: Plugins,
    *,
    stop: asyncio.Event,
    ready: Callable[[Controller], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: Pause = asyncio.sleep,
) -> None:
    """Run until `stop` is set; then end within a few seconds.

    `ready` is called once, when the API listens and the first full build is done, even if the cluster is empty. Raises
    StartupError. The cluster and reserved ports use the time of `clock`, and `pause` waits by it.
    """
    async with AsyncExitStack() as stack:
        stack.callback(gc.unfreeze)
        parts = await _build_parts(settings, plugins, stack, clock=clock, pause=pause)
        engine, is_built = parts.engine, asyncio.Event()
        engine.on_revision(is_built.set)
        port = await parts.api.start(settings)
        added = parts.added
        controller = Controller(engine, port, is_built, conditions=added.conditions, has_web_page="/" in added.pages)
        works = _list_works(parts, clock=clock, pause=pause)
        if parts.cluster is not None:
            works.append(partial(parts.cluster.run, engine, is_built=is_built))
        works.append(partial(_report_ready, controller, engine, ready))
        is_prepared = asyncio.Event()
        jobs = [_prepare(parts, is_prepared), *parts.added.protection.list_jobs(pause)]
        await _run_until(stop, [*jobs, *(_work_after(is_prepared, work) for work in works)])


async def _build_parts(
    settings: ControllerSettings,
    plugins: Plugins,
    stack: AsyncExitStack,
    *,
    clock: Callable[[], float],
    pause: Pause,
) -> _Parts:
    """Build the parts from settings and plugins; `stack` closes them. Raises StartupError."""
    prometheus = HttpPrometheusClient(settings.prometheus) if settings.prometheus else None
    transport = collect_transport(plugins)
    kinds = collect_kinds(plugins, has_transport=transport is not None)
    given = plugins.collect("maesh_sources")
    identity = build_identity()
    cluster, plugin_cluster = await _join(settings, stack, identity, is_alone=not given, clock=clock, pause=pause)
    added = _collect_parts(settings, plugins, stack, ControllerHost(settings, identity, plugin_cluster))
    sources = collect_sources(settings, given, cluster, enabled=plugins.names, describe=plugins.describe)
    engine = build_engine(
        settings,
        plugins,
        kinds=kinds,
        sources=sources,
        transport=transport,
        is_cluster=cluster is not None,
        clock=clock,
    )
    added.host.attach(engine, cluster)
    status = ControllerStatus(identity, engine, cluster, added.host.problems, plugins=plugins.names)
    counts = BuildCounts(kinds)
    nodes = NodeRegistry(reader=find_fact_reader(transport))
    metrics = build_page(engine, kinds, sources, counts=counts, status=status, nodes=nodes)
    api = ApiService(
        settings,
        engine,
        nodes,
        status=status,
        metrics=metrics,
        pages=added.pages,
        protection=added.protection,
        prometheus=prometheus,
        is_cluster=cluster is not None,
    )
    stack.push_async_callback(api.close)
    added.host.attach_proxies(nodes, api.finder, api.reports)
    for collect in [*([] if cluster is None else [cluster.collect_metrics]), *list_collectors(added.services)]:
        metrics.add(collect)
    return _Parts(engine, kinds, sources, cluster, api, counts, added)


async def _join(
    settings: ControllerSettings,
    stack: AsyncExitStack,
    identity: str,
    *,
    is_alone: bool,
    clock: Callable[[], float],
    pause: Pause,
) -> "tuple[Cluster | None, PluginCluster | None]":
    """Join the cluster that the settings name, for the controller and for plugins. Raises StartupError."""
    if not is_cluster_meant(settings, is_alone=is_alone):
        return None, None
    from maesh_core.controller.cluster import joining  # imported only in a cluster: its docstring says why

    client = joining.open_client(settings)
    if client is None:
        return None, None
    stack.push_async_callback(client.close)
    cluster = await joining.join_cluster(settings, client, identity, clock=clock, pause=pause)
    return cluster, joining.open_plugin_cluster(client, clock=clock, pause=pause)


def _collect_parts(
    settings: ControllerSettings, plugins: Plugins, stack: AsyncExitStack, host: ControllerHost
) -> _PluginParts:
    """Collect what plugins add, which they build for `host`. Raises StartupError."""
    stack.push_async_callback(host.close)
    pages = index_pages(plugins.collect("maesh_api_pages", controller=host), plugins.describe)
    checkers = [SharedNames(host), *plugins.collect("maesh_mesh_conditions", controller=host)]
    conditions = Conditions(checkers, plugins.describe)
    services = plugins.collect("maesh_controller_services", controller=host)
    certifier = choose_certifier(plugins.collect("maesh_api_certifiers", controller=host), plugins.describe)
    protection = load_protection(settings, certifier, host.cluster)
    return _PluginParts(host, {**pages, conditions.path: conditions}, conditions, services, protection)


def _list_works(parts: _Parts, *, clock: Callable[[], float], pause: Pause) -> list[_Work]:
    """List what feeds the engine and what plugins do, to be called once the services are prepared."""
    engine, counts, problems = parts.engine, parts.counts, ProblemLog()

    def apply(events: Sequence[Event], source: str) -> None:
        with _collection_paused(), counts.measure(events, source=source):
            engine.apply(events, source=source)
        problems.update(engine.all_problems)

    engine.on_revision(counts.note_revision)
    engine.on_revision(parts.api.api.wake)
    works: list[_Work] = [partial(feed_source, source, parts.kinds, apply, pause=pause) for source in parts.sources]
    works += [partial(keep_running, each, pause=pause, clock=clock) for each in parts.added.services]
    if engine.collects:
        works.append(partial(_publish_collected, engine, pause))
    return works


async def _prepare(parts: _Parts, is_prepared: asyncio.Event) -> None:
    """Prepare the services of plugins while the API answers probes only. Raises StartupError."""
    await prepare_services(parts.added.services)
    parts.api.is_open = True
    is_prepared.set()


async def _work_after(is_prepared: asyncio.Event, work: _Work) -> None:
    await is_prepared.wait()
    await work()


def build_identity() -> str:
    """Build this controller's name in the election: the pod's name, and a random part for each start."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


async def _report_ready(controller: Controller, engine: Engine, ready: Callable[[Controller], None] | None) -> None:
    try:
        async with asyncio.timeout(SLOW_START_S):
            await controller.wait_ready()
    except TimeoutError:
        _log.warning("not ready yet, waiting for the lists of %s", ", ".join(engine.missing_lists))
        await controller.wait_ready()
    gc.freeze()  # the cluster's objects remain, so collections need not visit them
    if ready is not None:
        ready(controller)


async def _publish_collected(engine: Engine, pause: Pause) -> None:
    while True:
        await pause(COLLECTED_PAUSE_S)
        engine.publish_collected()


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector, which took more than half of the time of a first build of 5,000 services."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _run_until(stop: asyncio.Event, jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run jobs until `stop` is set or one raises, which is raised here; then cancel the others."""
    tasks = [asyncio.create_task(job) for job in jobs]
    stopping = asyncio.create_task(stop.wait())
    running: set[asyncio.Task[Any]] = {stopping, *tasks}
    try:
        while stopping in running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            _, stuck = await asyncio.wait(running, timeout=STOP_S)
            for task in stuck:
                _log.error("%s did not end in time", task.get_name())
