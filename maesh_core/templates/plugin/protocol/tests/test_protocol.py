"""Connections through a real mesh."""

import pytest

from maesh_core.testing import find_free_port, send_request


@pytest.fixture
def start_carried(start_mesh):
    """Start a mesh whose service is carried by this protocol; gives it, and the port that leads to the service."""

    def start(servers=1):
        settings = (f"blank.first-port={find_free_port(first=17000, last=19999)}", "blank.limit=1")
        flags = [word for setting in settings for word in ("--set", setting)]
        mesh = start_mesh("--blank", *flags, annotations={"traffic-type": "blank"}, servers=servers)
        (port,) = mesh.describe_service()["ports"]
        return mesh, port["entrypoint"]

    return start


def test_connections_go_to_the_servers_in_turn(start_carried):
    _, port = start_carried(servers=2)
    answers = [send_request(port).text for _ in range(20)]
    assert set(answers) == {"app-1", "app-2"}


def test_a_server_that_is_gone_ends_the_connection_and_the_next_one_is_carried(start_carried):
    mesh, port = start_carried(servers=2)
    mesh.upstreams[0].close()
    assert {send_request(port).status for _ in range(20)} == {0, 200}


def test_the_connections_are_counted(start_carried):
    mesh, port = start_carried()
    assert send_request(port).status == 200
    assert "maesh_blank_connections_total 1.0" in mesh.read_metrics()
