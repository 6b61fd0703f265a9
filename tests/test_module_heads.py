"""A module's head names only files that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [ROOT / "maesh_core", *ROOT.glob("plugins/*/maesh_*"), ROOT / "benchmarks", ROOT / "compiling"]
MODULES = sorted(
    path for folder in FOLDERS for path in folder.rglob("*.py") if not {"templates", "results"} & {*path.parts}
)


def list_named(path: Path) -> set[str]:
    """List the Python files that the docstring of a module names."""
    head = ast.get_docstring(ast.parse(path.read_text())) or ""
    return set(re.findall(r"(?<![\w./-])[a-z_][\w/]*\.py\b", head))


def is_found(name: str, path: Path) -> bool:
    """Whether a file is beside the module, or in a folder that the module is in, up to the tree's root."""
    return any((folder / name).is_file() for folder in path.parents if folder.is_relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_head_of_a_module_names_files_that_exist(path):
    assert [name for name in list_named(path) if not is_found(name, path)] == []


def test_heads_name_files():
    assert sum(len(list_named(path)) for path in MODULES) > 30
