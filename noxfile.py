"""Test sessions beyond `make test`: every installed Python, and the oldest versions of what Maesh depends on.

`nox` runs them all; `nox -s tests-3.13` and `nox -s lowest` run one. Interpreters that are not installed are skipped.
"""

import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

PINNED = Path("constraints.txt")
PLUGINS = [str(path.parent) for path in sorted(Path("plugins").glob("*/pyproject.toml"))]
QUICK = ("-m", "not integration", "-q")

nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the tests that start no commands, with the pinned versions."""
    run_tests(session, PINNED)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Run the same tests with the oldest versions that pyproject.toml allows, on the oldest Python."""
    constraints = Path(session.create_tmp(), "lowest.txt")
    constraints.write_text(render_lowest(PINNED.read_text().split()))
    run_tests(session, constraints)


def run_tests(session: nox.Session, constraints: Path) -> None:
    """Install Maesh with its plugins within these constraints, and run the quick tests."""
    session.install("--upgrade", "--constraint", str(PINNED), "pip")
    editable = [word for folder in (".", "./testing", *PLUGINS) for word in ("--editable", folder)]
    session.install("--constraint", str(constraints), "--group", "dev", *editable)
    folders = ["tests", *(f"{folder}/tests" for folder in PLUGINS)]
    session.run("python", "-m", "pytest", *(session.posargs or (*QUICK, *folders)), env={"MAESH_PURE": "1"})


def render_lowest(pinned: list[str]) -> str:
    """Render constraints: Maesh's own dependencies at their oldest, the tests' tools as pinned, all else at will."""
    project = tomllib.loads(Path("pyproject.toml").read_text())
    tools = {normalise(Requirement(each).name) for each in project["dependency-groups"]["test"]}
    oldest = {normalise(each.name): each for each in map(Requirement, project["project"]["dependencies"])}
    lines = [line for line in pinned if normalise(line.partition("==")[0]) in tools]
    return "\n".join([*lines, *(f"{name}=={find_lower_bound(each)}" for name, each in oldest.items()), ""])


def find_lower_bound(requirement: Requirement) -> str:
    """Find the version behind `>=`."""
    return next(part.version for part in requirement.specifier if part.operator == ">=")


def normalise(name: str) -> str:
    """Write a distribution's name in its canonical form."""
    return name.lower().replace("_", "-")
