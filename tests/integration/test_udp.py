"""UDP from the outside: the announcement's Services, `--no-udp`, workers that die, and entrypoints that are kept."""

import contextlib
import http.client
import json
import os
import random
import re
import select
import signal
import socket
import textwrap
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ANNOUNCED = """\
apiVersion: v1
kind: Service
metadata:
  name: udp-service
  namespace: test
  labels:
    app: my-udp-service
  annotations:
    {annotations}
spec:
  selector:
    app: my-udp-service
  ports:
    {ports}
"""
AS_UDP = "maesh.containo.us/traffic-type: udp"
AS_HTTP = """\
maesh.containo.us/traffic-type: http
maesh.containo.us/retry-attempts: 2
maesh.containo.us/ratelimit-burst: 200"""
UDP_PORT = """\
- port: 8080
  protocol: UDP"""
BOTH_PORTS = """\
- name: datagrams
  port: 8080
  protocol: UDP
- name: web
  port: 80
  protocol: TCP"""
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: pod-{address}
  namespace: test
  labels:
    app: my-udp-service
spec:
  containers:
    - name: app
      image: app
status:
  podIP: {address}
"""


class DatagramServer:
    """Answers each datagram with its own name, the port that it came from, and what it was."""

    def __init__(self, address, port=0):
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self.address, self.port = self._socket.getsockname()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while self._woken not in select.select([self._socket, self._woken], [], [])[0]:
            data, client = self._socket.recvfrom(65536)
            self._socket.sendto(f"{self.address} {client[1]} ".encode() + data, client)

    def close(self):
        self._wake.close()
        self._thread.join(60)
        self._woken.close()
        self._socket.close()


class DatagramClient:
    """Sends to an entrypoint and reads the answer."""

    def __init__(self, entrypoint):
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", entrypoint))

    def ask(self, data=b"hello", *, patience_s=60.0):
        """Give the server's address and the port that it saw, or None where no answer to this came."""
        self.socket.settimeout(patience_s)
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            self.socket.send(data)
            while True:
                address, port, echo = self.socket.recv(65536).split(b" ", 2)
                if echo == data:
                    return address.decode(), int(port)
        return None


@pytest.fixture
def start_server():
    servers = []

    def start(address="127.0.0.1", port=0):
        servers.append(DatagramServer(address, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def start_client():
    clients = []

    def start(entrypoint):
        clients.append(DatagramClient(entrypoint))
        return clients[-1]

    yield start
    for client in clients:
        client.socket.close()


@pytest.fixture
def udp_port(free_port):
    return free_port(socket.SOCK_DGRAM)


@pytest.fixture
def pod_address():
    """Give an address of this machine that nobody else uses: pods behind the announced Service all have port 8080."""
    return "127.{}.{}.{}".format(*(random.randint(1, 254) for _ in range(3)))


def render_announced(annotations, ports, *addresses):
    """Render the announced Service with pods at these addresses."""
    service = ANNOUNCED.format(annotations=indent(annotations), ports=indent(ports))
    return "---\n".join([service, *(POD.format(address=address) for address in addresses)])


def indent(text):
    return textwrap.indent(text, "    ").lstrip()


def build_udp_service(name, *servers):
    """Build the objects of a service of traffic type udp with port 53."""
    metadata = {"name": name, "namespace": "test", "annotations": {"maesh.containo.us/traffic-type": "udp"}}
    service = {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{number}",
                "namespace": "test",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "dns", "port": server.port, "protocol": "UDP"}],
            "endpoints": [{"addresses": [server.address], "conditions": {"ready": True}}],
        }
        for number, server in enumerate(servers)
    ]
    return [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, *slices]


def find_entrypoints(services):
    """Map names of services to the entrypoints of their first ports."""
    return {service["name"]: service["ports"][0].get("entrypoint") for service in services}


def list_sockets(pid):
    """Map the UDP sockets of a process to their local ports, by inode."""
    links = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.add(os.readlink(link))
    found = {}
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in links:
                found[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    return found


def list_udp_ports(command):
    """List the local ports of all UDP sockets of a command and its children."""
    return {port for pid in command.find_left_behind() for port in list_sockets(pid).values()}


# --- the announcement's Services --------------------------------------------------------------------------------------


def test_the_announced_service_is_carried_as_printed(up, manifests, start_server, start_client, udp_port, pod_address):
    start_server(pod_address, 8080)
    manifests.write("udp.yaml", render_announced(AS_UDP, UDP_PORT, pod_address))
    mesh = up(manifests.path, "--set", f"udp.port={udp_port}")
    (service,) = mesh.services
    assert service == {
        "namespace": "test",
        "name": "udp-service",
        "host": "udp-service.test.maesh",
        "trafficType": "udp",
        "ports": [{"name": "", "port": 8080, "protocol": "UDP", "entrypoint": udp_port}],
        "errors": [],
        "notices": [],
    }
    address, _ = start_client(udp_port).ask()
    assert address == pod_address


def test_the_second_form_with_its_udp_port_alone_says_what_is_missing(
    start_maesh, manifests, free_port, get, pod_address
):
    """As printed it is HTTP's, whose servers need a TCP port."""
    manifests.write("udp.yaml", render_announced(AS_HTTP, UDP_PORT, pod_address))
    http_port, api_port = free_port(), free_port()
    ports = ("--http-port", http_port, "--api-port", api_port, "--admin-port", free_port())
    command = start_maesh("up", manifests.path, *ports)
    command.wait_until(lambda: "Ctrl-C" in command.stdout, "the table")
    error = "no port for traffic type http, which needs one with protocol TCP"
    notice = "port 8080 is UDP, which http does not support; 8080.traffic-type selects another type"
    assert f"error: test/udp-service: {error}\n" in command.stdout
    assert f"notice: test/udp-service: {notice}\n" in command.stdout
    (service,) = get(api_port, path="/api/services").json
    assert (service["errors"], service["notices"]) == ([error], [notice])
    assert "entrypoint" not in service["ports"][0]
    assert list_udp_ports(command) == set()


def test_the_second_form_with_a_tcp_port_has_both_middlewares(up, manifests, start_upstream, pod_address):
    """One of its two servers takes no connection, which nobody sees; who asks too often is told so."""
    dead = pod_address.rpartition(".")[0] + ".255"
    upstream = start_upstream("web", pod_address)
    ports = f"{BOTH_PORTS}\n  targetPort: {upstream.port}"
    slowly = "\nmaesh.containo.us/ratelimit-period: 1h"  # in a second, a busy machine may send fewer than 200 requests
    manifests.write("udp.yaml", render_announced(AS_HTTP + slowly, ports, dead, pod_address))
    mesh = up(manifests.path, "--server-pause", "0")  # a server that fails is not set aside, and met again
    (service,) = mesh.services
    assert service["errors"] == []
    assert service["notices"] == [
        "port 8080 is UDP, which http does not support; datagrams.traffic-type selects another type"
    ]
    assert [port.get("entrypoint") for port in service["ports"]] == [None, mesh.http_port + 1]
    connection = http.client.HTTPConnection("127.0.0.1", mesh.http_port + 1, timeout=60)
    statuses = []
    while len(statuses) < 300 and statuses.count(429) < 3:
        connection.request("GET", "/", headers={"Host": "udp-service.test.maesh"})
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses[:200] == [200] * 200
    assert set(statuses) == {200, 429}
    assert upstream.count == statuses.count(200)


# --- without the plugin -----------------------------------------------------------------------------------------------


UNCARRIED = "no enabled plugin supports traffic type 'udp'; known: http, tcp; plugin udp is off; --udp switches it on"


def find_imported(command):
    """Find what a verbose interpreter tells of the plugin's modules."""
    return set(re.findall(r"^import '(maesh_udp[\w.]*)'", command.stderr, re.MULTILINE))


def test_without_the_plugin_its_services_say_so_and_nothing_else_is_touched(
    start_maesh, manifests, free_port, get, start_server, start_upstream, build_service, pod_address
):
    manifests.write("udp.yaml", render_announced(AS_UDP, UDP_PORT, pod_address))
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port))
    database = build_service("db", start_upstream("db-1").port, annotations={"traffic-type": "tcp"})
    manifests.write("db.json", database)
    http_port, tcp_port, api_port = free_port(), free_port(), free_port()
    ports = ("--http-port", http_port, "--limit-http-port", 1, "--tcp-port", tcp_port, "--limit-tcp-port", 1)
    others = ("--api-port", api_port, "--admin-port", free_port())
    command = start_maesh("up", "--no-udp", manifests.path, *ports, *others, env={"PYTHONVERBOSE": "1"})
    command.wait_until(lambda: "Ctrl-C" in command.stdout, "the table")
    assert re.search(r"^test/udp-service +udp-service\.test\.maesh +udp +8080 +-$", command.stdout, re.MULTILINE)
    assert f"error: test/udp-service: {UNCARRIED}\n" in command.stdout
    services = {service["name"]: service for service in get(api_port, path="/api/services").json}
    assert {name: service["errors"] for name, service in services.items()} == {
        "cart": [],
        "db": [],
        "udp-service": [UNCARRIED],
    }
    topology = get(api_port, path="/api/topology/current").json["services"]
    assert topology["udp-service@test"]["errors"] == [UNCARRIED]
    assert topology["udp-service@test"]["ports"][0]["servers"][0]["address"] == pod_address
    assert get(http_port, "cart.test.maesh").text == "cart-1"
    assert get(tcp_port, "any.host").text == "db-1"
    configuration = get(api_port, path="/api/configuration/current").json
    assert configuration["udp"] == {"routers": {}, "services": {}, "middlewares": {}}
    assert list_udp_ports(command) == set()
    assert find_imported(command) == set()


def test_with_the_plugin_its_sockets_and_modules_are_found_as_they_are_looked_for(up, manifests, udp_port, pod_address):
    manifests.write("udp.yaml", render_announced(AS_UDP, UDP_PORT, pod_address))
    mesh = up(manifests.path, "--set", f"udp.port={udp_port}", env={"PYTHONVERBOSE": "1"})
    assert list_udp_ports(mesh.command) == {udp_port}
    assert {"maesh_udp.controller", "maesh_udp.proxy"} <= find_imported(mesh.command)


def test_a_proxy_without_the_plugin_refuses_its_routers_and_carries_the_others(
    start_controller, start_proxy, manifests, free_port, udp_port, get, start_upstream, build_service, pod_address
):
    manifests.write("udp.yaml", render_announced(AS_UDP, UDP_PORT, pod_address))
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port))
    http_port = free_port()
    _, api_port = start_controller(manifests.path, "--http-port", http_port, "--set", f"udp.port={udp_port}")
    proxy, admin_port = start_proxy(api_port, "--no-udp")
    (refused,) = get(admin_port, path="/status").json["refused"]
    assert refused == {
        "router": "udp/routers/test/udp-service:8080",
        "reason": "protocol udp is not loaded by this proxy",
    }
    assert get(http_port, "cart.test.maesh").text == "cart-1"
    assert list_udp_ports(proxy) == set()
    assert "refused udp/routers/test/udp-service:8080" in proxy.stderr


# --- workers ----------------------------------------------------------------------------------------------------------


def test_clients_of_other_workers_keep_their_sessions_when_one_dies(
    start_controller, start_proxy, manifests, udp_port, get, start_server, start_client, wait_until
):
    manifests.write("dns.json", build_udp_service("dns", start_server()))
    _, api_port = start_controller(manifests.path, "--set", f"udp.port={udp_port}")
    proxy, admin_port = start_proxy(api_port, "--workers", "3")
    children = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children")
    workers = sorted(map(int, children.read_text().split()))
    assert len(workers) == 3
    clients = [start_client(udp_port) for _ in range(60)]
    before = {client: client.ask()[1] for client in clients}
    ports = {pid: set(list_sockets(pid).values()) for pid in workers}
    victim = max(workers, key=lambda pid: len(ports[pid] & set(before.values())))
    lost = {client for client in clients if before[client] in ports[victim]}
    assert 0 < len(lost) < len(clients)
    os.kill(victim, signal.SIGKILL)
    kept = [client for client in clients if client not in lost]
    assert [client.ask(b"meanwhile")[1] for client in kept] == [before[client] for client in kept]
    wait_until(lambda: set(map(int, children.read_text().split())) - set(workers), "the process of the successor")
    wait_until(lambda: get(admin_port, path="/status").json["workers"] == 3, "the successor")
    assert [client.ask(b"afterwards")[1] for client in kept] == [before[client] for client in kept]
    for client in lost:
        wait_until(lambda client=client: client.ask(b"again", patience_s=0.5), "a session with the successor")
    (successor,) = set(map(int, children.read_text().split())) - set(workers)
    assert {client.ask()[1] for client in lost} <= set(list_sockets(successor).values())


# --- entrypoints ------------------------------------------------------------------------------------------------------


def test_entrypoints_are_kept_over_a_restart_whatever_comes_first_then(
    up, manifests, udp_port, start_server, start_client, tmp_path
):
    mapping = tmp_path / "mapping.json"
    options = (manifests.path, "--set", f"udp.port={udp_port}", "--port-mapping", mapping)
    servers = {name: start_server(f"127.0.0.{number}") for number, name in enumerate(("middle", "late", "early"), 2)}
    manifests.write("middle.json", build_udp_service("middle", servers["middle"]))
    mesh = up(*options)
    manifests.write("late.json", build_udp_service("late", servers["late"]))
    kept = {"middle": udp_port, "late": udp_port + 1}
    mesh.command.wait_until(lambda: "late" in mapping.read_text(), "the mapping")
    assert mesh.command.stop() == 0
    assert json.loads(mapping.read_text())["ports"] == {
        "udp": {f"test/{name}:53": port for name, port in sorted(kept.items())}
    }

    manifests.write("a.json", build_udp_service("early", servers["early"]))
    mesh = up(*options)
    entrypoints = find_entrypoints(mesh.services)
    assert entrypoints == {**kept, "early": udp_port + 2}
    for name, server in servers.items():
        assert start_client(entrypoints[name]).ask()[0] == server.address


def test_a_service_beyond_the_limit_says_so_until_an_entrypoint_is_free(
    up, manifests, udp_port, get, start_server, start_client
):
    first, second = start_server("127.0.0.2"), start_server("127.0.0.3")
    manifests.write("first.json", build_udp_service("first", first))
    manifests.write("second.json", build_udp_service("second", second))
    mesh = up(manifests.path, "--set", f"udp.port={udp_port}", "--set", "udp.limit=1")
    services = {service["name"]: service for service in mesh.services}
    assert services["first"]["errors"] == []
    assert services["second"]["errors"] == [f"port 53 has no entrypoint: all 1 from {udp_port} are in use"]
    assert find_entrypoints(mesh.services) == {"first": udp_port, "second": None}
    assert start_client(udp_port).ask()[0] == first.address

    (manifests.path / "first.json").unlink()

    def find_second():
        (service,) = [each for each in get(mesh.api_port, path="/api/services").json if each["name"] == "second"]
        return service["ports"][0].get("entrypoint") == udp_port and not service["errors"]

    mesh.command.wait_until(find_second, "the freed entrypoint")
    mesh.command.wait_until(
        lambda: (start_client(udp_port).ask(patience_s=0.5) or [""])[0] == second.address, "its new server"
    )
