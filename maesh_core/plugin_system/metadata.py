"""Which plugins are installed, and which of them are enabled.

Takes the metadata of installed distributions (entry points of group `maesh.plugins`) and the switches of the settings.
Returns descriptions of plugins. Must not import a plugin: one that is not enabled is never imported.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from maesh_core.errors import PluginError
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.fields import normalise_name

ENTRY_POINT_GROUP = "maesh.plugins"
PARENT_GROUP = "maesh.parents"
"""Names the half of a plugin that runs in the parent of a proxy's workers. It is in the metadata, so that the parent
imports no plugin without such a half."""
COMMANDS_GROUP = "maesh.commands"
"""Names the commands of a plugin: a sequence of `Command`. It is in the metadata, so that help imports no plugin."""
CONVERTERS_GROUP = "maesh.converters"
"""Names the converter of a plugin, a `Converter`, for `maesh convert`. It is in the metadata for the same reason."""

DEFAULT_ON = frozenset(
    {
        "circuitbreaker",
        "concurrency",
        "cors",
        "gateway",
        "headers",
        "mirror",
        "ratelimit",
        "redirect",
        "retry",
        "rewrite",
        "session",
        "smi",
        "timeout",
        "udp",
    }
)
"""Enabled by default if they are installed; every other plugin needs its flag."""

LOCAL_DEFAULT_ON = frozenset({"dashboard"})
"""Also enabled by default in `maesh up`, which only this machine can reach."""

SHIPPED = DEFAULT_ON | LOCAL_DEFAULT_ON | {"acl", "access-log", "compress", "egress", "fault", "jwt", "mtls", "otel"}
"""The project's own plugins: known by name also where they are not installed."""

_NAME = re.compile(r"[a-z][a-z0-9-]*")


def list_installed() -> tuple[InstalledPlugin, ...]:
    """List what is installed, by name and then distribution; a name may occur twice."""
    found = [_describe(entry_point) for entry_point in entry_points(group=ENTRY_POINT_GROUP)]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def _describe(entry_point: EntryPoint) -> InstalledPlugin:
    distribution = entry_point.dist
    metadata = distribution.metadata if distribution is not None else None
    others = distribution.entry_points if distribution is not None else ()
    parents = (each.value for each in others if each.group == PARENT_GROUP and each.name == entry_point.name)
    commands = (each.value for each in others if each.group == COMMANDS_GROUP and each.name == entry_point.name)
    converters = (each.value for each in others if each.group == CONVERTERS_GROUP and each.name == entry_point.name)
    return InstalledPlugin(
        name=entry_point.name,
        distribution=(metadata and metadata["Name"]) or "an unnamed distribution",
        version=(metadata and metadata["Version"]) or "without version",
        summary=(metadata and "Summary" in metadata and metadata["Summary"]) or "",
        is_default=entry_point.name in DEFAULT_ON,
        path=entry_point.value,
        parent=next(parents, ""),
        commands=next(commands, ""),
        converter=next(converters, ""),
    )


def enable_local_defaults(installed: Sequence[InstalledPlugin]) -> tuple[InstalledPlugin, ...]:
    """Make the plugins defaults that only `maesh up` enables by default."""
    return tuple(replace(each, is_default=each.is_default or each.name in LOCAL_DEFAULT_ON) for each in installed)


def find_name_problem(name: str, core_flags: Collection[str]) -> str | None:
    """Return why a plugin cannot have a name, worded to follow `a name that`; None if it can."""
    if _NAME.fullmatch(name) is None or name.startswith("no-"):
        return "cannot be a flag: it must match [a-z][a-z0-9-]* and not begin with 'no-'"
    if normalise_name(name) in {normalise_name(flag) for flag in core_flags}:
        return "is a flag of maesh itself"
    return None


def find_name_problems(
    installed: Sequence[InstalledPlugin], core_flags: Collection[str]
) -> Mapping[InstalledPlugin, str]:
    """Return the plugins whose names are not valid or not unique, each with an error that names the distributions."""
    owners: dict[str, list[InstalledPlugin]] = {}
    for plugin in installed:
        owners.setdefault(normalise_name(plugin.name), []).append(plugin)
    problems = {}
    for plugin in installed:
        same = owners[normalise_name(plugin.name)]
        problem = find_name_problem(plugin.name, core_flags)
        if problem is not None:
            problems[plugin] = f"{plugin.label} has a name that {problem}; uninstall {plugin.distribution}"
        elif len(same) > 1:
            names = " and ".join(f"{other.distribution} {other.version}" for other in same)
            problems[plugin] = f"plugin '{plugin.name}' is registered by {names}; uninstall all but one"
    return problems


def resolve_enabled(
    installed: Sequence[InstalledPlugin],
    switches: Mapping[str, bool],
    origins: Mapping[str, str] | None = None,
) -> tuple[InstalledPlugin, ...]:
    """Return the enabled plugins: the installed defaults, changed by the switches.

    `origins` maps names to where a switch was set. Raises PluginError for a switch that names an unknown plugin, or
    that enables one that is not installed.
    """
    names = {plugin.name for plugin in installed}
    for name, is_on in switches.items():
        if name not in names and (is_on or name not in SHIPPED):
            origin = (origins or {}).get(name, "")
            raise PluginError(describe_missing(name, installed, origin=origin))
    return tuple(plugin for plugin in installed if switches.get(plugin.name, plugin.is_default))


def describe_missing(name: str, installed: Sequence[InstalledPlugin], *, origin: str) -> str:
    """Describe that a plugin is not installed, and which ones are."""
    there = ", ".join(f"{plugin.name} ({plugin.distribution} {plugin.version})" for plugin in installed) or "none"
    prefix = f"{origin}: " if origin else ""
    return f"{prefix}plugin '{name}' is not installed; installed plugins: {there}"
