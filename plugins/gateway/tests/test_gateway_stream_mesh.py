"""TCPRoutes and UDPRoutes through a real mesh."""

import socket
import socketserver
import threading
from collections import Counter

import pytest

from maesh_testing import build_pod, build_service, send_request
from maesh_testing.ports import find_free_port

from .conftest import write_route, write_rule

pytestmark = pytest.mark.integration
NAMESPACE = "test"
PATIENCE_S = 60
NAMES: dict[str, bytes] = {}
"""What each server says, by its address."""


class _TcpHandler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(NAMES[str(self.server.server_address)])


class _UdpHandler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(NAMES[str(self.server.server_address)], self.client_address)


@pytest.fixture
def start_server():
    """Start a server that says its name."""
    servers = []

    def start(name, type_=socketserver.ThreadingTCPServer, address="127.0.0.1"):
        handler = _UdpHandler if type_ is socketserver.UDPServer else _TcpHandler
        server = type_((address, 0), handler)
        NAMES[str(server.server_address)] = name.encode()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return server.server_address

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def route(kind, *backends):
    parents = [{"group": "", "kind": "Service", "name": "front"}]
    return write_route("front", [write_rule(*backends)], namespace=NAMESPACE, parents=parents, kind=kind)


def consumer_route(kind, backend):
    """Write a route of namespace `lab`, for its clients only."""
    parents = [{"group": "", "kind": "Service", "name": "front", "namespace": NAMESPACE}]
    rule = write_rule({"name": backend, "namespace": NAMESPACE, "port": 80})
    return write_route("mine", [rule], namespace="lab", parents=parents, kind=kind)


def allow(name, account):
    """Allow the accounts of both clients to connect to the pods of an account."""
    sources = [{"kind": "ServiceAccount", "name": "guest", "namespace": each} for each in ("lab", "zoo")]
    spec = {
        "destination": {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE},
        "sources": sources,
        "rules": [{"kind": "TCPRoute", "name": "all"}],
    }
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": metadata, "spec": spec}


LAB, ZOO = "127.0.9.1", "127.0.9.2"
CLIENTS = [build_pod("client", LAB, "guest", namespace="lab"), build_pod("client", ZOO, "guest", namespace="zoo")]
ALL_PORTS = {
    "apiVersion": "specs.smi-spec.io/v1alpha4",
    "kind": "TCPRoute",
    "metadata": {"name": "all", "namespace": NAMESPACE},
    "spec": {},
}


def find_entrypoint(mesh, name="front"):
    (port,) = mesh.describe_service(name)["ports"]
    return port["entrypoint"]


def read_name(port, source=""):
    """Connect and read a name; empty if the connection is refused or closed."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0)) as sock:
            return sock.recv(100).decode()
    except ConnectionError:
        return ""


def ask(port, source=""):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        sock.send(b"?")
        return sock.recv(100).decode()


def make_udp(objects):
    for each in objects:
        for port in each["spec"]["ports"] if each["kind"] == "Service" else each["ports"]:
            port["protocol"] = "UDP"
    return objects


def test_connections_are_divided_and_the_share_of_an_invalid_backend_is_refused(start_mesh, start_server):
    objects = [
        *build_service("front", [start_server("front")]),
        *build_service("v1", [start_server("v1")]),
        *build_service("v2", [start_server("v2")]),
    ]
    backends = (
        {"name": "v1", "port": 80, "weight": 2},
        {"name": "v2", "port": 80, "weight": 1},
        {"name": "gone", "port": 80, "weight": 1},
    )
    flags = ("--tcp-port", find_free_port(), "--limit-tcp-port", 1)
    mesh = start_mesh(*flags, objects=[*objects, route("TCPRoute", *backends)])
    assert mesh.describe_service("front")["ports"][0]["trafficType"] == "tcp"
    port = find_entrypoint(mesh)
    assert Counter(read_name(port) for _ in range(16)) == {"v1": 8, "v2": 4, "": 4}
    (status,) = send_request(mesh.api_port, path="/api/status/routes").json
    found = {each["type"]: (each["status"], each["reason"]) for each in status["parents"][0]["conditions"]}
    assert status["kind"] == "TCPRoute"
    assert found == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("False", "BackendNotFound")}
    mesh.manifests.write("more.json", [*objects, route("TCPRoute", {"name": "v2", "port": 80})])
    mesh.wait_until(lambda: {read_name(port) for _ in range(8)} == {"v2"}, "the changed route")


def test_sessions_of_udp_go_to_the_backends_of_a_route(start_mesh, start_server):
    udp = socketserver.UDPServer
    objects = make_udp(
        [
            *build_service("front", [start_server("front", udp)]),
            *build_service("v1", [start_server("v1", udp)]),
            *build_service("v2", [start_server("v2", udp)]),
        ]
    )
    backends = ({"name": "v1", "port": 80}, {"name": "v2", "port": 80})
    first = find_free_port(socket.SOCK_DGRAM)
    flags = ("--set", f"udp.port={first}", "--set", "udp.limit=1")
    mesh = start_mesh(*flags, objects=[*objects, route("UDPRoute", *backends)])
    port = find_entrypoint(mesh)
    assert Counter(ask(port) for _ in range(8)) == {"v1": 4, "v2": 4}


def test_clients_of_a_namespace_have_a_rule_of_their_own_under_the_same_access_control(start_mesh, start_server):
    front, v1 = start_server("front", address="127.0.9.3"), start_server("v1", address="127.0.9.4")
    objects = [
        *build_service("front", [front], annotations={"traffic-type": "tcp"}, account="front"),
        *build_service("v1", [v1], account="v1"),
        *CLIENTS,
        *(ALL_PORTS, allow("front", "front"), consumer_route("TCPRoute", "v1")),
    ]
    flags = ("--acl", "--tcp-port", find_free_port(), "--limit-tcp-port", 1)
    mesh = start_mesh(*flags, objects=objects)
    port = find_entrypoint(mesh)
    assert (read_name(port, ZOO), read_name(port, LAB)) == ("front", "")
    (status,) = send_request(mesh.api_port, path="/api/status/routes").json
    assert {each["type"]: each["status"] for each in status["parents"][0]["conditions"]} == {
        "Accepted": "True",
        "ResolvedRefs": "True",
    }
    mesh.manifests.write("allowed.json", [allow("v1", "v1")])
    mesh.wait_until(lambda: read_name(port, LAB) == "v1", "access to the backend of the rule")
    assert read_name(port, ZOO) == "front"
    found = send_request(mesh.api_port, path=f"/api/explain?client={LAB}&service=front.{NAMESPACE}").json
    assert (found["isAdmitted"], [each["service"] for each in found["destinations"]]) == (True, ["test/v1:80"])
    assert "clients of namespace lab have rules of their own" in found["steps"]


def test_sessions_of_clients_of_a_namespace_follow_their_own_rule(start_mesh, start_server):
    udp = socketserver.UDPServer
    objects = make_udp(
        [
            *build_service("front", [start_server("front", udp)], annotations={"traffic-type": "udp"}),
            *build_service("v1", [start_server("v1", udp)]),
        ]
    )
    first = find_free_port(socket.SOCK_DGRAM)
    flags = ("--set", f"udp.port={first}", "--set", "udp.limit=1")
    objects += CLIENTS
    mesh = start_mesh(*flags, objects=[*objects, consumer_route("UDPRoute", "v1")])
    port = find_entrypoint(mesh)
    assert (ask(port, LAB), ask(port, ZOO), ask(port)) == ("v1", "front", "front")
    mesh.manifests.write("more.json", [*objects, consumer_route("UDPRoute", "front")])
    mesh.wait_until(lambda: ask(port, LAB) == "front", "the changed route")
