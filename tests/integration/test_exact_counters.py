"""Every counter equals what a script has sent through three workers, one of which is killed."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .scripted_traffic import EchoServer, Script, ScriptedServer, read_counters

pytestmark = pytest.mark.integration

ROUNDS = 30
CLIENTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
FLAGS = ("--workers", "3", "--no-passive-health", "--metrics-exact-codes", "--limit-http-port", "1")
LOAD_CONNECTIONS = 12
COLLECTED_S = 3.0
"""The parent collects counters every second; a busy machine may be later."""


def build_datagram_service(name, port):
    metadata = {"name": name, "namespace": "test", "annotations": {"maesh.containo.us/traffic-type": "udp"}}
    service = {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    return [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, endpoints]


class Traffic:
    """A mesh of three workers in front of services of every kind, and its script."""

    def __init__(self, mesh, server, dead_port):
        self.mesh, self.server = mesh, server
        self.dead = f"127.0.0.1:{dead_port}"
        self.script = Script(mesh.http_port, f"127.0.0.1:{server.port}")
        described = {service["name"]: service for service in json.loads(mesh.command.stdout)}
        self.entrypoints = {name: described[name]["ports"][0]["entrypoint"] for name in ("stream", "datagrams")}

    def run(self):
        for number in range(ROUNDS):
            self.run_round(CLIENTS[number % len(CLIENTS)])
        self.script.close()

    def run_round(self, client):
        script = self.script
        for path in ("/ok", "/absent", "/broken", "/busy", "/unchanged", "/chunked"):
            for _ in range(4):
                script.ask("app", path, client=client)
        script.ask("app", "/ok", method="HEAD", client=client)
        script.ask("app", "/ok", method="POST", body=b"x" * 1000, client=client)
        script.ask("app", "/silent", client=client, outcomes=("failure",))
        script.ask("dead", "/", client=client, outcomes=("failure",), server=self.dead)
        script.ask_flaky()
        script.ask("retried", "/broken", outcomes=("error",))
        script.ask("retried", "/busy", outcomes=("error", "error"))
        for _ in range(5):
            script.ask("limited", "/ok", client=client)
            script.ask("breaking", "/broken", client=client)
        for act in (
            *(script.ask_for_cut, script.leave, script.ask_as_http_1_0, script.send_chunks),
            *(script.use_tunnel, script.send_nonsense, script.ask_unknown_host),
        ):
            act()
        script.call((0, 5, 14))
        script.use_tcp(self.entrypoints["stream"])
        script.use_udp(self.entrypoints["datagrams"])

    def read(self):
        return read_counters(self.mesh.read_metrics())

    def check(self):
        """Compare, once what has just ended was noticed."""
        deadline = time.monotonic() + 30
        while self.read() != self.script.counters and time.monotonic() < deadline:
            time.sleep(0.1)
        counted, wanted = self.read(), dict(self.script.counters)
        differences = [
            f"{name} {sorted(labels)}: {counted.get((name, labels), 0)}, not {wanted.get((name, labels), 0)}"
            for name, labels in counted.keys() | wanted.keys()
            if counted.get((name, labels)) != wanted.get((name, labels))
        ]
        assert not differences, "\n".join(sorted(differences))
        return sum(value for (name, _), value in wanted.items() if name == "maesh_entrypoint_requests")

    @property
    def workers(self):
        """The processes of the workers."""
        pending, found = [self.mesh.command.process.pid], []
        while pending:
            pid = pending.pop()
            children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            pending += children
            found += [(pid, child) for child in children]
        parents = [parent for parent, _ in found]
        (node,) = [parent for parent in set(parents) if parents.count(parent) == 3]
        return [child for parent, child in found if parent == node]

    def read_sum(self, name):
        text = self.mesh.read_metrics()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    def kill_worker(self):
        restarts = self.read_sum("maesh_proxy_worker_restarts_total")
        os.kill(self.workers[0], signal.SIGKILL)
        self.mesh.wait_until(
            lambda: (
                self.read_sum("maesh_proxy_worker_restarts_total") > restarts
                and self.read_sum("maesh_proxy_workers") == 3
            ),
            "the successor",
        )


@pytest.fixture
def traffic(start_mesh, start_upstream, build_service, free_port):
    server, echo = ScriptedServer(), EchoServer()
    dead_port = free_port()
    objects = [
        *build_service("dead", dead_port),
        *build_service("retried", server.port, annotations={"retry-attempts": "2", "retry-on": "503"}),
        *build_service("limited", server.port, annotations={"ratelimit-average": "3", "ratelimit-period": "1h"}),
        *build_service(
            "breaking",
            server.port,
            annotations={"circuit-breaker-expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.5"},
        ),
        *build_service("stream", echo.port, annotations={"traffic-type": "tcp"}),
        *build_datagram_service("datagrams", echo.port),
    ]
    ports = ("--tcp-port", free_port(), "--limit-tcp-port", "1", "--set", f"udp.port={free_port(socket.SOCK_DGRAM)}")
    yield Traffic(start_mesh(*FLAGS, *ports, servers=[server], objects=objects), server, dead_port)
    server.shutdown()
    server.server_close()
    echo.close()


def test_every_counter_equals_the_script_s_own_also_after_a_worker_was_killed(traffic):
    traffic.run()
    assert traffic.check() > 1400
    traffic.kill_worker()
    traffic.check()
    traffic.run()
    assert traffic.check() > 2800


def test_a_worker_that_is_killed_under_load_loses_its_last_second_and_nothing_else(traffic):
    answered, broken, is_stopped = [], [], threading.Event()

    def send():
        own, request = [], b"GET /ok HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n"
        try:
            with socket.create_connection(("127.0.0.1", traffic.mesh.http_port), 60) as sock:
                while not is_stopped.is_set():
                    sock.sendall(request)
                    if not sock.recv(65536).endswith(b"hello"):
                        break
                    own.append(time.monotonic())
                    answered.append(1)
        except OSError:
            pass
        if not is_stopped.is_set():
            broken.append(own)

    threads = [threading.Thread(target=send) for _ in range(LOAD_CONNECTIONS)]
    for thread in threads:
        thread.start()
    traffic.mesh.wait_until(lambda: len(answered) > 2000, "some requests")
    before = len(answered)
    scraped = traffic.read_sum("maesh_service_requests_total")
    assert scraped >= before
    killed_at = time.monotonic()
    traffic.kill_worker()
    is_stopped.set()
    for thread in threads:
        thread.join(60)
    traffic.mesh.wait_until(lambda: not traffic.read_sum("maesh_http_connections{side=.client.}"), "no more clients")
    counted = traffic.read_sum("maesh_service_requests_total")
    recent = sum(at > killed_at - COLLECTED_S for times in broken for at in times)
    assert scraped <= counted <= len(answered)
    assert len(answered) - counted <= recent


def test_denied_requests_and_connections_equal_the_script_s_own_count(start_mesh, build_service, free_port):
    objects = build_service("stream", free_port(), annotations={"traffic-type": "tcp"})
    mesh = start_mesh(*FLAGS, "--acl", "--tcp-port", free_port(), "--limit-tcp-port", "1", objects=objects)
    described = {service["name"]: service for service in json.loads(mesh.command.stdout)}
    entrypoint, script = described["stream"]["ports"][0]["entrypoint"], Script(mesh.http_port, "")
    for number in range(60):
        assert script.ask("app", "/", client=CLIENTS[number % len(CLIENTS)]) == 403
    for _ in range(20):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", entrypoint), 60) as sock:
            assert sock.recv(1) == b""
        script.count("edge_connections", client="127.0.0.1", service="test/stream:80")
        for name in ("connections", "closed_connections", "denied_connections"):
            script.count(f"tcp_{name}", service="test/stream:80")
    script.close()
    mesh.wait_until(lambda: read_counters(mesh.read_metrics()) == script.counters, "the script's counters")
    denied = re.findall(r'^maesh_acl_denied_total\{.*service="(\S+)"\} (\S+)$', mesh.read_metrics(), re.MULTILINE)
    assert {service: float(count) for service, count in denied} == {"test/app:80": 60, "test/stream:80": 20}
