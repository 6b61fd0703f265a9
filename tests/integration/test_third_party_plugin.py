"""Third parties' plugins, installed with pip into a fresh virtual environment as their users do it.

They are the examples, one of each kind that `maesh plugins new` writes, the one that the guide makes, and a guard with
a setting that it requires; each runs its own tests there, of which the contract of every plugin is a part.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from maesh_core.cli.new_plugin import Kind, write_plugin

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "plugins").iterdir())
GUIDE = ROOT / "docs" / "plugins.md"
DOOR = ROOT / "tests" / "data" / "plugins" / "acme-door"
GENERATED = tuple(f"new-{kind}" for kind in Kind)
PROJECTS = (*(folder.name for folder in EXAMPLES), *GENERATED, "guide", DOOR.name)


def write_guides_project(folder):
    """Write the files of the guide: a paragraph begins with a file's name, and a block with its content follows."""
    paragraph = r"^`(acme-greet/[^`]+)`(?:[^\n]|\n(?!\n))*"
    blocks = re.findall(rf"{paragraph}\n\n```[a-z]+\n(.*?)```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    for path, content in blocks:
        target = folder / Path(path).relative_to("acme-greet")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


@pytest.fixture(scope="module")
def projects(make_once):
    """Return a folder with every project."""
    return make_once("projects", write_projects)


def write_projects(folder):
    for example in (*EXAMPLES, DOOR):
        shutil.copytree(example, folder / example.name, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for kind in Kind:
        write_plugin(f"new-{kind}", kind, folder / f"new-{kind}")
    write_guides_project(folder / "guide")


@pytest.fixture(scope="module")
def venv(make_once, projects):
    """Make a virtual environment that sees what this one has, and install the projects into it.

    Needs no network: what they depend on is here already, and so is what builds them.
    """
    return make_once("venv", lambda folder: make_environment(folder, projects))


def make_environment(folder, projects):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    python = folder / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    here = sysconfig.get_path("purelib")
    (site_packages / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    options = ("--quiet", "--no-deps", "--no-build-isolation")
    install = ["-m", "pip", "--python", python, "install", *options, *sorted(projects.iterdir())]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([sys.executable, *install], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def maesh_program(venv):
    """Make every fixture use the command of the fresh environment."""
    return (venv / "bin" / "python", "-P", "-m", "maesh_core.cli")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("project", PROJECTS)
def test_its_own_tests_pass_where_it_is_installed(venv, projects, project):
    command = [venv / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-ra", projects / project]
    done = subprocess.run(command, capture_output=True, text=True, cwd=projects / project, timeout=500)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_generated_plugins_can_be_tested_in_one_run(venv, projects):
    """The modules of their tests have names of their own, whatever way pytest imports them."""
    words = ("-q", "-p", "no:cacheprovider", "-k", "not Contract")
    command = [venv / "bin" / "python", "-m", "pytest", *words, *(projects / name for name in GENERATED)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=projects, timeout=500)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert "error" not in done.stdout
    assert re.search(r"\d+ passed", done.stdout)


@pytest.fixture
def stamped(manifests, build_service, start_upstream):
    """Put a service with the plugin's annotation into the manifests."""
    annotations = {"maesh.containo.us/stamp": "X-Team: payments"}
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port, annotations=annotations))


@pytest.mark.parametrize("command", ["up", "controller", "proxy"])
def test_flag_of_an_installed_plugin_is_in_the_help(run_maesh, command):
    ended = run_maesh(command, "--help", env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert ended.status == 0, ended.stderr
    assert "--stamp" in ended.stdout
    assert "--no-stamp" in ended.stdout


def test_plugin_is_listed_with_its_distribution_and_not_enabled(run_maesh):
    ended = run_maesh("plugins", env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert ended.status == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if "maesh-stamp" in line]
    assert "0.1.0" in line


def test_the_environment_switches_a_plugin_on_as_its_flag_does(up, get, manifests, stamped):
    mesh = up(manifests.path, env={"MAESH_PLUGINS": "stamp"})
    assert get(mesh.http_port, "cart.test.maesh").headers["X-Team"] == "payments"
