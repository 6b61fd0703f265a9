"""Source archives and wheels of all distributions, built as for a release and installed into a fresh environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
NAMES = ["maesh", "maesh-testing", *(f"maesh-{folder.name}" for folder in PLUGINS)]
CORE_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt")
LEFT_OUT = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "_compiled")
BUILD_ARCHIVE = """
import sys
sys.path.insert(0, "compiling")
try:
    import backend
except ImportError:
    import setuptools.build_meta as backend
print(backend.build_sdist(sys.argv[1]))
"""


def run(*command, **options):
    environment = {**os.environ, "MAESH_PURE": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, **options)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def copy_sources(folder):
    """Copy what the distributions are built from: nothing of an earlier build can get into them."""
    core = folder / "maesh"
    for name in ("maesh_core", "compiling"):
        shutil.copytree(ROOT / name, core / name, ignore=LEFT_OUT)
    for name in CORE_FILES:
        shutil.copy(ROOT / name, core)
    shutil.copytree(ROOT / "testing", folder / "maesh-testing", ignore=LEFT_OUT)
    for plugin in PLUGINS:
        shutil.copytree(plugin, folder / f"maesh-{plugin.name}", ignore=LEFT_OUT)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Build the source archive of each distribution; return their paths by name."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("archives")
    copy_sources(sources)
    found = {}
    for name in NAMES:
        output = run(sys.executable, "-c", BUILD_ARCHIVE, built, cwd=sources / name)
        found[name] = built / output.splitlines()[-1]
    return found


@pytest.fixture(scope="module")
def wheels(archives, tmp_path_factory):
    """Build the wheels from the source archives; return their paths by name."""
    built = tmp_path_factory.mktemp("wheels")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", built)
    run(sys.executable, "-m", "pip", "wheel", *options, *archives.values())
    return {path.name.partition("-")[0].replace("_", "-"): path for path in built.glob("*.whl")}


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """Install the wheels into a fresh environment, which sees what they depend on in this one; return its folder."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    here = sysconfig.get_path("purelib")
    (site_packages / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    # What is installed in the outer environment must not count as installed here.
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        *wheels.values(),
    )
    return folder


def read_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(path))


@pytest.mark.parametrize("name", NAMES)
def test_archive_and_wheel_have_licence_types_and_no_tests(archives, wheels, name):
    package = "maesh_core" if name == "maesh" else name.replace("-", "_")
    with tarfile.open(archives[name]) as archive:
        sources = {member.partition("/")[2] for member in archive.getnames()}
    with zipfile.ZipFile(wheels[name]) as archive:
        files = set(archive.namelist())
    assert {"LICENSE", "README.md", "pyproject.toml", f"{package}/py.typed"} <= sources
    assert f"{package}/py.typed" in files
    assert [file for file in files if file.endswith(".dist-info/licenses/LICENSE")]
    tops = {file.partition("/")[0] for file in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {package}


@pytest.mark.parametrize("name", NAMES)
def test_wheel_says_who_made_it_under_which_licence_and_what_it_is(wheels, name):
    metadata = read_metadata(wheels[name])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == (name, project["version"])
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Author"] == "The Maesh authors"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith(f"# {'Maesh' if name == 'maesh' else name}\n")


def test_the_installed_command_knows_itself_and_every_plugin(installed):
    where = run(installed / "bin" / "python", "-P", "-c", "import maesh_core; print(maesh_core.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    lines = run(installed / "bin" / "maesh", "version").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("plugin ")] == [folder.name for folder in PLUGINS]
    assert "engine    pure (MAESH_PURE is set)" in lines


def test_the_installed_command_shows_the_flags_of_up_and_those_of_plugins(installed):
    text = run(installed / "bin" / "maesh", "up", "--help")
    assert "--http-port" in text
    assert all(f"--{folder.name} / --no-{folder.name}" in text for folder in PLUGINS)
