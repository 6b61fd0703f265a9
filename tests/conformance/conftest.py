"""One mesh of each form for all cases, and the report that `make conformance` writes."""

from pathlib import Path

import pytest

from .cases import load_manifest
from .meshes import ClusterMesh, LocalMesh
from .pods import EchoPods

MESHES = {"up": LocalMesh, "cluster": ClusterMesh}


@pytest.fixture(scope="session")
def echo_pods():
    deployments = [each for each in load_manifest("base.yaml") if each["kind"] == "Deployment"]
    with EchoPods(deployments) as pods:
        yield pods


@pytest.fixture(scope="session", params=list(MESHES))
def mesh(request, echo_pods, tmp_path_factory):
    """Run a mesh with the base manifests."""
    mesh = MESHES[request.param](Path(tmp_path_factory.mktemp(request.param)), echo_pods)
    yield mesh
    mesh.close()
