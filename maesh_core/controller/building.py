"""Builds the parts of a controller from its settings and plugins: kinds, sources, traffic types and the engine.

Takes settings and what plugins provide; raises StartupError or PluginError if they do not fit together. Starts nothing.
"""

import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from maesh_core.controller.api.nodes import FactReader
from maesh_core.controller.cluster.shadow_services import ShadowReader
from maesh_core.controller.configuration.annotation_values import OWN
from maesh_core.controller.configuration.catalogue import Catalogue, Describe, describe_type, index_balancers
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.ranges import NamedRange, list_exclusive_ranges, list_ranges
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.controller.discovery.kubernetes.source import KubernetesSource
from maesh_core.controller.discovery.manifests.source import ManifestSource
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile, find_default_file
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.rebuilds.engine_parts import EngineParts
from maesh_core.controller.resources.kinds import CORE_KINDS, watch_namespaces
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import PluginError, StartupError
from maesh_core.model.keys import ObjectKey, is_label
from maesh_core.model.request_sources import CORE_SOURCES
from maesh_core.model.resources import NAMESPACES, Resource, ResourceKind
from maesh_core.plugin_system.hookspecs import (
    ACCOUNTS,
    CLIENT_NAMESPACES,
    OPTIONAL_SECTIONS,
    POD_NAMES,
    BalancerBuilder,
    MiddlewareBuilder,
    OptionalSection,
    Source,
    TopologyBuilder,
)
from maesh_core.plugin_system.outside import OutsideRules
from maesh_core.plugin_system.protocols import PortRange, TrafficType
from maesh_core.plugin_system.request_sources import SourceKind
from maesh_core.plugin_system.shipped import (
    find_annotation_switches,
    find_kind_switches,
    find_traffic_type_switches,
)
from maesh_core.plugin_system.transports import TransportRules
from maesh_core.settings import OWN_HTTP_PORT, ControllerSettings

if TYPE_CHECKING:
    from maesh_core.controller.cluster.membership import Cluster

EPOCH_BYTES = 8
"""Random bytes in a revision's epoch: two starts never have the same one."""


_log = logging.getLogger(__name__)


class Plugins(Protocol):
    """The enabled plugins, as maesh_core/plugin_system/loading.py returns them."""

    names: tuple[str, ...]

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Call a hook and join the results."""

    def describe(self, provided: object) -> str:
        """Name the plugin that returned an object from a hook."""


def collect_transport(plugins: Plugins) -> TransportRules | None:
    """Return the rules of the enabled transport, if there is one. Raises PluginError if there are several."""
    found: list[TransportRules] = plugins.collect("maesh_transport_rules")
    if len(found) > 1:
        names = " and ".join(plugins.describe(each) for each in found)
        raise PluginError(f"only one transport can be enabled, and there are those of {names}")
    return found[0] if found else None


def find_fact_reader(transport: TransportRules | None) -> FactReader | None:
    """Return the transport if it reads the facts that proxies report (`ReportingRules`)."""
    return cast("FactReader", transport) if hasattr(transport, "accept_facts") else None


def collect_sections(plugins: Plugins) -> frozenset[str]:
    """Return the names of the optional sections that plugins ask for. Raises PluginError if one does not exist."""
    asked: list[OptionalSection] = plugins.collect("maesh_optional_sections")
    for each in asked:
        if each not in OPTIONAL_SECTIONS:
            raise PluginError(f"{plugins.describe(each)} asks for section {each.name!r}, which does not exist")
    return frozenset(each.name for each in asked)


def collect_kinds(plugins: Plugins, *, has_transport: bool = False) -> tuple[ResourceKind, ...]:
    """Join the core's kinds of resources and the plugins'. Raises PluginError if two have the same name.

    A transport also reads Namespaces, and so does a plugin that declares their kind.
    """
    given = {id(kind): kind for kind in plugins.collect("maesh_resource_kinds")}  # two plugins may return the same one
    reads_namespaces = given.pop(id(NAMESPACES), None) is not None or has_transport
    kinds = (*(watch_namespaces(CORE_KINDS) if reads_namespaces else CORE_KINDS), *given.values())
    _refuse_duplicates("kind of resources", kinds, plugins.describe, names=[kind.label for kind in kinds])
    return kinds


def is_cluster_meant(settings: ControllerSettings, *, is_alone: bool) -> bool:
    """Whether a cluster is read: not with manifests, and with a plugin's source only if a cluster is named.

    A kubeconfig at a default path never makes a controller with other sources write to a cluster. Raises StartupError.
    """
    is_named = bool(settings.kubeconfig or settings.master_url)
    if settings.paths and is_named:
        raise StartupError("--kubeconfig and --master-url name a cluster, PATH names manifests: give one of them")
    return not settings.paths and (is_alone or is_named)


def collect_sources(
    settings: ControllerSettings,
    given: Sequence[Source],
    cluster: "Cluster | None" = None,
    *,
    enabled: Sequence[str] = (),
    describe: Describe = describe_type,
    makes_pods: bool = False,
) -> tuple[Source, ...]:
    """Join plugins' sources, the cluster and the named manifests. Raises StartupError if there is none.

    `makes_pods`: each workload in the manifests counts as a pod.
    """
    sources = list(given)
    if cluster is not None:
        sources.append(cluster.source)
    if settings.paths:
        switches = find_kind_switches(enabled)
        manifests = ManifestSource(
            settings.paths, is_recursive=settings.recursive, switches=switches, makes_pods=makes_pods
        )
        manifests.check_paths()
        sources.append(manifests)
    if not sources:
        raise StartupError(
            "nothing to read the cluster's objects from: name a kubeconfig (--kubeconfig), or manifests (PATH), "
            "or run in a pod of the cluster"
        )
    _refuse_duplicates("source", sources, describe)
    return tuple(sources)


Origins = Mapping[tuple[type[Resource], ObjectKey], str]
"""Where objects are defined in manifests, as `path document 2 line 10`."""


async def build_once(settings: ControllerSettings, plugins: Plugins) -> Engine:
    """Build everything from the first lists of the sources, without an API and without a stored port mapping."""
    return (await build_with_origins(settings, plugins))[0]


async def build_with_origins(
    settings: ControllerSettings, plugins: Plugins, *, makes_pods: bool = False
) -> tuple[Engine, Origins]:
    """Build everything as `build_once` does; also return where the objects are defined.

    `makes_pods`: each workload in the manifests counts as a pod.
    """
    transport = collect_transport(plugins)
    kinds = collect_kinds(plugins, has_transport=transport is not None)
    given = plugins.collect("maesh_sources")
    sources = collect_sources(settings, given, enabled=plugins.names, describe=plugins.describe, makes_pods=makes_pods)
    engine = build_engine(
        settings, plugins, kinds=kinds, sources=sources, transport=transport, mapping_file=PortMappingFile(None)
    )
    for source in sources:
        events = source.watch_events(kinds)
        async for batch in events:
            engine.apply(batch, source=source.name)
            if source.name not in {each.partition(" ")[0] for each in engine.missing_lists}:
                break
        if isinstance(events, AsyncGenerator):
            await events.aclose()
    origins = {at: text for each in sources if isinstance(each, ManifestSource) for at, text in each.origins.items()}
    return engine, origins


def build_engine(
    settings: ControllerSettings,
    plugins: Plugins,
    *,
    kinds: Sequence[ResourceKind],
    sources: Sequence[Source],
    transport: TransportRules | None = None,
    mapping_file: PortMappingFile | None = None,
    is_cluster: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """Create the engine for the settings and the enabled plugins. Raises StartupError.

    In a cluster, the shadow services store the mapping of entrypoints, and no file is read or written.
    """
    balancers = index_balancers(plugins.collect("maesh_balancer_builders"), plugins.describe)
    traffic_types = _collect_traffic_types(settings, plugins, balancers)
    if is_cluster:
        mapping_file = PortMappingFile(None)
    elif mapping_file is None:
        named = settings.port_mapping
        mapping_file = PortMappingFile(Path(named)) if named else find_default_file(os.environ, settings.paths)
    ports = _build_port_tables(traffic_types, mapping_file, clock=clock, is_cluster=is_cluster)
    catalogue = _build_catalogue(plugins, traffic_types, balancers, transport)
    sections = collect_sections(plugins)
    names_clients = settings.client_header or ACCOUNTS.name in sections
    parts = EngineParts(
        snapshot=Snapshot(kinds),
        rules=_build_topology_rules(settings, plugins, catalogue, is_cluster=is_cluster, names_clients=names_clients),
        builders=_collect_topology_builders(plugins),
        catalogue=catalogue,
        ports=ports,
        mapping_file=mapping_file,
        revisions=RevisionStore(secrets.token_hex(EPOCH_BYTES), plugins.names),
        sources=tuple(source.name for source in sources),
        kinds=tuple(kinds),
        shadow_reader=ShadowReader(settings.namespace, traffic_types) if is_cluster else None,
        shadow_source=KubernetesSource.name,
        checkers=plugins.collect("maesh_object_checkers"),
        status_builders=plugins.collect("maesh_status_builders"),
        sends_pod_names=POD_NAMES.name in sections,
        sends_namespaces=CLIENT_NAMESPACES.name in sections,
    )
    return Engine(parts)


def _build_catalogue(
    plugins: Plugins,
    traffic_types: Sequence[TrafficType],
    balancers: Mapping[str, BalancerBuilder],
    transport: TransportRules | None,
) -> Catalogue:
    """Collect what builds parts of the configuration, by the names that annotations use. Raises PluginError."""
    return Catalogue(
        traffic_types,
        _collect_middleware_builders(plugins),
        balancers,
        transport=transport,
        switches=find_annotation_switches(plugins.names),
        type_switches=find_traffic_type_switches(plugins.names),
        describe=plugins.describe,
    )


def _build_port_tables(
    traffic_types: Sequence[TrafficType],
    mapping_file: PortMappingFile,
    *,
    clock: Callable[[], float],
    is_cluster: bool,
) -> PortTables:
    """Build the tables of exclusive entrypoints, with those that the mapping file has. Raises StartupError."""
    ranges = {each.name: each.port_range for each in list_exclusive_ranges(traffic_types)}
    assigned = mapping_file.load()
    return PortTables(
        ranges, assigned=assigned, clock=clock, is_cluster=is_cluster, is_inherited=mapping_file.is_inherited
    )


def _build_topology_rules(
    settings: ControllerSettings, plugins: Plugins, catalogue: Catalogue, *, is_cluster: bool, names_clients: bool
) -> TopologyRules:
    return TopologyRules(
        default_mode=settings.default_mode,
        mesh_namespace=settings.namespace,
        ignored_namespaces=settings.ignore_namespaces,
        watched_namespaces=settings.watch_namespaces,
        is_pod_fallback=not is_cluster,
        has_transport=catalogue.transport is not None,
        names_clients=names_clients,
        filters=catalogue.filters,
        has_shadows=is_cluster,
        outside=_collect_outside_rules(plugins),
    )


def _collect_middleware_builders(plugins: Plugins) -> list[MiddlewareBuilder]:
    """Collect the builders, and pass them the kinds of sources of requests that plugins add."""
    builders: list[MiddlewareBuilder] = plugins.collect("maesh_middleware_builders")
    kinds: list[SourceKind] = plugins.collect("maesh_source_kinds")
    _refuse_duplicates("kind of sources", kinds, plugins.describe)
    for kind in kinds:
        if kind.name in CORE_SOURCES or not is_label(kind.name):
            raise PluginError(f"{plugins.describe(kind)} names a kind of sources {kind.name!r}, which is not valid")
    for builder in builders:
        use_source_kinds = getattr(builder, "use_source_kinds", None)
        if use_source_kinds is not None:
            use_source_kinds({kind.name: kind for kind in kinds})
    return builders


def _collect_outside_rules(plugins: Plugins) -> OutsideRules | None:
    """Return which servers outside of the mesh are carried; raises PluginError if two plugins decide it."""
    found: list[OutsideRules] = plugins.collect("maesh_outside_rules")
    if len(found) > 1:
        claimants = " and ".join(plugins.describe(each) for each in found[:2])
        raise PluginError(f"both {claimants} decide which servers outside of the mesh are carried")
    return found[0] if found else None


def _collect_topology_builders(plugins: Plugins) -> list[TopologyBuilder]:
    builders = plugins.collect("maesh_topology_builders")
    _refuse_duplicates("topology builder", builders, plugins.describe)
    return builders


def _collect_traffic_types(
    settings: ControllerSettings, plugins: Plugins, balancers: Mapping[str, BalancerBuilder]
) -> list[TrafficType]:
    http = PortRange(first=settings.http_port, limit=settings.limit_http_port, is_exclusive=False)
    tcp = PortRange(first=settings.tcp_port, limit=settings.limit_tcp_port, is_exclusive=True)
    others: list[TrafficType] = [TcpTrafficType(tcp), *plugins.collect("maesh_traffic_types")]
    own = build_own_range(settings, [http, *(each.port_range for each in others if each.transport == "TCP")])
    is_own_default = settings.default_entrypoint == OWN
    traffic_types = [HttpTrafficType(http, balancers, own_range=own, is_own_default=is_own_default), *others]
    _refuse_duplicates("traffic type", traffic_types, plugins.describe)
    check_port_ranges(traffic_types)
    names = sorted(each.name for each in traffic_types)
    if settings.default_mode not in names:
        raise StartupError(f"--default-mode {settings.default_mode}: the enabled traffic types are {', '.join(names)}")
    return traffic_types


def build_own_range(settings: ControllerSettings, others: Sequence[PortRange]) -> PortRange | None:
    """Build the range of own HTTP entrypoints; None if it was not asked for, and others use its default ports."""
    own = PortRange(first=settings.own_http_port, limit=settings.limit_own_http_port, is_exclusive=True)
    is_chosen = settings.own_http_port != OWN_HTTP_PORT or settings.default_entrypoint == OWN
    if is_chosen or not any(_is_overlapping(own, each) for each in others):
        return own
    _log.warning("own HTTP entrypoints are not available: other ones use their ports; --own-http-port moves them")
    return None


def check_port_ranges(traffic_types: Iterable[TrafficType]) -> None:
    """Raise StartupError if two ranges with the same transport have a common entrypoint."""
    for one, other in combinations(list_ranges(traffic_types), 2):
        if one.transport == other.transport and _is_overlapping(one.port_range, other.port_range):
            raise StartupError(
                f"the entrypoints for {_describe_range(one)} and for {_describe_range(other)} overlap: "
                "move a first port or lower a limit"
            )


def _is_overlapping(one: PortRange, other: PortRange) -> bool:
    return one.first < other.first + other.limit and other.first < one.first + one.limit


def _describe_range(named: NamedRange) -> str:
    port_range = named.port_range
    return f"{named.name} ({port_range.first}-{port_range.first + port_range.limit - 1})"


def _refuse_duplicates(
    what: str, given: Sequence[Any], describe: Describe, *, names: Sequence[str] | None = None
) -> None:
    found: dict[str, Any] = {}
    for name, each in zip(names or [each.name for each in given], given, strict=True):
        if name in found:
            raise PluginError(f"{what} {name!r} is claimed by both {describe(found[name])} and {describe(each)}")
        found[name] = each
