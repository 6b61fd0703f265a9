"""Finds the kinds of objects that the plugins of a mesh watch, by loading the same plugins here.

Takes the names of plugins, or the flags of a controller; returns kinds. A plugin that is not installed here is named.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from maesh_core.controller.cluster_check.installation import Flags
from maesh_core.controller.cluster_check.written import WrittenKind
from maesh_core.controller.resources.kinds import CORE_KINDS, watch_namespaces
from maesh_core.errors import MaeshError
from maesh_core.model.resources import NAMESPACES, ResourceKind
from maesh_core.plugin_system.hookspecs import StatusBuilder
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.settings import InstalledPlugin


class MeshKinds(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of a mesh. `needed` are those of plugins that are not enabled by default, by label.

    `problems` say which plugins could not be loaded here.
    """

    core: tuple[ResourceKind, ...] = ()
    added: tuple[ResourceKind, ...] = ()
    needed: frozenset[str] = frozenset()
    status_fields: Mapping[str, str] = {}
    """The field of the status that the mesh writes, by the label of the kind."""
    plugins: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def list_written(self, served: Mapping[str, str]) -> list[WrittenKind]:
        """List the kinds whose statuses are written, in the versions that are served."""
        return [
            WrittenKind(kind, served[kind.label], self.status_fields[kind.label])
            for kind in self.added
            if kind.label in self.status_fields and kind.label in served
        ]


def choose_plugins(installed: Sequence[InstalledPlugin], flags: Flags) -> tuple[str, ...]:
    """Choose the plugins that a controller with these flags has enabled, if the same ones are installed there."""
    return tuple(plugin.name for plugin in installed if flags.switches.get(plugin.name, plugin.is_default))


def load_kinds(installed: Sequence[InstalledPlugin], names: Collection[str], flags: Flags) -> MeshKinds:
    """Load the kinds of the named plugins, with the settings in the flags."""
    chosen = [plugin for plugin in installed if plugin.name in names]
    problems = [f"plugin {name} is not installed here" for name in sorted({*names} - {each.name for each in chosen})]
    parts: list[_Part] = []
    for plugin in chosen:
        try:
            parts.append(_load(plugin, _read_settings(plugin.name, flags)))
        except MaeshError as error:
            problems.append(f"plugin {plugin.name} cannot be loaded here: {error}")
    added = {id(kind): kind for part in parts for kind in part.kinds}
    reads_namespaces = added.pop(id(NAMESPACES), None) is not None or any(part.has_transport for part in parts)
    usual = {kind.label for part in parts if part.is_default for kind in part.kinds}
    labels = {kind.type: kind.label for kind in added.values()}
    core = watch_namespaces(CORE_KINDS) if reads_namespaces else CORE_KINDS
    return MeshKinds(
        core=tuple(kind for kind in core if kind.is_watched),
        added=tuple(added.values()),
        needed=frozenset(labels.values()) - usual,
        status_fields={
            labels[builder.type]: builder.field for part in parts for builder in part.builders if builder.type in labels
        },
        plugins=tuple(sorted(names)),
        problems=tuple(problems),
    )


class _Part(msgspec.Struct, frozen=True):
    """What one plugin brings."""

    kinds: Sequence[ResourceKind]
    builders: Sequence[StatusBuilder]
    has_transport: bool
    is_default: bool


def _load(plugin: InstalledPlugin, settings: Mapping[str, str]) -> _Part:
    """Load one plugin. Raises MaeshError."""
    loaded = load_plugins("controller", (plugin,), {plugin.name: settings})
    return _Part(
        loaded.collect("maesh_resource_kinds"),
        loaded.collect("maesh_status_builders"),
        bool(loaded.collect("maesh_transport_rules")),
        plugin.is_default,
    )


def _read_settings(plugin: str, flags: Flags) -> dict[str, str]:
    prefix = f"{plugin}."
    return {key.removeprefix(prefix): text for key, text in flags.settings.items() if key.startswith(prefix)}
