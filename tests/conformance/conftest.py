"""One mesh of each form for all cases, and the report that `make conformance` writes."""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from .cases import load_manifest, load_suite
from .meshes import ClusterMesh, LocalMesh, Mesh
from .pods import EchoPods
from .reporting import build_report

REPORT_VARIABLE = "CONFORMANCE_REPORT"
"""Names the file for the report; all cases must then run in one process."""
MESHES: Mapping[str, Callable[[Path, EchoPods], Mesh]] = {"up": LocalMesh, "cluster": ClusterMesh}


@pytest.fixture(scope="session")
def echo_pods():
    deployments = [each for each in load_manifest("base.yaml") if each["kind"] == "Deployment"]
    with EchoPods(deployments) as pods:
        yield pods


@pytest.fixture(autouse=True)
def close_connections(echo_pods):
    """Close the connections of the proxies to the pods after each test."""
    yield
    echo_pods.close_connections()


@pytest.fixture(scope="session", params=list(MESHES))
def mesh(request, echo_pods, tmp_path_factory):
    """Run a mesh with the base manifests."""
    mesh = MESHES[request.param](Path(tmp_path_factory.mktemp(request.param)), echo_pods)
    yield mesh
    mesh.close()


@pytest.fixture(scope="session")
def results():
    """Collect what was wrong with each case in any mesh, and write the report."""
    found: dict[str, str] = {}
    yield found
    if path := os.environ.get(REPORT_VARIABLE):
        report = build_report(
            load_suite(), found, version=version("maesh"), date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        Path(path).write_text(yaml.safe_dump(report, sort_keys=False))
