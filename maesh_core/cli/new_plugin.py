"""`maesh plugins new NAME`: writes the distribution of a plugin that works, and whose tests pass, as it stands.

Copies a template (maesh_core/templates/plugin): a plugin called `blank`, with its name in place of that. Writes into
a folder of its own or not at all.
"""

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maesh_core.errors import MaeshError
from maesh_core.plugin_metadata import SHIPPED, find_name_problem, list_installed
from maesh_core.settings_loading import list_core_flags

TEMPLATES = Path(__file__).resolve().parents[1] / "templates" / "plugin"
_RENAMED = {"gitignore": ".gitignore"}
"""A file that tools would obey in the template's own folder has another name there."""


class Kind(StrEnum):
    """What a plugin gives: each is a template."""

    MIDDLEWARE = "middleware"
    PROTOCOL = "protocol"
    TOPOLOGY = "topology"
    DISCOVERY = "discovery"


def add_command(group: typer.Typer) -> None:
    """Add the command to the group `plugins`."""

    def run(
        name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, and its flag: [a-z][a-z0-9-]*.")],
        kind: Annotated[Kind, typer.Option(help="What it gives to the mesh.")] = Kind.MIDDLEWARE,
        folder: Annotated[
            Path | None, typer.Option(metavar="PATH", help="Where it is written; by default maesh-NAME, here.")
        ] = None,
    ) -> None:
        """Write a new plugin: a package with its tests, ready to install."""
        target = folder or Path(f"maesh-{name}")
        write_plugin(name, kind, target)
        print(render_next_steps(name, target))  # noqa: T201 - what was asked for

    group.command("new")(run)


def write_plugin(name: str, kind: Kind, folder: Path) -> None:
    """Write a plugin into a folder that is not there yet; raises MaeshError."""
    problem = find_name_problem(name, list_core_flags())
    if problem is None and name in SHIPPED | {plugin.name for plugin in list_installed()}:
        problem = "another plugin has"
    if problem is not None:
        raise MaeshError(f"{name!r} is a name that {problem}")
    if folder.exists() or folder.is_symlink():
        raise MaeshError(f"{folder} is there already")
    fresh = folder.with_name(f"{folder.name}.new")
    try:
        for template in ("common", kind.value):
            _copy(TEMPLATES / template, fresh, name)
        fresh.rename(folder)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise MaeshError(f"{folder} cannot be written: {error.strerror}") from error


def render_next_steps(name: str, folder: Path) -> str:
    """Say what there is now, and what to do with it."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return "\n".join(
        (
            f"{folder} has a plugin that works:",
            *(f"    {file}" for file in files),
            "",
            "Try it:",
            f"    pip install -e '{folder}[test]'",
            f"    pytest {folder}",
            f"    maesh plugins --{name}",
        )
    )


def _copy(template: Path, folder: Path, name: str) -> None:
    for source in sorted(template.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            relative = _rename(str(source.relative_to(template)), name)
            target = folder / _RENAMED.get(relative, relative)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_rename(source.read_text(encoding="utf-8"), name), encoding="utf-8")


def _rename(text: str, name: str) -> str:
    """Put the plugin's name in place of the template's, in each of its forms."""
    package, title = name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-"))
    text = text.replace("maesh_blank", f"maesh_{package}").replace("X-Blank", f"X-{name.title()}")
    return text.replace("blank", name).replace("Blank", title)
