"""The parts that an engine (engine.py) combines. Values only; building.py creates them from settings and plugins."""

from collections.abc import Sequence

import msgspec

from maesh_core.controller.cluster.shadow_services import ShadowReader
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import ObjectChecker, StatusBuilder, TopologyBuilder


class EngineParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an engine. The first build waits until each of `sources` has listed every one of `kinds`.

    With a `shadow_reader`, a cluster's shadow services store the mapping of entrypoints, instead of the file; only
    shadow services from `shadow_source` count. With `sends_pod_names`, the configuration has the section `pods`;
    with `sends_namespaces`, its section `clients` has the clients that may call services by name alone.
    """

    snapshot: Snapshot
    rules: TopologyRules
    builders: Sequence[TopologyBuilder]
    catalogue: Catalogue
    ports: PortTables
    mapping_file: PortMappingFile
    revisions: RevisionStore
    sources: tuple[str, ...]
    kinds: tuple[ResourceKind, ...]
    shadow_reader: ShadowReader | None = None
    shadow_source: str = ""
    checkers: Sequence[ObjectChecker] = ()
    status_builders: Sequence[StatusBuilder] = ()
    sends_pod_names: bool = False
    sends_namespaces: bool = False
