"""`maesh plugins`: the installed plugins, whether they are enabled, what they provide, and why they cannot load.

Reads the switches from flags, environment and file. Imports only enabled plugins, each one separately and with both
halves. A plugin that fails is listed with the reason.
"""

import asyncio
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import typer

from maesh_core.cli import new_plugin
from maesh_core.cli.flag_groups import GroupedGroup
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.cli.tables import render_table
from maesh_core.controller.services import ControllerHost
from maesh_core.errors import StartupError
from maesh_core.plugin_system.loading import Half, LoadedPlugins, load_plugins
from maesh_core.plugin_system.metadata import find_name_problems
from maesh_core.plugin_system.node import Node
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.worker.node_view import NodeView
from maesh_core.settings import ControllerSettings, InstalledPlugin, PluginsSettings, ProxySettings
from maesh_core.settings.loading import list_core_flags

_NOUNS = {
    "maesh_resource_kinds": ("resource kind", "name"),
    "maesh_sources": ("source", "name"),
    "maesh_topology_builders": ("topology builder", "name"),
    "maesh_api_pages": ("page", "path"),
    "maesh_controller_services": ("controller service", "name"),
    "maesh_traffic_types": ("traffic type", "name"),
    "maesh_protocol_handlers": ("traffic type", "name"),
    "maesh_balancer_builders": ("load balancer", "name"),
    "maesh_balancer_factories": ("load balancer", "name"),
    "maesh_middleware_builders": ("middleware", "kind"),
    "maesh_middleware_factories": ("middleware", "kind"),
    "maesh_source_kinds": ("source of requests", "name"),
    "maesh_request_sources": ("source of requests", "name"),
    "maesh_traffic_observers": ("traffic observer", "name"),
    "maesh_outside_rules": ("servers outside of the mesh, by", "name"),
    "maesh_transport_rules": ("transport", "name"),
    "maesh_transports": ("transport", "name"),
}
"""The noun for the objects of each hook, and the attribute with their name."""


class PluginReport(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin in the table or in JSON. `error` is the reason why an enabled plugin, or its name, cannot be used."""

    name: str
    distribution: str
    version: str
    summary: str
    enabled: bool
    default: bool
    provides: tuple[str, ...] = ()
    error: str | None = None


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def run(context: typer.Context, **given: Any) -> None:
        """List the installed plugins and what they provide."""
        if context.invoked_subcommand is not None:
            return
        settings = resolve_settings(PluginsSettings, given, installed)
        reports = asyncio.run(report_plugins(installed, settings))
        print(_render_json(reports) if settings.json else _render_text(reports))  # noqa: T201 - what was asked for

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *build_parameters(PluginsSettings, installed)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    group = typer.Typer(cls=GroupedGroup, invoke_without_command=True, rich_markup_mode=None)
    group.callback()(run)
    new_plugin.add_command(group)
    application.add_typer(group, name="plugins")


async def report_plugins(installed: Sequence[InstalledPlugin], settings: PluginsSettings) -> list[PluginReport]:
    """Describe every plugin. A coroutine, because a proxy's half is loaded in an event loop."""
    problems = find_name_problems(installed, list_core_flags())
    reports = []
    for plugin in installed:
        provides: tuple[str, ...] = ()
        error = problems.get(plugin)
        if error is None and plugin in settings.plugins:
            try:
                provides = _describe_provided(plugin, settings)
            except StartupError as failure:
                error = str(failure)
        reports.append(_build_report(plugin, is_enabled=plugin in settings.plugins, provides=provides, error=error))
    return reports


def _build_report(
    plugin: InstalledPlugin, *, is_enabled: bool, provides: tuple[str, ...], error: str | None
) -> PluginReport:
    return PluginReport(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        summary=plugin.summary,
        enabled=is_enabled,
        default=plugin.is_default,
        provides=provides,
        error=error,
    )


def _describe_provided(plugin: InstalledPlugin, settings: PluginsSettings) -> tuple[str, ...]:
    """Load both halves and describe what they provide, without duplicates."""
    raw: Mapping[str, Any] = settings.plugin_settings.get(plugin.name, {})
    details: dict[str, str] = {}
    halves: tuple[Half, ...] = ("controller", "proxy")
    node = NodeView(ProxySettings(), Clock(asyncio.get_running_loop()))
    for half in halves:
        loaded = load_plugins(half, (plugin,), {plugin.name: raw}, origins=settings.origins)
        for text, detail in _describe_half(loaded, node):
            details[text] = details.get(text) or detail
    return tuple(f"{text} ({detail})" if detail else text for text, detail in details.items())


def _describe_half(loaded: LoadedPlugins, node: Node) -> Iterable[tuple[str, str]]:
    controller = ControllerHost(ControllerSettings(), "")
    for hook, (noun, attribute) in _NOUNS.items():
        for provided in loaded.collect(hook, node=node, controller=controller):
            annotations = getattr(provided, "annotations", ())
            word = "annotation" if len(annotations) == 1 else "annotations"
            detail = f"{word} {', '.join(annotations)}" if annotations else ""
            yield f"{noun} {getattr(provided, attribute, type(provided).__name__)}", detail


def _render_json(reports: Sequence[PluginReport]) -> str:
    return msgspec.json.encode(reports).decode()


def _render_text(reports: Sequence[PluginReport]) -> str:
    if not reports:
        return "No plugins are installed."
    rows = [
        (report.name, f"{report.distribution} {report.version}", "yes" if report.enabled else "no", _explain(report))
        for report in reports
    ]
    return render_table(("PLUGIN", "DISTRIBUTION", "ENABLED", "PROVIDES"), rows)


def _explain(report: PluginReport) -> str:
    if report.error is not None:
        return f"cannot load: {report.error}"
    if not report.enabled:
        return report.summary
    return ", ".join(report.provides) or "nothing"
