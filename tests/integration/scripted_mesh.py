"""A mesh of three workers in front of services of every kind, the script that uses them all, and its access log."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from pathlib import Path

from maesh_testing import build_pod, build_service, find_free_port, send_request

from .scripted_counts import Request, compare, read_counters, read_record
from .scripted_durations import collect_durations, compare_histograms, read_histograms
from .scripted_servers import EchoServer, ScriptedServer
from .scripted_traffic import Script

ROUNDS = 40
ROUTE = "rule/httproute/test/pages"
STREAM_RULE, LOST_RULE = "rule/tcproute/test/lines/0", "rule/tcproute/test/lost/0"
DATAGRAM_RULE = "rule/udproute/test/packets/0"
CLIENTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
STRANGER = "127.0.0.5"
"""A client without a pod, so that no rule allows it."""
ACCOUNT, CLOSED_ADDRESS = "everybody", "127.0.0.9"
FLAGS = ("--workers", "3", "--no-passive-health", "--metrics-exact-codes", "--limit-http-port", "1")
ACCESS_CONTROL = ("--acl", "--set", "acl.audit-by-annotation=service")
LOAD_CLIENTS = tuple(f"127.0.1.{number}" for number in range(1, 13))


def build_log_flags(path):
    return ("--access-log", "--set", "access-log.format=json", "--set", f"access-log.file={path}")


def build_datagram_service(name, port, address="127.0.0.1"):
    metadata = {"name": name, "namespace": "test", "annotations": {"maesh.containo.us/traffic-type": "udp"}}
    service = {"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }
    return [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, endpoints]


def build_split(name, service, backend):
    spec = {"service": service, "backends": [{"service": backend, "weight": 1}]}
    metadata = {"name": name, "namespace": "test"}
    return {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": metadata, "spec": spec}


def build_route():
    """Build a route with a rule for what is below `/ok`, which has a backend that answers and one that is dead."""
    match = {"path": {"type": "PathPrefix", "value": "/ok"}}
    rules = [
        {"matches": [match], "backendRefs": [{"name": "app", "port": 80}]},
        {"backendRefs": [{"name": "dead", "port": 80}]},
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "pages", "namespace": "test"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "routed"}], "rules": rules},
    }


def build_stream_route(kind, name, service, backend, port):
    """Build a route whose only rule sends all connections or sessions of a service to another one."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": kind,
        "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": service}],
            "rules": [{"backendRefs": [{"name": backend, "port": port}]}],
        },
    }


def build_rules():
    """Let every client that has a pod call all servers, and read what is below `/ok` of the guarded one."""
    routes = {"everything": [{"name": "all"}], "reading": [{"name": "read", "pathRegex": "/ok", "methods": ["GET"]}]}
    destinations = {
        ACCOUNT: [("HTTPRouteGroup", "everything"), ("TCPRoute", "streams"), ("UDPRoute", "datagrams")],
        "guarded": [("HTTPRouteGroup", "reading")],
    }
    groups = [("HTTPRouteGroup", name, {"matches": matches}) for name, matches in routes.items()]
    return [
        *(
            build_smi("specs", kind, name, spec)
            for kind, name, spec in (*groups, ("TCPRoute", "streams", {}), ("UDPRoute", "datagrams", {}))
        ),
        *(
            build_smi(
                *("access", "TrafficTarget", f"{account}-allows"),
                {
                    "destination": {"kind": "ServiceAccount", "name": account, "namespace": "test"},
                    "sources": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "test"}],
                    "rules": [{"kind": kind, "name": name} for kind, name in rules],
                },
            )
            for account, rules in destinations.items()
        ),
        *(build_pod(f"client-{number}", client, ACCOUNT) for number, client in enumerate((*CLIENTS, *LOAD_CLIENTS))),
        build_pod("guarded", CLOSED_ADDRESS, "guarded"),
    ]


def build_smi(group, kind, name, spec):
    version = {"specs": "specs.smi-spec.io/v1alpha4", "access": "access.smi-spec.io/v1alpha3"}[group]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "test"}, "spec": spec}


def name_pods(objects):
    """Let each endpoint name the pod that has its address: without it, access control closes the address."""
    pods = {each["status"]["podIP"]: each["metadata"]["name"] for each in objects if each["kind"] == "Pod"}
    for each in objects:
        for endpoint in each.get("endpoints", ()):
            endpoint["targetRef"] = {"kind": "Pod", "name": pods[endpoint["addresses"][0]]}
    return objects


class Log:
    """The lines of an access log, each of which is read once."""

    def __init__(self, path):
        self.path, self.position = path, 0
        path.touch()
        self.records = Counter()
        self.lines = []

    def read(self):
        with self.path.open("rb") as file:
            file.seek(self.position)
            whole, end, _ = file.read().rpartition(b"\n")
        self.position += len(whole + end)
        lines = whole.splitlines()
        self.lines += lines
        self.records.update(map(read_record, lines))
        return self.records


class Traffic:
    """A mesh of three workers in front of services of every kind, its script, and its access log."""

    def __init__(self, mesh, server, echo, dead_port, log):
        self.mesh, self.server, self.log = mesh, server, log
        self.echo, self.dead = f"127.0.0.1:{echo.port}", f"127.0.0.1:{dead_port}"
        self.script = Script(mesh.http_port, f"127.0.0.1:{server.port}")
        described = {service["name"]: service for service in json.loads(mesh.command.stdout)}
        names = (
            *("stream", "deadstream", "splitstream", "lostsplit", "routedstream", "lostroute", "guardedstream"),
            *("datagrams", "splitdatagrams", "routeddatagrams", "guardeddatagrams"),
        )
        self.entrypoints = {name: described[name]["ports"][0]["entrypoint"] for name in names}

    def run(self):
        for _ in range(ROUNDS):  # first, because a session is counted as closed when it was idle for long enough
            self.use_datagrams()
        for number in range(ROUNDS):
            self.run_round(CLIENTS[number % len(CLIENTS)])

    def use_datagrams(self):
        """Use UDP, whose sessions of a split service are those of its backend."""
        script, ports = self.script, self.entrypoints
        script.use_udp(ports["datagrams"], self.echo)
        script.use_udp(ports["splitdatagrams"], self.echo, "splitdatagrams", branch="split/sessions/datagrams")
        routed = {"branch": "backend/test/datagrams:53", "rule": DATAGRAM_RULE}
        script.use_udp(ports["routeddatagrams"], self.echo, "routeddatagrams", **routed)
        script.use_denied_udp(ports["guardeddatagrams"], "test/guardeddatagrams:53")

    def run_round(self, client):
        script = self.script
        script.ask(self.build_requests(), client)
        for act in (
            *(script.ask_for_cut, script.leave_within_response, script.ask_as_http_1_0, script.send_chunks),
            *(script.use_tunnel, script.send_nonsense, script.ask_unknown_host),
        ):
            act()
        script.leave(self.server.has_request)
        script.ask(self.build_judged_requests(), STRANGER)
        script.call(self.dead)
        script.use_tcp(self.entrypoints["stream"], self.echo)
        script.use_dead_tcp(self.entrypoints["deadstream"], self.dead)
        script.use_tcp(self.entrypoints["splitstream"], self.echo, "splitstream", branch="split/streams/stream")
        script.use_dead_tcp(self.entrypoints["lostsplit"], self.dead, "lostsplit", branch="split/lost/deadstream")
        routed = {"branch": "backend/test/stream:80", "rule": STREAM_RULE}
        script.use_tcp(self.entrypoints["routedstream"], self.echo, "routedstream", **routed)
        lost = {"branch": "backend/test/deadstream:80", "rule": LOST_RULE}
        script.use_dead_tcp(self.entrypoints["lostroute"], self.dead, "lostroute", **lost)
        script.use_denied_tcp(self.entrypoints["guardedstream"], "test/guardedstream:80")

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
            *(Request(path, "split", branch="split/only/app") for path in paths),
            *(
                Request(path, "routed", branch="backend/test/app:80", rule=f"{ROUTE}/0")
                for path in ("/ok", "/ok/absent")
            ),
            Request(
                "/", "routed", outcomes=("failure",), server=self.dead, branch="backend/test/dead:80", rule=f"{ROUTE}/1"
            ),
            *(Request("/ok", "limited") for _ in range(5)),
            *(Request("/broken", "breaking") for _ in range(5)),
            *(Request(f"/slow/{milliseconds}") for milliseconds in (2, 12, 40)),
            Request("/slow/12", "split", branch="split/only/app"),
            Request("/ok", "guarded", method="POST", denied="request"),
            Request("/ok/../secret", "guarded", denied="path"),
        ]

    def build_judged_requests(self):
        """Build requests of a client that no rule allows: two are denied, and one service only records it."""
        services = ("app", "guarded")
        return [
            *(Request("/ok", name, denied="client") for name in services),
            Request("/ok", "routed", denied="client", branch=f"{ROUTE}/0", rule=f"{ROUTE}/0"),
            Request("/ok", "audited", would_deny="client"),
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
        differences = [
            *compare(self.read(), script.counters),
            *compare(self.log.read(), script.records),
            *compare_histograms(
                read_histograms(self.mesh.read_metrics()), collect_durations(self.log.lines), script.spans
            ),
        ]
        assert not differences, "\n".join(sorted(differences))
        return sum(value for (name, _), value in script.counters.items() if name == "maesh_entrypoint_requests")

    def read_report(self):
        """Read `/api/traffic`: its services by key, and how many values of the proxy it left out."""
        report = send_request(self.mesh.api_port, path="/api/traffic").json
        (node,) = report["nodes"]
        return {service["key"]: service for service in report["services"]}, node["leftOut"]

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


def build_objects(server, echo, dead_port):
    """Build the objects of all services but `app`; nobody listens on the dead port."""
    servers, dead = [(server.address, server.port)], [("127.0.0.1", dead_port)]
    guarded = [(CLOSED_ADDRESS, dead_port)]
    breaker = {"circuit-breaker-expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.5"}
    streams = {"traffic-type": "tcp"}
    return [
        *build_service("dead", dead),
        *build_service("retried", servers, annotations={"retry-attempts": "2", "retry-on": "503"}),
        *build_service("limited", servers, annotations={"ratelimit-average": "3", "ratelimit-period": "1h"}),
        *build_service("breaking", servers, annotations=breaker),
        *build_service("split", servers),
        build_split("only", "split", "app"),
        *build_service("routed", servers),
        build_route(),
        *build_service("guarded", guarded),
        *build_service("audited", servers, annotations={"acl-mode": "audit"}),
        *build_service("stream", [("127.0.0.1", echo.port)], annotations=streams),
        *build_service("deadstream", dead, annotations=streams),
        *build_service("guardedstream", guarded, annotations=streams),
        *build_service("splitstream", [("127.0.0.1", echo.port)], annotations=streams),
        build_split("streams", "splitstream", "stream"),
        *build_service("lostsplit", dead, annotations=streams),
        build_split("lost", "lostsplit", "deadstream"),
        *build_service("routedstream", dead, annotations=streams),
        build_stream_route("TCPRoute", "lines", "routedstream", "stream", 80),
        *build_service("lostroute", dead, annotations=streams),
        build_stream_route("TCPRoute", "lost", "lostroute", "deadstream", 80),
        *build_datagram_service("datagrams", echo.port),
        *build_datagram_service("splitdatagrams", echo.port),
        build_split("sessions", "splitdatagrams", "datagrams"),
        *build_datagram_service("routeddatagrams", echo.port),
        build_stream_route("UDPRoute", "packets", "routeddatagrams", "datagrams", 53),
        *build_datagram_service("guardeddatagrams", dead_port, CLOSED_ADDRESS),
        *build_rules(),
    ]


@contextlib.contextmanager
def open_traffic(start_mesh, folder, *flags, others=(), env=None):
    """Start the mesh and its servers; `flags` are further ones, `others` further objects."""
    server, echo, dead_port = ScriptedServer(), EchoServer(), find_free_port()
    log = folder / "access.log"
    ports = ("--tcp-port", find_free_port(), "--limit-tcp-port", "7", *set_udp_port())
    flags = (*FLAGS, *ACCESS_CONTROL, *build_log_flags(log), *ports, *flags)
    objects = name_pods([*build_objects(server, echo, dead_port), *others])
    with contextlib.closing(server), contextlib.closing(echo):
        mesh = start_mesh(*flags, servers=[server], objects=objects, account=ACCOUNT, env=env)
        traffic = Traffic(mesh, server, echo, dead_port, Log(log))
        with contextlib.closing(traffic.script):
            yield traffic


def set_udp_port():
    port = find_free_port(socket.SOCK_DGRAM)
    return ("--set", f"udp.port={port}", "--set", "udp.session-timeout=5s")
