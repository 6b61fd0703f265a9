"""Meshes of processes on this machine, and in networks of namespaces."""

import contextlib

import pytest

from maesh_testing.api_server import ApiServer
from maesh_testing.namespaces import open_network

from .cluster_nodes import ClusterNodes
from .three_nodes import ThreeNodes
from .two_nodes import MARKER, RECEIVER, Relay, TwoNodes
from .worlds import World


@pytest.fixture
def network(namespaces):
    """Make a network without nodes."""
    with open_network() as network:
        yield network


@pytest.fixture
def mesh(network, tmp_path):
    """Make three nodes and a machine for the controller; nothing runs yet."""
    with contextlib.closing(ThreeNodes(network, tmp_path / "mesh")) as mesh:
        yield mesh


@pytest.fixture
def world(tmp_path):
    """Make a controller that has an authority."""
    return World(tmp_path / "ca")


@pytest.fixture
def nodes(start_maesh, start_upstream, tmp_path):
    """Make two nodes with a controller; nothing runs yet."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    return TwoNodes(start_maesh, start_upstream(MARKER), folder)


@pytest.fixture
def cluster_nodes(start_maesh, start_upstream, tmp_path):
    """Make two nodes of a cluster; nothing but its API server runs yet."""
    folder = tmp_path / "nodes"
    folder.mkdir()
    with ApiServer() as server:
        yield ClusterNodes(start_maesh, start_upstream(MARKER), folder, server)


@pytest.fixture
def relay(nodes):
    """Record what passes between the nodes."""
    with contextlib.closing(Relay(nodes.ports["tunnel"], (RECEIVER, nodes.ports["tunnel"]))) as relay:
        yield relay
