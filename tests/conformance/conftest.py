"""One mesh of each form for all cases, and the reports that `make conformance` writes."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from .cases import load_manifest, load_suite
from .meshes import OWN, SHARED, ClusterMesh, LocalMesh, Mesh
from .pods import EchoPods
from .reporting import build_report, name_report

REPORT_VARIABLE = "CONFORMANCE_REPORT"
"""Names the file for the report of own entrypoints; all cases must then run in one process."""
MESHES: Mapping[str, Callable[[Path, EchoPods], Mesh]] = {
    "up": partial(LocalMesh, form=OWN),
    "cluster": partial(ClusterMesh, form=OWN),
    "shared-up": partial(LocalMesh, form=SHARED),
    "shared-cluster": partial(ClusterMesh, form=SHARED),
}


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
    """Collect what was wrong with each case in any mesh of a mode, and write a report of each mode."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    yield found
    if path := os.environ.get(REPORT_VARIABLE):
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for mode, results in found.items():
            report = build_report(load_suite(), results, mode=mode, version=version("maesh"), date=date)
            name_report(Path(path), mode).write_text(yaml.safe_dump(report, sort_keys=False))
