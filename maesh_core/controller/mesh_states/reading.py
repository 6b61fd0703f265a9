"""Builds states of a mesh from manifests, or from the objects of a cluster, with or without manifests applied to them.

Takes settings and loaded plugins; returns MeshStates. Reads each source once and writes nothing. Raises StartupError.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from maesh_core.controller.building import (
    build_engine,
    build_with_origins,
    collect_kinds,
    collect_transport,
)
from maesh_core.controller.discovery.manifests.source import ManifestSource
from maesh_core.controller.mesh_states.state import GuardedPlugins, MeshState
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import KubernetesError, StartupError
from maesh_core.model.events import Applied, Event, Problem, Replaced
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import Source
from maesh_core.settings import ControllerSettings

CLUSTER_TIMEOUT_S = 60.0
"""Time-out of reading all objects of a cluster."""

Batch = Sequence[Event]


async def build_manifest_state(
    settings: ControllerSettings, plugins: GuardedPlugins, label: str, *, folder: str = ""
) -> MeshState:
    """Build the state of the manifests at `settings.paths`; each workload without pods there counts as a pod."""
    engine, _ = await build_with_origins(settings, plugins, makes_pods=True)
    return MeshState(engine, plugins, label=label, folder=folder)


class RecordedObjects:
    """Objects that were read once, such as those of a cluster, from which several states are built."""

    def __init__(self, settings: ControllerSettings, plugins: GuardedPlugins, batches: Sequence[Batch]) -> None:
        self._settings, self._plugins, self._batches = settings, plugins, batches

    def __repr__(self) -> str:
        return f"<RecordedObjects in {len(self._batches)} batches>"

    def build_state(self, label: str) -> MeshState:
        """Build the state of these objects."""
        engine, _ = self._build()
        return MeshState(engine, self._plugins, label=label)

    async def build_applied(self, paths: Sequence[str], *, is_recursive: bool, label: str) -> MeshState:
        """Build the state after the manifests at these paths were applied.

        Other objects stay. Raises StartupError for a path that does not exist.
        """
        engine, kinds = self._build()
        manifests = ManifestSource(paths, is_recursive=is_recursive, makes_pods=True)
        manifests.check_paths()
        async with aclosing(manifests.watch_events(kinds)) as batches:
            async for batch in batches:
                engine.apply(list(_apply_all(batch)), source=_Recorded.name)
                break
        return MeshState(engine, self._plugins, label=label)

    def _build(self) -> tuple[Engine, Sequence[ResourceKind]]:
        transport = collect_transport(self._plugins)
        kinds = collect_kinds(self._plugins, has_transport=transport is not None)
        source = _Recorded(self._batches)
        engine = build_engine(
            self._settings,
            self._plugins,
            kinds=kinds,
            sources=(cast("Source", source),),
            transport=transport,
            mapping_file=PortMappingFile(None),
        )
        for batch in self._batches:
            engine.apply(batch, source=source.name)
        return engine, kinds


class _Recorded:
    """Replays the recorded batches of a source to an engine, under the name of that source."""

    name = "kubernetes"

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches


def _apply_all(batch: Batch) -> list[Event]:
    """Turn complete lists into objects that are applied to those of a cluster; problems stay."""
    events: list[Event] = []
    for event in batch:
        if isinstance(event, Replaced):
            events += [Applied(resource) for resource in event.resources]
        elif isinstance(event, Applied | Problem):
            events.append(event)
    return events


async def read_cluster(settings: ControllerSettings, plugins: GuardedPlugins) -> RecordedObjects:
    """Read the objects of the cluster that the settings or the environment name. Raises StartupError."""
    from maesh_core.controller.cluster.joining import open_client  # loads aiohttp
    from maesh_core.controller.discovery.kubernetes.source import KubernetesSource

    client = open_client(settings)
    if client is None:
        raise StartupError("there is no cluster: name its kubeconfig (--kubeconfig), or run in a pod of the cluster")
    kinds = collect_kinds(plugins, has_transport=collect_transport(plugins) is not None)
    try:
        async with asyncio.timeout(CLUSTER_TIMEOUT_S):
            await client.log_in()
            return RecordedObjects(settings, plugins, await _record(KubernetesSource(client), kinds))
    except TimeoutError as error:
        raise StartupError(f"the cluster could not be read within {CLUSTER_TIMEOUT_S:g} s") from error
    except KubernetesError as error:
        raise StartupError(f"the cluster cannot be read: {error}") from error
    finally:
        await client.close()


async def _record(source: Any, kinds: Sequence[ResourceKind]) -> list[Batch]:
    """Record the batches of a source until it has listed every kind. Raises StartupError for what it cannot list."""
    missing = {kind.type for kind in kinds}
    batches: list[Batch] = []
    events: AsyncGenerator[Batch, None] = source.watch_events(kinds)
    async with aclosing(events):
        async for batch in events:
            problem = next((each for each in batch if isinstance(each, Problem) and each.text and not each.key), None)
            if problem is not None and not problem.is_notice:
                raise StartupError(f"the cluster cannot be read: {problem.origin}: {problem.text}")
            batches.append(batch)
            missing -= {event.type for event in batch if isinstance(event, Replaced)}
            if not missing:
                break
    return batches
