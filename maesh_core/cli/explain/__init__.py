"""`maesh explain`: what would happen to a request, and which rules decide it.

Queries a controller's API, or builds the configuration from manifests. Prints text or JSON. The exit status is 0 if the
request is allowed and 3 if it is not, for use in scripts.
"""

import asyncio
import inspect
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from maesh_core.cli.flag_groups import MAIN, GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.errors import ConfigurationError, PluginError, SettingsError
from maesh_core.plugin_system.loading import LoadedPlugins, load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_lines
from maesh_core.settings import ExplainSettings, InstalledPlugin
from maesh_core.settings.states import build_controller_settings

if TYPE_CHECKING:
    from maesh_core.controller.explaining.sources import Sources
    from maesh_core.controller.rebuilds.engine import Engine

DENIED_STATUS = 3
TIMEOUT_S = 10.0
"""Time-out of a request to a controller."""


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def command(**given: Any) -> None:
        """Show what would happen to a request from CLIENT to SERVICE, and which rules decide it.

        CLIENT is a pod or an address. Write a pod or SERVICE as name.namespace, namespace/name or name@namespace.
        The name of a SERVICE alone means the one in the client's namespace. METHOD is GET and PATH is / by default.
        The command queries a controller, or reads manifests with --manifests. With --endpoint, it queries that
        controller; otherwise one of the cluster, or http://127.0.0.1:9000.
        """
        names = ("client", "service", "method", "path", "port", "headers", "manifests")
        asked = {name: given.pop(name) for name in names}
        settings = resolve_settings(ExplainSettings, given, installed)
        if not run(settings, asked):
            raise typer.Exit(DENIED_STATUS)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_build_arguments(), *build_parameters(ExplainSettings, installed)]
    )
    application.command("explain", cls=GroupedCommand)(command)


def _build_arguments() -> list[inspect.Parameter]:
    def build(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    return [
        build("client", str, typer.Argument(..., metavar="CLIENT", help="Pod or address.")),
        build(
            "service",
            str,
            typer.Argument(
                ...,
                metavar="SERVICE",
                help="Service, as name.namespace, name or cluster address.",
            ),
        ),
        build("method", str, typer.Argument("GET", metavar="METHOD", show_default=False)),
        build("path", str, typer.Argument("/", metavar="PATH", show_default=False)),
        build(
            "port",
            str | None,
            typer.Option(
                None,
                "--port",
                metavar="PORT",
                help="Port of the service: 53, 53/udp or its name; default: the first.",
                rich_help_panel=MAIN,
            ),
        ),
        build(
            "headers",
            list[str] | None,
            typer.Option(
                None, "--header", metavar="NAME: VALUE", help="Request header; repeatable.", rich_help_panel=MAIN
            ),
        ),
        build(
            "manifests",
            list[str] | None,
            typer.Option(
                None,
                "--manifests",
                metavar="PATH",
                help="Read these manifests instead of querying a controller; repeatable.",
                rich_help_panel=MAIN,
            ),
        ),
    ]


def run(settings: ExplainSettings, given: dict[str, Any]) -> bool:
    """Print the explanation; returns whether the request is allowed."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.explain.report import render_explanation
    from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer  # aiohttp and more
    from maesh_core.controller.explaining.query import check_request, parse_port

    try:
        check_request(given["method"], given["path"])
        port = parse_port(given["port"] or "")
    except ConfigurationError as error:
        raise SettingsError(str(error)) from error
    asked = ExplainedRequest(
        client=given["client"],
        service=given["service"],
        port=port,
        method=given["method"],
        path=given["path"],
        headers=tuple(_parse_header(text) for text in given["headers"] or ()),
    )
    with ExitStack() as stack:  # single pods are read during the explanation
        sources, plugins = _read(settings, tuple(given["manifests"] or ()), stack)
        judges = {builder.kind: builder for builder in plugins.collect("maesh_middleware_builders")}
        explainer = Explainer(
            sources.topology,
            sources.update,
            judges,
            pods=sources.pods,
            objects=sources.objects,
            problems=sources.problems,
        )
        found = explainer.explain(asked)
    print(msgspec.json.encode(found).decode() if settings.json else show_lines(render_explanation(found)))  # noqa: T201
    return found.is_admitted


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise SettingsError(f"--header: {text!r} is not NAME: VALUE")
    return name.strip(), value.strip()


def _read(settings: ExplainSettings, manifests: tuple[str, ...], stack: ExitStack) -> "tuple[Sources, LoadedPlugins]":
    """Read the sources of the explanation, and load the plugins that built them."""
    from maesh_core.cli.explain.blocking_api import BlockingApi
    from maesh_core.cli.explain.sources import SourcesClient
    from maesh_core.controller.api_clients.controllers import ApiAccess, open_apis
    from maesh_core.controller.explaining.sources import read_engine

    if manifests:
        plugins = _load(settings, settings.plugins)
        return read_engine(asyncio.run(_build(settings, plugins, manifests))), plugins
    api = BlockingApi(
        lambda: open_apis(
            settings.endpoint,
            kubeconfig=settings.kubeconfig,
            master_url=settings.master_url,
            namespace=settings.namespace,
            access=ApiAccess.from_settings(settings),
            timeout_s=TIMEOUT_S,
        )
    )
    sources = SourcesClient(stack.enter_context(api).fetch).read_sources()
    return sources, _load(settings, _find_named(sources.update.plugins))


def _load(settings: ExplainSettings, plugins: tuple[InstalledPlugin, ...]) -> LoadedPlugins:
    return load_plugins("controller", plugins, settings.plugin_settings, origins=settings.origins)


def _find_named(names: Collection[str]) -> tuple[InstalledPlugin, ...]:
    """Find the plugins that the controller has enabled. The plugins that are enabled here do not matter."""
    found = tuple(plugin for plugin in list_installed() if plugin.name in names)
    missing = set(names) - {plugin.name for plugin in found}
    if missing:
        raise PluginError(f"the controller uses plugin '{min(missing)}', which is not installed here")
    return found


async def _build(settings: ExplainSettings, plugins: LoadedPlugins, paths: tuple[str, ...]) -> "Engine":
    from maesh_core.controller.building import build_once

    controller = build_controller_settings(settings, paths, settings.plugins)
    return await build_once(controller, plugins)
