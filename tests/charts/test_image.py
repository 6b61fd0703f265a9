"""The Dockerfile, without Docker: what it copies is there, its commands do what they should, and the chart fits it.

No image is built: that needs a container engine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXTRA = "maesh-stamp"


def read_stages():
    """Read the instructions of each stage."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages = [[]]
    for word, _, rest in lines:
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest.strip()))
    return stages


GLOBAL, BUILD, FINAL = read_stages()


def list_instructions(stage, word):
    return [rest for each, rest in stage if each == word]


def compile_rule(pattern):
    text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(f"{text}(?:/.*)?")


def read_rules():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [(not line.startswith("!"), compile_rule(line.lstrip("!"))) for line in lines if line and line[0] != "#"]


RULES = read_rules()


def is_sent(path):
    """Say whether Docker is sent a path: the last rule that matches decides."""
    is_ignored = False
    for ignores, rule in RULES:
        if rule.fullmatch(path):
            is_ignored = ignores
    return not is_ignored


def list_sent(source):
    """List the files of a source of COPY that Docker is sent."""
    top = ROOT / source
    files = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
    return [path for path in files if is_sent(path.relative_to(ROOT).as_posix())]


def copy_sources(folder):
    for line in list_instructions(BUILD, "COPY"):
        *sources, _ = line.split()
        for source in sources:
            found = list_sent(source)
            assert found, source
            for path in found:
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


@pytest.mark.slow
def test_the_commands_install_maesh_its_plugins_and_those_by_others(tmp_path):
    # As written, but for where they write to; what needs the network is left out by settings of pip.
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "maesh"
    copy_sources(source)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EXTRA_PLUGINS": f"./examples/plugins/{EXTRA}",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # which switches it on, as pip reads it
        "PIP_NO_INDEX": "1",
        "MAESH_PURE": "1",  # with which no C compiler is installed
    }
    for command in list_instructions(BUILD, "RUN"):
        moved = f" {command}".replace(" /wheels", f" {wheels}").replace(" /maesh", f" {installed}")
        ended = subprocess.run(
            ["/bin/sh", "-euc", moved], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
    (site,) = installed.glob("lib/python3*/site-packages")
    names = {each.metadata["Name"] for each in distributions(path=[str(site)])}
    plugins = {tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert names == {"maesh", EXTRA, *plugins}
    assert (installed / "bin" / "maesh").exists()
    assert ended.stdout == "engine: pure MAESH_PURE is set\n"
    assert (site / "maesh_core" / "_compiled" / "reason").read_text() == "when it was built: MAESH_PURE is set\n"
    assert (site / "maesh_core" / "templates" / "plugin").is_dir()
    assert not list(site.glob("tests"))


def test_what_plugins_depend_on_is_pinned_so_that_the_image_has_it():
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for path in ROOT.glob("plugins/*/pyproject.toml"):
        dependencies = tomllib.loads(path.read_text())["project"]["dependencies"]
        names = {re.split(r"[^A-Za-z0-9_.-]", each)[0].lower() for each in dependencies}
        assert {name for name in names if not name.startswith("maesh")} <= pinned, path
    assert {"cryptography", "cffi"} <= pinned, "the plugin mtls needs both"


def test_the_last_stage_builds_nothing_and_has_no_root():
    assert [line.split()[0] for line in list_instructions(FINAL, "COPY")] == ["--from=build"]
    (command,) = list_instructions(FINAL, "RUN")
    assert command.startswith("python -m pip uninstall ")
    assert {"pip", "setuptools", "wheel"} <= set(command.split())
    (user,) = list_instructions(FINAL, "USER")
    values = yaml.safe_load((ROOT / "charts/maesh/values.yaml").read_text())
    context = values["podSecurityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert json.loads(*list_instructions(FINAL, "ENTRYPOINT")) == ["maesh"]
    assert not list_instructions(FINAL, "CMD")


def test_it_is_made_from_a_python_that_maesh_runs_on():
    (image,) = [line for line in list_instructions(GLOBAL, "ARG") if line.startswith("PYTHON_IMAGE=")]
    version = tuple(map(int, re.fullmatch(r"PYTHON_IMAGE=python:(\d+)\.(\d+)-slim", image).groups()))
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version >= tuple(map(int, oldest.removeprefix(">=").split(".")))
    assert [line for stage in (BUILD, FINAL) for line in list_instructions(stage, "FROM")] == [
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE}",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("maesh_core/cli/app.py", True),
        ("compiling/modules.txt", True),
        ("maesh_core/_compiled/manifest", False),
        ("plugins/acl/maesh_acl/__init__.py", True),
        ("plugins/acl/README.md", True),
        ("examples/plugins/maesh-stamp/pyproject.toml", True),
        ("maesh_core/templates/plugin/middleware/tests/test_blank.py", True),
        ("plugins/acl/tests/conftest.py", False),
        ("examples/whoami/server.py", False),
        ("maesh_core/cli/__pycache__/app.pyc", False),
        ("plugins/acl/maesh_acl.egg-info/PKG-INFO", False),
        (".git/HEAD", False),
        (".venv/bin/python", False),
        ("tests/conftest.py", False),
        ("charts/maesh/Chart.yaml", False),
    ],
)
def test_docker_is_sent_what_the_image_is_built_from(path, expected):
    assert is_sent(path) is expected
