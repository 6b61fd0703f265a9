"""A third party's plugin, installed with pip into a fresh virtual environment: flag, effect, and absence."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "plugins" / "maesh-stamp"
LIST_IMPORTED = """\
import sys
from maesh_core.cli import main
try:
    main()
finally:
    print("IMPORTED", *sorted(name for name in sys.modules if name.startswith("maesh_stamp")), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """Make a virtual environment that sees what this one has, and install the plugin into it from a copy.

    Needs no network: what the plugin depends on is here already, and so is what builds it.
    """
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PROJECT, folder / "maesh-stamp", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    python = folder / "venv" / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    here = sysconfig.get_path("purelib")
    (site_packages / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    install = [
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        folder / "maesh-stamp",
    ]
    done = subprocess.run([sys.executable, *install], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    maesh = folder / "venv" / "bin" / "maesh"
    maesh.write_text(f"#!{python}\nimport sys\nfrom maesh_core.cli import main\nsys.exit(main())\n")
    maesh.chmod(0o755)
    return folder / "venv"


@pytest.fixture
def maesh_program(venv):
    """Make every fixture use the command of the fresh environment."""
    return (venv / "bin" / "maesh",)


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


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_enabled_plugin_stamps_requests_and_responses(up, get, manifests, stamped, way):
    mesh = up(manifests.path, "--stamp") if way == "flag" else up(manifests.path, env={"MAESH_PLUGINS": "stamp"})
    answer = get(mesh.http_port, "cart.test.maesh", "/headers", headers={"X-Team": "forged"})
    assert answer.status == 200
    assert answer.headers["X-Team"] == "payments"
    assert answer.json["x-team"] == "payments"


def test_plugin_setting_comes_from_a_flag(up, get, manifests, stamped):
    mesh = up(manifests.path, "--stamp", "--set", "stamp.prefix=X-Maesh-")
    assert get(mesh.http_port, "cart.test.maesh").headers["X-Maesh-X-Team"] == "payments"


def test_unknown_plugin_setting_stops_the_start(run_maesh, manifests, stamped):
    ended = run_maesh("up", manifests.path, "--stamp", "--set", "stamp.suffix=X")
    assert ended.status == 1
    assert "suffix" in ended.stderr


def test_bad_annotation_closes_the_service(up, get, manifests, build_service, start_upstream):
    annotations = {"maesh.containo.us/stamp": "no header"}
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port, annotations=annotations))
    mesh = up(manifests.path, "--stamp")
    assert get(mesh.http_port, "cart.test.maesh").status == 404
    (service,) = mesh.services
    assert any("no header" in error for error in service["errors"])


def test_plugin_without_its_flag_does_nothing_and_the_service_is_served(up, get, manifests, stamped):
    mesh = up(manifests.path)
    answer = get(mesh.http_port, "cart.test.maesh", "/headers")
    assert answer.status == 200
    assert "X-Team" not in answer.headers
    assert "x-team" not in answer.json
    (service,) = mesh.services
    assert any("stamp" in notice for notice in service["notices"])


@pytest.mark.parametrize("flags", [[], ["--no-stamp"]])
def test_plugin_without_its_flag_is_not_imported(venv, run_listing, flags):
    assert run_listing(*flags) == []


def test_plugin_with_its_flag_is_imported(venv, run_listing):
    assert run_listing("--stamp") == ["maesh_stamp", "maesh_stamp.controller"]


@pytest.fixture
def run_listing(venv, manifests, free_port, environment, wait_until, get):
    """Run `maesh controller` until it is ready; gives the modules of the plugin that it has imported."""

    def run(*flags):
        port = free_port()
        arguments = ["controller", "--api-host", "127.0.0.1", "--api-port", str(port), *flags, str(manifests.path)]
        process = subprocess.Popen(
            [venv / "bin" / "python", "-c", LIST_IMPORTED, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            wait_until(lambda: get(port, path="/api/status/readiness").status == 200, "readiness")
            process.terminate()
            _, written = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
        (line,) = [line for line in written.splitlines() if line.startswith("IMPORTED")]
        return line.split()[1:]

    return run
