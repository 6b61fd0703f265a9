"""What tests of DNS share: the blocks of a mesh with all names at their defaults, and objects of a cluster."""

from pathlib import Path

import pytest

from maesh_core.controller.dns.corefile import ZONES, BlockBuilder

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
