"""Random traffic of ten services through two real proxies, the rules that are suggested for it, and their enforcement.

Four clients call some of the ten services, over HTTP, TCP and UDP. A proxy restarts meanwhile. What the proxies
recorded becomes rules, which the same proxies then enforce: what was recorded passes, and every other pair is denied.
"""

import collections
import contextlib
import http.client
import random
import re
import socket
import threading
from functools import partial

import pytest

from maesh_testing import build_pod, build_service, find_free_port, send_request, wait_until

from .test_acl_suggesting import METHODS, draw_path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

KINDS = ("http", "http", "http", "http", "http", "http", "tcp", "tcp", "udp", "udp")
CLIENTS = {"web": "127.0.1.1", "mobile": "127.0.1.2", "batch": "127.0.1.3", "cron": "127.0.1.4"}
STRANGER = ("stranger", "127.0.1.5")
"""A client that calls nothing while traffic is recorded."""
PROXIES = {"a": "127.0.3.1", "b": "127.0.3.2"}
NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "test", "annotations": {"maesh.containo.us/acl-mode": "enforce"}},
}


class DatagramServer:
    """Answers each datagram with itself, and keeps all of them."""

    def __init__(self, address):
        self.address, self.received = address, []
        self._sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sock.bind((address, 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while (found := self._sock.recvfrom(1000))[0] != b"end":
            self.received.append(found[0].decode())
            self._sock.sendto(*found)

    def close(self):
        """End it."""
        with socket.socket(type=socket.SOCK_DGRAM) as ender:
            ender.sendto(b"end", (self.address, self.port))
        self._thread.join()
        self._sock.close()


class Call(collections.namedtuple("Call", ["client", "service", "method", "path"])):
    """A request, a connection or a datagram of a client; the last two have no method and path."""


class RecordedMesh:
    """A controller and two proxies in audit mode, ten services with a server each, and the pods of the clients."""

    def __init__(self, start_maesh, manifests, kinds, servers, stack):
        self._start_maesh, self._manifests, self._servers, self._stack = start_maesh, manifests, servers, stack
        self.kinds = kinds
        self._ports = {name: find_free_port() for name in ("api", "http", "tcp", *PROXIES)}
        self._ports["udp"] = find_free_port(socket.SOCK_DGRAM)
        self._proxies = {}
        self._write_objects()
        self._start_controller()
        for name in PROXIES:
            self.start_proxy(name)
        services = send_request(self._ports["api"], path="/api/services").json
        self._entrypoints = {each["name"]: each["ports"][0]["entrypoint"] for each in services}

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._ports['api']}"

    def _write_objects(self):
        for name, kind in self.kinds.items():
            server = self._servers[name]
            annotations = {"traffic-type": kind}
            objects = build_service(
                name, [(server.address, server.port)], annotations=annotations, account=f"{name}-pods"
            )
            if kind == "udp":
                for port in (*objects[0]["spec"]["ports"], *objects[1]["ports"]):
                    port["protocol"] = "UDP"
            self._manifests.write(f"{name}.json", objects)
        pods = [build_pod(name, address, name) for name, address in (*CLIENTS.items(), STRANGER)]
        self._manifests.write("clients.json", pods)

    def _start_controller(self):
        command = self._start_maesh(
            *("controller", "--acl", "--set", "acl.mode=audit", "--api-host", "127.0.0.1"),
            *("--api-port", self._ports["api"], "--http-port", self._ports["http"], "--limit-http-port", 1),
            *("--tcp-port", self._ports["tcp"], "--limit-tcp-port", 2),
            *("--set", f"udp.port={self._ports['udp']}", "--set", "udp.limit=2"),
            self._manifests.path,
        )
        command.wait_until(
            lambda: send_request(self._ports["api"], path="/api/status/readiness").status == 200, "the controller"
        )

    def start_proxy(self, name):
        """Start a proxy, and wait until it has a configuration."""
        command = self._proxies[name] = self._start_maesh(
            *("proxy", "--node", name, "--endpoint", self.endpoint, "--bind", PROXIES[name], "--acl", "--workers", 1),
            *("--admin-host", "127.0.0.1", "--admin-port", self._ports[name]),
        )
        command.wait_until(lambda: send_request(self._ports[name], path="/ready").status == 200, "a configuration")

    def restart_proxy(self, name):
        """End a proxy, and start it again."""
        assert self._proxies[name].stop() == 0
        self.start_proxy(name)

    def send(self, call, proxy):
        """Send a call to a proxy; returns whether it reached the server. A datagram is not waited for: None."""
        source = (dict([*CLIENTS.items(), STRANGER])[call.client], 0)
        kind, place = self.kinds[call.service], (PROXIES[proxy], self._entrypoints[call.service])
        if kind == "udp":
            sock = self._stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))  # no later one gets its port
            sock.bind(source)
            sock.sendto(f"{call.client} {call.service} {proxy}".encode(), place)
            return None
        if kind == "tcp":
            with contextlib.suppress(ConnectionError), socket.create_connection(place, 60, source) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return sock.recv(1000) != b""
            return False
        connection = http.client.HTTPConnection(*place, timeout=60, source_address=source)
        with contextlib.closing(connection):
            connection.request(call.method, call.path, headers={"Host": f"{call.service}.test.maesh"})
            status = connection.getresponse().status
        assert status in (200, 403)
        return status == 200

    def check(self, call, proxy, *, passes):
        """Send a call, and check that it reaches its server or is denied; for a datagram, wait until it is either."""
        server = self._servers[call.service]
        if self.kinds[call.service] != "udp":
            assert self.send(call, proxy) is passes, (call, proxy)
            return
        text = f"{call.client} {call.service} {proxy}"
        arrived, denied = server.received.count(text), self.count_denied(call.service, proxy)
        self.send(call, proxy)
        if passes:
            wait_until(lambda: server.received.count(text) > arrived, f"the datagram {text}")
        else:
            wait_until(lambda: self.count_denied(call.service, proxy) > denied, f"the denial of {text}")
            assert server.received.count(text) == arrived

    def count_denied(self, service, proxy):
        """Return how often a proxy has denied clients a service."""
        text = send_request(self._ports[proxy], path="/metrics").text
        found = re.findall(rf'^maesh_acl_denied_total{{.*service="test/{service}:80".*}} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))

    def wait_until_recorded(self, count):
        """Wait until the controller has a complete report of so many calls."""

        def read():
            report = send_request(self._ports["api"], path="/api/acl/denials").json
            return report["complete"] and sum(each["count"] for each in report["denials"]) == count

        wait_until(read, f"a report of {count} calls")

    def enforce(self, rules):
        """Apply rules, then enforce access control, and wait until both proxies deny a stranger every service."""
        self._manifests.write("rules.yaml", rules)
        self._manifests.write("namespace.json", [NAMESPACE])
        for proxy in PROXIES:
            for service in self.kinds:
                wait_until(partial(self._denies_strangers, service, proxy), service)

    def _denies_strangers(self, service, proxy):
        self.send(Call(STRANGER[0], service, "GET", "/"), proxy)
        return self.count_denied(service, proxy) > 0


def draw_calls(dice, kinds):
    """Draw the traffic of an hour: each client calls some services."""
    found = []
    for client in CLIENTS:
        for service in dice.sample(sorted(kinds), dice.randint(2, 5)):
            for _ in range(dice.randint(1, 8)):
                if kinds[service] != "http":
                    found.append(Call(client, service, "", ""))
                else:
                    path = f"/users/{dice.randint(1, 9999)}" if dice.random() < 0.3 else draw_path(dice)
                    found.append(Call(client, service, dice.choice(METHODS), path))
    dice.shuffle(found)
    return found


def list_other_calls(dice, kinds, recorded):
    """List calls of each pair of client and service of which nothing was recorded."""
    pairs = {(each.client, each.service) for each in recorded}
    others = [(client, service) for client in CLIENTS for service in kinds if (client, service) not in pairs]
    requests = [("GET", "/"), ("POST", "/users/1"), ("GET", draw_path(dice))]
    return [
        Call(client, service, *request)
        for client, service in others
        for request in (requests if kinds[service] == "http" else [("", "")])
    ]


@pytest.fixture
def start_recorded(start_maesh, start_upstream, manifests):
    """Start the mesh with services of these kinds."""
    with contextlib.ExitStack() as stack:

        def start(kinds):
            servers = {}
            for number, (name, kind) in enumerate(kinds.items(), 1):
                address = f"127.0.2.{number}"
                if kind == "udp":
                    servers[name] = stack.enter_context(contextlib.closing(DatagramServer(address)))
                else:
                    servers[name] = start_upstream(name, address)
            return RecordedMesh(start_maesh, manifests, kinds, servers, stack)

        yield start


def test_rules_from_recorded_traffic_of_ten_services_allow_it_all_and_no_other_pair(start_recorded, run_maesh):
    dice = random.Random(21)
    kinds = {f"s{number}": kind for number, kind in enumerate(dice.sample(KINDS, len(KINDS)))}
    mesh = start_recorded(kinds)
    calls = draw_calls(dice, kinds)
    for count, call in enumerate(calls, 1):
        mesh.check(call, dice.choice(tuple(PROXIES)), passes=True)
        if count == len(calls) // 2:
            mesh.wait_until_recorded(count)
            mesh.restart_proxy("a")
    mesh.wait_until_recorded(len(calls))
    found = run_maesh("acl", "suggest", "--endpoint", mesh.endpoint)
    assert found.status == 0, found.stdout
    mesh.enforce(found.stdout)
    for proxy in PROXIES:
        for call in calls:
            mesh.check(call, proxy, passes=True)
        for call in list_other_calls(dice, kinds, calls):
            mesh.check(call, proxy, passes=False)
