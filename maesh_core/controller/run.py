"""Runs the controller: creates and connects sources, engine and API from the settings, and stops them in bounded time.

Takes settings and loaded plugins; raises StartupError, with one line for the user, if it cannot start. Everything that
it opened is closed when it returns or raises.
"""

import asyncio
import gc
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from maesh_core.controller.api.browser_guard import BrowserGuard
from maesh_core.controller.api.clients import choose_connection_limit
from maesh_core.controller.api.handlers import Api
from maesh_core.controller.api.node_client import NodeClient
from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.pages import index_pages
from maesh_core.controller.api.server import STOP_S as SERVER_STOP_S
from maesh_core.controller.api.server import open_socket, start_server
from maesh_core.controller.api.tap_client import HttpTapClient, choose_stream_limit
from maesh_core.controller.cluster.shadow_services import ShadowReader
from maesh_core.controller.configuration.catalogue import Catalogue, Describe, describe_type, index_balancers
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.controller_status import ControllerStatus
from maesh_core.controller.discovery.kubernetes.source import KubernetesSource
from maesh_core.controller.discovery.manifests.source import ManifestSource
from maesh_core.controller.engine import Engine, EngineParts
from maesh_core.controller.metrics import BuildCounts, build_page
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile, find_default_file
from maesh_core.controller.reports.finding_log import ProblemLog
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.sources import Pause, feed_source
from maesh_core.controller.tap.mesh_tap import MeshTaps
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.controller.traffic.gathering import TrafficGatherer, TrafficSource
from maesh_core.controller.traffic.prometheus import PrometheusSource
from maesh_core.controller.traffic.prometheus_client import HttpPrometheusClient
from maesh_core.controller.traffic.proxies import CONCURRENCY, LIMIT_BYTES, TIMEOUT_S, ProxySource
from maesh_core.errors import PluginError, StartupError
from maesh_core.model.events import Event
from maesh_core.model.messages import ObjectReport, ServiceReport
from maesh_core.model.resources import ResourceKind
from maesh_core.plain_http.server import HttpServer
from maesh_core.plugin_system.hookspecs import BalancerBuilder, PortRange, Source, TopologyBuilder, TrafficType
from maesh_core.plugin_system.shipped import (
    find_annotation_switches,
    find_kind_switches,
    find_traffic_type_switches,
)
from maesh_core.process.open_files import find_open_files_limit
from maesh_core.settings import ControllerSettings

if TYPE_CHECKING:
    from maesh_core.controller.cluster.membership import Cluster

EPOCH_BYTES = 8
"""Random bytes in a revision's epoch: two starts never have the same one."""
SLOW_START_S = 10.0
"""If the first build takes longer, a warning says what it waits for."""
STOP_S = 2.0
"""Time for sources to end when the controller stops."""

_log = logging.getLogger(__name__)


class Plugins(Protocol):
    """The enabled plugins, as maesh_core/plugin_system/loading.py returns them."""

    names: tuple[str, ...]

    def collect(self, hook_name: str) -> list[Any]:
        """Call a hook and join the results."""

    def describe(self, provided: object) -> str:
        """Name the plugin that returned an object from a hook."""


class Controller:
    """A running controller, as `ready` gets it: the API listens on `api_port`, and the first full build is done.

    `has_web_page` says whether a plugin serves a page at `/`.
    """

    __slots__ = ("_engine", "_is_built", "api_port", "has_web_page")

    def __init__(self, engine: Engine, api_port: int, is_built: asyncio.Event, *, has_web_page: bool = False) -> None:
        self.api_port = api_port
        self.has_web_page = has_web_page
        self._engine = engine
        self._is_built = is_built

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
    nodes = NodeRegistry()
    traffic_source = _build_traffic_source(settings, nodes)
    kinds = collect_kinds(plugins)
    given = plugins.collect("maesh_sources")
    pages = index_pages(plugins.collect("maesh_api_pages"), plugins.describe)
    identity = build_identity()
    client = cluster = None
    if is_cluster_meant(settings, is_alone=not given):
        from maesh_core.controller.cluster import joining  # imported only in a cluster: its docstring says why

        client = joining.open_client(settings)
        if client is not None:
            cluster = await joining.join_cluster(settings, client, identity, clock=clock, pause=pause)
    sources = collect_sources(settings, given, cluster, enabled=plugins.names, describe=plugins.describe)
    is_built = asyncio.Event()
    engine = build_engine(settings, plugins, kinds=kinds, sources=sources, is_cluster=cluster is not None, clock=clock)
    node_client = NodeClient()
    traffic = TrafficGatherer(engine, traffic_source)
    taps = MeshTaps(nodes, HttpTapClient(connections_limit=choose_stream_limit(find_open_files_limit())), engine)
    status, counts = ControllerStatus(identity, engine, cluster), BuildCounts(kinds)
    metrics = build_page(engine, kinds, sources, counts=counts, status=status, nodes=nodes)
    guard = BrowserGuard(settings.api_hosts, namespace=settings.namespace, cluster_domain=settings.cluster_domain)
    api = Api(
        engine,
        nodes,
        node_client,
        status=status,
        traffic=traffic,
        taps=taps,
        metrics=metrics,
        guard=guard,
        pages=pages,
    )
    metrics.add(api.collect_metrics)
    if cluster is not None:
        metrics.add(cluster.collect_metrics)
    engine.on_revision(counts.note_revision)
    engine.on_revision(is_built.set)
    engine.on_revision(api.wake)
    problems = ProblemLog()

    def apply(events: Sequence[Event], source: str) -> None:
        with _collection_paused(), counts.measure(events, source=source):
            engine.apply(events, source=source)
        problems.update(engine.all_problems)

    sock = open_socket(settings.api_host, settings.api_port, flag="--api-port")
    controller = Controller(engine, sock.getsockname()[1], is_built, has_web_page="/" in pages)
    server = await _serve(api, sock)
    try:
        jobs = [feed_source(source, kinds, apply, pause=pause) for source in sources]
        if cluster is not None:
            jobs.append(cluster.run(engine, is_built=is_built))
        await _run_until(stop, [*jobs, _report_ready(controller, engine, ready)])
    finally:
        api.close()
        await server.close(grace_s=SERVER_STOP_S)
        await node_client.close()
        await traffic.close()
        await taps.close()
        if client is not None:
            await client.close()
        gc.unfreeze()


def _build_traffic_source(settings: ControllerSettings, nodes: NodeRegistry) -> TrafficSource:
    """Build the source of measured traffic. Raises SettingsError."""
    if settings.prometheus:
        return PrometheusSource(HttpPrometheusClient(settings.prometheus), nodes)
    return ProxySource(nodes, NodeClient(timeout_s=TIMEOUT_S, limit_bytes=LIMIT_BYTES, connections=CONCURRENCY))


async def _serve(api: Api, sock: socket.socket) -> HttpServer:
    try:
        limit = choose_connection_limit(find_open_files_limit())
        return await start_server(api.handle, sock, connection_limit=limit)
    except BaseException:  # also when cancelled
        sock.close()
        raise


def collect_kinds(plugins: Plugins) -> tuple[ResourceKind, ...]:
    """Join the core's kinds of resources and the plugins'. Raises PluginError if two have the same name."""
    given = {id(kind): kind for kind in plugins.collect("maesh_resource_kinds")}  # two plugins may return the same one
    kinds = (*CORE_KINDS, *given.values())
    _refuse_duplicates("kind of resources", kinds, plugins.describe)
    return kinds


def is_cluster_meant(settings: ControllerSettings, *, is_alone: bool) -> bool:
    """Whether a cluster is read: not with manifests, and with a plugin's source only if a cluster is named.

    A kubeconfig at a default path never makes a controller with other sources write to a cluster. Raises StartupError.
    """
    is_named = bool(settings.kubeconfig or settings.master_url)
    if settings.paths and is_named:
        raise StartupError("--kubeconfig and --master-url name a cluster, PATH names manifests: give one of them")
    return not settings.paths and (is_alone or is_named)


def build_identity() -> str:
    """Build this controller's name in the election: the pod's name, and a random part for each start."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


def collect_sources(
    settings: ControllerSettings,
    given: Sequence[Source],
    cluster: "Cluster | None" = None,
    *,
    enabled: Sequence[str] = (),
    describe: Describe = describe_type,
) -> tuple[Source, ...]:
    """Join plugins' sources, the cluster and the named manifests. Raises StartupError if there is none."""
    sources = list(given)
    if cluster is not None:
        sources.append(cluster.source)
    if settings.paths:
        switches = find_kind_switches(enabled)
        manifests = ManifestSource(settings.paths, is_recursive=settings.recursive, switches=switches)
        manifests.check_paths()
        sources.append(manifests)
    if not sources:
        raise StartupError(
            "nothing to read the cluster's objects from: name a kubeconfig (--kubeconfig), or manifests (PATH), "
            "or run in a pod of the cluster"
        )
    _refuse_duplicates("source", sources, describe)
    return tuple(sources)


async def build_once(settings: ControllerSettings, plugins: Plugins) -> Engine:
    """Build everything from the first lists of the sources, without an API and without a stored port mapping."""
    kinds = collect_kinds(plugins)
    given = plugins.collect("maesh_sources")
    sources = collect_sources(settings, given, enabled=plugins.names, describe=plugins.describe)
    engine = build_engine(settings, plugins, kinds=kinds, sources=sources, mapping_file=PortMappingFile(None))
    for source in sources:
        events = source.watch_events(kinds)
        async for batch in events:
            engine.apply(batch, source=source.name)
            if source.name not in {each.partition(" ")[0] for each in engine.missing_lists}:
                break
        if isinstance(events, AsyncGenerator):
            await events.aclose()
    return engine


def build_engine(
    settings: ControllerSettings,
    plugins: Plugins,
    *,
    kinds: Sequence[ResourceKind],
    sources: Sequence[Source],
    mapping_file: PortMappingFile | None = None,
    is_cluster: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """Create the engine for the settings and the enabled plugins. Raises StartupError.

    In a cluster, the shadow services store the mapping of entrypoints, and no file is read or written.
    """
    balancers = index_balancers(plugins.collect("maesh_balancer_builders"), plugins.describe)
    traffic_types = _collect_traffic_types(settings, plugins, balancers)
    ranges = {each.name: each.port_range for each in traffic_types if each.port_range.is_exclusive}
    if is_cluster:
        mapping_file = PortMappingFile(None)
    elif mapping_file is None:
        named = settings.port_mapping
        mapping_file = PortMappingFile(Path(named)) if named else find_default_file(os.environ, settings.paths)
    assigned = mapping_file.load()
    ports = PortTables(
        ranges, assigned=assigned, clock=clock, is_cluster=is_cluster, is_inherited=mapping_file.is_inherited
    )
    parts = EngineParts(
        snapshot=Snapshot(kinds),
        rules=TopologyRules(
            default_mode=settings.default_mode,
            mesh_namespace=settings.namespace,
            ignored_namespaces=settings.ignore_namespaces,
            watched_namespaces=settings.watch_namespaces,
            is_pod_fallback=not is_cluster,
        ),
        builders=_collect_topology_builders(plugins),
        catalogue=Catalogue(
            traffic_types,
            plugins.collect("maesh_middleware_builders"),
            balancers,
            switches=find_annotation_switches(plugins.names),
            type_switches=find_traffic_type_switches(plugins.names),
            describe=plugins.describe,
        ),
        ports=ports,
        mapping_file=mapping_file,
        revisions=RevisionStore(secrets.token_hex(EPOCH_BYTES), plugins.names),
        sources=tuple(source.name for source in sources),
        kinds=tuple(kinds),
        shadow_reader=ShadowReader(settings.namespace, traffic_types) if is_cluster else None,
        shadow_source=KubernetesSource.name,
        checkers=plugins.collect("maesh_object_checkers"),
    )
    return Engine(parts)


def _collect_topology_builders(plugins: Plugins) -> list[TopologyBuilder]:
    builders = plugins.collect("maesh_topology_builders")
    _refuse_duplicates("topology builder", builders, plugins.describe)
    return builders


def _collect_traffic_types(
    settings: ControllerSettings, plugins: Plugins, balancers: Mapping[str, BalancerBuilder]
) -> list[TrafficType]:
    http = PortRange(first=settings.http_port, limit=settings.limit_http_port, is_exclusive=False)
    tcp = PortRange(first=settings.tcp_port, limit=settings.limit_tcp_port, is_exclusive=True)
    core: list[TrafficType] = [HttpTrafficType(http, balancers), TcpTrafficType(tcp)]
    traffic_types = [*core, *plugins.collect("maesh_traffic_types")]
    _refuse_duplicates("traffic type", traffic_types, plugins.describe)
    check_port_ranges(traffic_types)
    names = sorted(each.name for each in traffic_types)
    if settings.default_mode not in names:
        raise StartupError(f"--default-mode {settings.default_mode}: the enabled traffic types are {', '.join(names)}")
    return traffic_types


def check_port_ranges(traffic_types: Iterable[TrafficType]) -> None:
    """Raise StartupError if two traffic types with the same transport have a common entrypoint."""
    for one, other in combinations(traffic_types, 2):
        if one.transport == other.transport and _is_overlapping(one.port_range, other.port_range):
            raise StartupError(
                f"the entrypoints for {_describe_range(one)} and for {_describe_range(other)} overlap: "
                "move a first port or lower a limit"
            )


def _is_overlapping(one: PortRange, other: PortRange) -> bool:
    return one.first < other.first + other.limit and other.first < one.first + one.limit


def _describe_range(traffic_type: TrafficType) -> str:
    port_range = traffic_type.port_range
    return f"{traffic_type.name} ({port_range.first}-{port_range.first + port_range.limit - 1})"


def _refuse_duplicates(what: str, given: Sequence[Any], describe: Describe) -> None:
    found: dict[str, Any] = {}
    for each in given:
        if each.name in found:
            raise PluginError(
                f"{what} {each.name!r} is claimed by both {describe(found[each.name])} and {describe(each)}"
            )
        found[each.name] = each


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
