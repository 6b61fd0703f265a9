"""Every counter equals what a script has sent through three workers, one of which is killed."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from .scripted_servers import EchoServer, ScriptedServer
from .scripted_traffic import FIELDS, Request, Script, compare, read_counters, read_record

pytestmark = pytest.mark.integration

REQUESTS = 10_000
ROUNDS = 40
"""The script runs them twice."""
CLIENTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
FLAGS = ("--workers", "3", "--no-passive-health", "--metrics-exact-codes", "--limit-http-port", "1")
LOAD_CONNECTIONS = 12


def build_log_flags(path):
    return ("--access-log", "--set", "access-log.format=json", "--set", f"access-log.file={path}")


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


def build_split(name, service, backend):
    spec = {"service": service, "backends": [{"service": backend, "weight": 1}]}
    metadata = {"name": name, "namespace": "test"}
    return {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": metadata, "spec": spec}


class Log:
    """The lines of an access log, each of which is read once."""

    def __init__(self, path):
        self.path, self.position = path, 0
        path.touch()
        self.records = Counter()

    def read(self):
        with self.path.open("rb") as file:
            file.seek(self.position)
            whole, end, _ = file.read().rpartition(b"\n")
        self.position += len(whole + end)
        self.records.update(map(read_record, whole.splitlines()))
        return self.records


class Traffic:
    """A mesh of three workers in front of services of every kind, its script, and its access log."""

    def __init__(self, mesh, server, echo, dead_port, log):
        self.mesh, self.server, self.log = mesh, server, log
        self.echo, self.dead = f"127.0.0.1:{echo.port}", f"127.0.0.1:{dead_port}"
        self.script = Script(mesh.http_port, f"127.0.0.1:{server.port}")
        described = {service["name"]: service for service in json.loads(mesh.command.stdout)}
        names = ("stream", "deadstream", "datagrams")
        self.entrypoints = {name: described[name]["ports"][0]["entrypoint"] for name in names}

    def run(self):
        for _ in range(ROUNDS):  # first, because a session is counted as closed when it was idle for long enough
            self.script.use_udp(self.entrypoints["datagrams"], self.echo)
        for number in range(ROUNDS):
            self.run_round(CLIENTS[number % len(CLIENTS)])

    def run_round(self, client):
        script = self.script
        script.ask(self.build_requests(), client)
        for act in (
            *(script.ask_for_cut, script.leave_within_response, script.ask_as_http_1_0, script.send_chunks),
            *(script.use_tunnel, script.send_nonsense, script.ask_unknown_host),
        ):
            act()
        script.leave(self.server.has_request)
        script.call(self.dead)
        script.use_tcp(self.entrypoints["stream"], self.echo)
        script.use_dead_tcp(self.entrypoints["deadstream"], self.dead)

    def build_requests(self):
        paths = ("/ok", "/absent", "/broken", "/busy", "/unchanged", "/chunked")
        return [
            *(Request(path) for path in paths * 14),
            Request("/ok", method="HEAD"),
            Request("/ok", method="POST", body=b"x" * 1000),
            Request("/silent", outcomes=("failure",)),
            Request("/", "dead", outcomes=("failure",), server=self.dead),
            self.script.build_flaky(),
            Request("/broken", "retried", outcomes=("error",)),
            Request("/busy", "retried", outcomes=("error", "error")),
            *(Request(path, "split", branch="only/app") for path in paths),
            *(Request("/ok", "limited") for _ in range(5)),
            *(Request("/broken", "breaking") for _ in range(5)),
        ]

    def read(self):
        return read_counters(self.mesh.read_metrics())

    def check(self):
        """Compare, once what has just ended was noticed; returns the number of requests."""
        script, deadline = self.script, time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.log.read() == script.records and self.read() == script.counters:
                break
            time.sleep(0.1)
        differences = [*compare(self.read(), script.counters), *compare(self.log.read(), script.records)]
        assert not differences, "\n".join(sorted(differences))
        return sum(value for (name, _), value in script.counters.items() if name == "maesh_entrypoint_requests")

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
def traffic(start_mesh, build_service, free_port, tmp_path):
    server, echo = ScriptedServer(), EchoServer()
    dead_port = free_port()
    breaker = {"circuit-breaker-expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.5"}
    objects = [
        *build_service("dead", dead_port),
        *build_service("retried", server.port, annotations={"retry-attempts": "2", "retry-on": "503"}),
        *build_service("limited", server.port, annotations={"ratelimit-average": "3", "ratelimit-period": "1h"}),
        *build_service("breaking", server.port, annotations=breaker),
        *build_service("split", server.port),
        build_split("only", "split", "app"),
        *build_service("stream", echo.port, annotations={"traffic-type": "tcp"}),
        *build_service("deadstream", dead_port, annotations={"traffic-type": "tcp"}),
        *build_datagram_service("datagrams", echo.port),
    ]
    log = tmp_path / "access.log"
    traffic = Traffic(
        start_mesh(
            *(*FLAGS, *build_log_flags(log), "--tcp-port", free_port(), "--limit-tcp-port", "2"),
            *("--set", f"udp.port={free_port(socket.SOCK_DGRAM)}", "--set", "udp.session-timeout=5s"),
            servers=[server],
            objects=objects,
        ),
        *(server, echo, dead_port, Log(log)),
    )
    yield traffic
    traffic.script.close()
    server.shutdown()
    server.server_close()
    echo.close()


def test_every_counter_and_record_equals_the_script_s_own_also_after_a_worker_was_killed(traffic):
    traffic.run()
    assert traffic.check() > REQUESTS / 2
    traffic.kill_worker()
    traffic.check()
    traffic.run()
    assert traffic.check() > REQUESTS
    codes = {dict(labels)["code"] for name, labels in traffic.script.counters if name == "maesh_service_requests"}
    assert codes == {"101", "200", "304", "404", "429", "499", "500", "502", "503"}


class Load:
    """Clients of different addresses, each of which sends requests over one connection until it breaks or is stopped.

    `answered` is the number of answers by client, `broken` are the clients whose connection broke.
    """

    def __init__(self, port):
        self.port, self.is_stopped = port, threading.Event()
        self.answered = {f"127.0.1.{number}": 0 for number in range(1, LOAD_CONNECTIONS + 1)}
        self.broken = set()
        self._threads = [threading.Thread(target=self._send, args=(client,)) for client in self.answered]
        for thread in self._threads:
            thread.start()

    def _send(self, client):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 60, source_address=(client, 0)) as sock:
                while not self.is_stopped.is_set():
                    sock.sendall(Request("/ok").render())
                    if not sock.recv(65536).endswith(b"hello"):
                        raise ConnectionError("the response was cut")
                    self.answered[client] += 1
        except OSError:
            self.broken.add(client)

    def stop(self):
        self.is_stopped.set()
        for thread in self._threads:
            thread.join(60)


def test_a_worker_that_is_killed_under_load_loses_only_what_it_did_since_its_last_report(traffic):
    def count_calls():
        return {
            dict(labels)["client"]: value
            for (name, labels), value in traffic.read().items()
            if name == "maesh_edge_requests"
        }

    def count_lines():
        lines = Counter()
        for record, count in traffic.log.read().items():
            lines[record[FIELDS.index("ClientHost")]] += count
        return lines

    load = Load(traffic.mesh.http_port)
    traffic.mesh.wait_until(lambda: min(load.answered.values()) > 100, "some requests of each client")
    before = dict(load.answered)
    scraped = count_calls()  # what workers have counted until now, and no less
    assert all(scraped[client] >= count for client, count in before.items())
    traffic.mesh.wait_until(lambda: count_lines() >= Counter(before), "the lines of these requests")
    traffic.kill_worker()
    load.stop()
    wanted = {client: count for client, count in load.answered.items() if client not in load.broken}
    for read in (count_calls, count_lines):
        traffic.mesh.wait_until(lambda read=read: read().items() >= wanted.items(), "exact counts of the others")
        found = read()
        for client in load.broken:
            assert before[client] <= found[client] <= load.answered[client]


def test_denied_requests_connections_and_sessions_equal_the_script_s_own_count(
    start_mesh, build_service, free_port, tmp_path
):
    objects = [
        *build_service("stream", free_port(), annotations={"traffic-type": "tcp"}),
        *build_datagram_service("datagrams", free_port()),
    ]
    log = Log(tmp_path / "access.log")
    ports = ("--tcp-port", free_port(), "--limit-tcp-port", "1", "--set", f"udp.port={free_port(socket.SOCK_DGRAM)}")
    mesh = start_mesh(*FLAGS, *build_log_flags(log.path), "--acl", *ports, objects=objects)
    described = {service["name"]: service for service in json.loads(mesh.command.stdout)}
    stream, datagrams = (described[name]["ports"][0]["entrypoint"] for name in ("stream", "datagrams"))
    script = Script(mesh.http_port, "")
    for number in range(20):
        script.ask([Request("/")] * 15, CLIENTS[number % len(CLIENTS)])
        script.use_denied_tcp(stream)
        script.use_denied_udp(datagrams)
    script.count("acl_denied", 300, service="test/app:80", reason="client")
    mesh.wait_until(
        lambda: log.read() == script.records and read_counters(mesh.read_metrics()) == script.counters,
        "the script's records and counters",
    )
    script.close()
