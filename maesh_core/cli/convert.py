"""`maesh convert NAME PATH...`: prints manifests of other kinds, by the converter of a plugin.

A plugin names its converter in its package metadata, in the group `maesh.converters`; only the one that is called is
imported. Prints YAML on standard output, with notes as comments, and what could not be converted on standard error.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from maesh_core.cli.programs import print_error
from maesh_core.errors import PluginError
from maesh_core.plugin_system.converters import Conversion, Converter
from maesh_core.process.printable import show_line
from maesh_core.settings import InstalledPlugin

WIDTH = 120
"""The longest line of a comment."""


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application, with a command of its own for each converter."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

    def describe() -> None:
        """Print manifests of other kinds, such as those of the Gateway API for those of SMI."""

    group.callback()(describe)
    for plugin in installed:
        if plugin.converter:
            group.command(plugin.name)(_build_function(plugin))
    application.add_typer(group, name="convert")


def _build_function(plugin: InstalledPlugin) -> Callable[..., None]:
    def run(
        paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders with manifests.")],
        is_recursive: Annotated[  # noqa: FBT002
            bool, typer.Option("--recursive", "-R", help="Read manifests in subfolders too.")
        ] = False,
        default_mode: Annotated[
            str, typer.Option("--default-mode", help="Traffic type of services without the annotation.")
        ] = "http",
    ) -> None:
        from maesh_core.controller.converting import run_conversion  # the controller's half, only for this command

        converter = load_converter(plugin)
        report = run_conversion(converter, paths, is_recursive=is_recursive, default_mode=default_mode)
        print(render_conversion(report.conversion), end="")  # noqa: T201 - what was asked for
        failures = (*report.errors, *report.conversion.failures)
        for failure in failures:
            print_error(show_line(failure))
        if failures:
            raise typer.Exit(1)
        if not report.conversion.objects:
            text = f"nothing to convert: the manifests have no objects of plugin {plugin.name} that it converts"
            print(text, file=sys.stderr)  # noqa: T201 - a command's own output

    run.__doc__ = f"""Print what replaces the objects of plugin {plugin.name}. It changes nothing.

    The manifests must include the Services that the objects name, because their ports are needed.
    """
    return run


def load_converter(plugin: InstalledPlugin) -> Converter:
    """Import the converter of a plugin. Raises PluginError."""
    module, _, attribute = plugin.converter.partition(":")
    try:
        converter: Converter = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # importing runs a plugin's code, which may raise anything
        text = f"{plugin.label}: its converter {plugin.converter} cannot be imported: {type(error).__name__}: {error}"
        raise PluginError(text) from error
    return converter


def render_conversion(conversion: Conversion) -> str:
    """Render the objects as YAML documents, and the notes as comments before them."""
    import yaml  # only for this command

    parts = ["".join(map(_render_comment, conversion.notes))] if conversion.notes else []
    for each in conversion.objects:
        comments = "".join(map(_render_comment, each.notes))
        parts.append(comments + yaml.safe_dump(each.value, sort_keys=False, allow_unicode=True, width=WIDTH))
    return "---\n".join(parts)


def _render_comment(text: str) -> str:
    """Render a note as lines of a comment."""
    import textwrap

    lines = textwrap.wrap(show_line(text), WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)
