"""`maesh plugins new NAME`: creates the distribution of a working plugin with passing tests.

Copies a template (maesh_core/templates/plugin), a plugin called `blank`, and replaces its name. Writes a complete new
folder, or nothing.
"""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maesh_core.controller.configuration.annotation_values import CORE_ANNOTATIONS
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.errors import MaeshError
from maesh_core.model.keys import is_label
from maesh_core.plugin_system.metadata import SHIPPED, find_name_problem, list_installed
from maesh_core.settings.loading import list_core_flags

TEMPLATES = Path(__file__).resolve().parents[1] / "templates" / "plugin"
CORE_TRAFFIC_TYPES = frozenset({HttpTrafficType.name, TcpTrafficType.name})
_RENAMED = {"gitignore": ".gitignore"}
"""Files with another name in the template, because tools would apply them to the template's own folder."""


class Kind(StrEnum):
    """What a plugin provides; there is a template for each."""

    MIDDLEWARE = "middleware"
    PROTOCOL = "protocol"
    TOPOLOGY = "topology"
    DISCOVERY = "discovery"


def add_command(group: typer.Typer) -> None:
    """Add the command to the group `plugins`."""

    def run(
        name: Annotated[
            str, typer.Argument(metavar="NAME", help="Name of the plugin and of its flag: [a-z][a-z0-9-]*.")
        ],
        kind: Annotated[Kind, typer.Option(help="What the plugin provides.")] = Kind.MIDDLEWARE,
        folder: Annotated[
            Path | None,
            typer.Option(metavar="PATH", help="Folder to create; default: maesh-NAME in the current folder."),
        ] = None,
    ) -> None:
        """Create a new plugin: a package with tests, ready to install."""
        target = folder or Path(f"maesh-{name}")
        write_plugin(name, kind, target)
        print(render_next_steps(name, target))  # noqa: T201 - what was asked for

    group.command("new")(run)


def write_plugin(name: str, kind: Kind, folder: Path) -> None:
    """Write a plugin into a new folder. Raises MaeshError, and then writes nothing."""
    problem = find_problem(name, kind)
    if problem is not None:
        raise MaeshError(f"{name!r} is a name that {problem}")
    if folder.exists() or folder.is_symlink():
        raise MaeshError(f"{folder} already exists")
    try:
        fresh = Path(tempfile.mkdtemp(prefix=".maesh-", dir=folder.parent))
        try:
            for template in ("common", kind.value):
                _copy(TEMPLATES / template, fresh, name)
            fresh.chmod(0o755)
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise MaeshError(f"{folder} cannot be written: {error.strerror}") from error


def find_problem(name: str, kind: Kind) -> str | None:
    """Return why a plugin of this kind cannot have this name, as the end of a sentence after `a name that`."""
    problem = find_name_problem(name, list_core_flags())
    if problem is not None:
        return problem
    if name in SHIPPED | {plugin.name for plugin in list_installed()}:
        return "another plugin has"
    if name == "core" or not is_label(name):
        return "its package cannot have"
    if kind is Kind.MIDDLEWARE and name in CORE_ANNOTATIONS:
        return "an annotation of the mesh itself has"
    if kind is Kind.PROTOCOL and name in CORE_TRAFFIC_TYPES:
        return "a traffic type of the mesh itself has"
    for source in sorted((TEMPLATES / kind.value).rglob("*.py")):
        names = list(_list_names(_rename(source.read_text(encoding="utf-8"), name)))
        if len(names) != len(set(names)):
            return f"an import of {source.name} has, too"
    return None


def render_next_steps(name: str, folder: Path) -> str:
    """Render the list of new files and the next steps."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return "\n".join(
        (
            f"Created a working plugin in {folder}:",
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
    """Replace all forms of the template's name with the plugin's name."""
    title = "".join(part.capitalize() for part in name.split("-"))
    forms = {"maesh_blank": f"maesh_{name.replace('-', '_')}", "X-Blank": f"X-{name.title()}"}
    forms |= {"blank": name, "Blank": title}
    return re.sub("|".join(forms), lambda match: forms[match[0]], text)


def _list_names(source: str) -> Iterator[str]:
    """List the names that a module imports and defines at its top level."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
