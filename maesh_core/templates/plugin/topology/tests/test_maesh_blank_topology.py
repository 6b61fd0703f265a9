"""What is added to a service, first alone and then in a real mesh."""

from maesh_blank.controller import BlankTopologyBuilder

from maesh_core.plugin import ObjectKey, PortNode, ServerNode, ServiceNode
from maesh_testing import send_request


def test_servers_are_counted_for_each_port():
    ports = (PortNode(number=80, servers=(ServerNode(address="10.0.0.1", port=8080),)), PortNode(number=443))
    service = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http", ports=ports)
    addition = BlankTopologyBuilder().build(None, service)
    assert addition.value == {"80": 1, "443": 0}
    assert addition.notices == ("port 443 has no server",)


def test_the_api_shows_it(start_mesh):
    mesh = start_mesh("--blank", servers=2)
    assert '"blank":{"80":2}' in send_request(mesh.api_port, path="/api/topology/current").text
    assert mesh.describe_service()["notices"] == []
