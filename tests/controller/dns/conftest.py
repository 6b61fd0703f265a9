"""What tests of DNS share: the blocks of a mesh with all names at their defaults, and objects of a cluster."""

from pathlib import Path

import pytest

from maesh_core.controller.dns.corefile import ZONES, BlockBuilder
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access

from .dns_cluster import Cluster, build_deployment, build_map

DATA = Path(__file__).resolve().parents[2] / "data" / "dns"


@pytest.fixture
def read_corefile():
    """Read a file of tests/data/dns without touching its newlines."""
    return lambda name: (DATA / name).read_bytes().decode()


@pytest.fixture
def builder():
    return BlockBuilder(mesh_namespace="maesh", cluster_domain="cluster.local")


@pytest.fixture
def blocks(builder):
    return {zone: builder.build(zone, exact={}) for zone in ZONES}


@pytest.fixture
async def cluster(api_server, tmp_path):
    credentials = find_access(str(api_server.write_kubeconfig(tmp_path / "kubeconfig")), "", {})
    client = KubernetesClient(credentials)
    yield Cluster(api_server, client)
    await client.close()


@pytest.fixture
def kubeadm(cluster, read_corefile):
    """A cluster of kubeadm's kind."""
    cluster.server.apply(build_deployment("coredns", "registry.k8s.io/coredns/coredns:v1.11.3", ["coredns"]))
    cluster.server.apply(build_map("coredns", {"Corefile": read_corefile("corefiles/kubeadm")}))
    return cluster
