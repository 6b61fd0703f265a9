"""`maesh version`: the versions of Maesh, Python and the plugins. Imports no plugin."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated

import msgspec
import typer

from maesh_core import engine
from maesh_core.compiled import NOT_COMPILED, PURE_VARIABLE, CompiledFinder
from maesh_core.settings import InstalledPlugin


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """The form of the engine, `compiled` or `pure`. `reason` is why it is not compiled, or empty."""

    form: str
    reason: str


class PluginVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An installed plugin, enabled or not, and the distribution that it comes from."""

    name: str
    distribution: str
    version: str


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `maesh version --json` prints."""

    maesh: str
    python: str
    platform: str
    engine: EngineReport
    plugins: tuple[PluginVersion, ...]


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def run(
        is_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,  # noqa: FBT002
    ) -> None:
        """Show the versions of maesh and of its parts."""
        if is_json:
            print(msgspec.json.encode(build_report(installed)).decode())  # noqa: T201 - what was asked for
        else:
            print_version(installed)

    application.command("version")(run)


def build_report(installed: Sequence[InstalledPlugin]) -> VersionReport:
    """Collect the versions of this process and of the installed plugins."""
    return VersionReport(
        maesh=version("maesh"),
        python=platform.python_version(),
        platform=platform.platform(),
        engine=EngineReport(form=engine.form, reason=engine.reason),
        plugins=tuple(
            PluginVersion(name=plugin.name, distribution=plugin.distribution, version=plugin.version)
            for plugin in installed
        ),
    )


def print_version(installed: Sequence[InstalledPlugin]) -> None:
    """Print a line for each part."""
    report = build_report(installed)
    reason = f" ({report.engine.reason})" if report.engine.reason else ""
    lines = [
        f"maesh     {report.maesh}",
        f"python    {report.python}",
        f"platform  {report.platform}",
        f"engine    {report.engine.form}{reason}",
    ]
    lines += [f"plugin    {_describe(plugin)}" for plugin in installed]
    print("\n".join(lines))  # noqa: T201 - what was asked for


def _describe(plugin: InstalledPlugin) -> str:
    return f"{plugin.name} ({plugin.distribution} {plugin.version}){_describe_form(plugin)}"


def _describe_form(plugin: InstalledPlugin) -> str:
    """Describe whether a plugin's modules are compiled, or why not; empty if it has no compiled form.

    Also empty if nothing is to be loaded in compiled form: the line of the engine says that.
    """
    if os.environ.get(PURE_VARIABLE):
        return ""
    try:
        found = find_spec(plugin.path.partition(":")[0].partition(".")[0])  # does not import the package
    except (ImportError, ValueError):
        return ""
    for folder in (found and found.submodule_search_locations) or ():
        finder = CompiledFinder(folder)
        if finder.reason == NOT_COMPILED:
            break
        return f", {finder.form}{f' ({finder.reason})' if finder.reason else ''}"
    return ""
