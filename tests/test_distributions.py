"""What every distribution of this repository declares: licence, authors, versions, types and its public names."""

import importlib.util
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
SHIPPED = [ROOT, ROOT / "testing", *PLUGINS]
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/plugins/*/pyproject.toml"))
DISTRIBUTIONS = [*SHIPPED, *EXAMPLES]


def name_folder(folder):
    return folder.relative_to(ROOT).as_posix()


def read_project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())


def find_package(folder):
    return "maesh_core" if folder == ROOT else next(folder.glob("maesh_*/__init__.py")).parent.name


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=name_folder)
def test_a_distribution_has_the_licence_and_says_so(folder):
    project = read_project(folder)["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert project["authors"] == [{"name": "The Maesh authors"}]
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("folder", SHIPPED, ids=name_folder)
def test_a_shipped_distribution_has_the_version_of_the_core_and_can_be_found_by_what_it_is(folder):
    project, core = read_project(folder)["project"], read_project(ROOT)["project"]
    assert project["version"] == core["version"]
    assert project["requires-python"] == core["requires-python"]
    assert "service mesh" in project["keywords"]
    versions = [line for line in project["classifiers"] if "Python :: 3." in line]
    assert versions == [line for line in core["classifiers"] if "Python :: 3." in line]


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=name_folder)
def test_every_requirement_names_the_oldest_version_that_works(folder):
    project = read_project(folder)
    groups = [each for group in project.get("dependency-groups", {}).values() for each in group]
    named = project["project"]["dependencies"] + [each for each in groups if isinstance(each, str)]
    assert [each for each in named if ">=" not in str(Requirement(each).specifier)] == []


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=name_folder)
def test_a_distribution_ships_its_types(folder):
    package = find_package(folder)
    project = read_project(folder)
    assert (folder / package / "py.typed").exists()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"][package]
    assert "Typing :: Typed" in project["project"]["classifiers"]


@pytest.mark.parametrize("folder", [*PLUGINS, *EXAMPLES], ids=name_folder)
def test_a_plugin_lists_all_its_packages(folder):
    inside = {path.parent.relative_to(folder).as_posix() for path in (folder / find_package(folder)).rglob("*.py")}
    packages = read_project(folder)["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted(each.replace("/", ".") for each in inside)


@pytest.mark.parametrize(
    "name",
    ["maesh_core", "maesh_core.plugin", "maesh_testing", "maesh_testing.api_server"]
    + [find_package(folder) for folder in PLUGINS],
)
def test_a_public_module_lists_its_names(name):
    module = import_module(name)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    assert name.startswith(("maesh_core", "maesh_testing")) or "PLUGIN" in module.__all__


def normalise(name):
    return name.lower().replace("_", "-")


def test_every_requirement_of_the_core_is_pinned():
    pinned = {normalise(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    project = read_project(ROOT)
    groups = [each for group in project["dependency-groups"].values() for each in group if isinstance(each, str)]
    named = {normalise(Requirement(each).name) for each in project["project"]["dependencies"] + groups}
    assert named - pinned == set()


def test_the_session_of_oldest_versions_installs_the_lower_bound_of_every_dependency():
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = module.render_lowest((ROOT / "constraints.txt").read_text().split()).split()
    names = [normalise(line.partition("==")[0]) for line in lines]
    assert len(set(names)) == len(names)
    for requirement in map(Requirement, read_project(ROOT)["project"]["dependencies"]):
        (line,) = [line for line in lines if normalise(line.partition("==")[0]) == normalise(requirement.name)]
        assert f">={line.partition('==')[2]}" in map(str, requirement.specifier)
