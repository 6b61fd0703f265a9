"""A mesh of 1,000 nodes with encryption: certificates, the configuration, connections and memory.

Takes the sizes; gives a list of figures. A real controller signs for all nodes, and describes them in the configuration
that two real proxies pull. One proxy sends requests to servers on many nodes, which are a process of their own
(node_farm.py); to the other one, many connections of one node are opened. Everything is on this machine.
"""

import argparse
import http.client
import http.server
import json
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from maesh_mtls.proxy.enrolment import build_request
from processes import (
    MAESH,
    ProcessGroup,
    choose_cores,
    describe_machine,
    fetch,
    find_free_port,
    find_tree,
    measure_cpu_s,
    raise_open_files_limit,
    run_to_end,
    wait_until,
)
from proxies import Command
from tunnel_stacks import HTTP2_START, has_certificate

RESULTS = Path(__file__).resolve().parent / "results"
SENDER, RECEIVER = "node-0", "node-1"
HOST = "web.bench.maesh"
IN_FLIGHT = 8
"""Requests for certificates at the same time; the controller checks at most 10."""
WORKER_TUNNELS = 250
"""Connections of one node: a worker accepts at most 256."""


def build_address(number: int) -> str:
    """Build the address of a node's proxy."""
    return f"127.5.{number // 250}.{number % 250 + 1}"


def build_server(number: int) -> str:
    """Build the address of the server on a node."""
    return f"127.{6 + number // 250}.0.{number % 250 + 1}"


class SimulatedMesh:
    """A controller, two proxies and the nodes."""

    def __init__(self, group: ProcessGroup, folder: Path, options: argparse.Namespace) -> None:
        self._group, self._folder, self._options = group, folder, options
        self._ports = {name: find_free_port() for name in ("api", "http", "tunnel", SENDER, RECEIVER)}
        self._keys: dict[str, bytes] = {}
        self.figures: list[tuple[str, str]] = []
        (folder / "manifests").mkdir()

    def _note(self, what: str, figure: str) -> None:
        self.figures.append((what, figure))
        print(f"{what}: {figure}", flush=True)

    def _write(self, nodes: int) -> None:
        """Write the proxies of so many nodes, and a service with a server on each node that is talked to."""
        pods = [build_proxy(f"node-{number}", build_address(number)) for number in range(nodes)]
        endpoints = [
            {"addresses": [build_server(number)], "nodeName": f"node-{number}", "conditions": {"ready": True}}
            for number in range(2, 2 + self._options.tunnels)
        ]
        fresh = self._folder / "fresh"
        objects = [*pods, *build_service(endpoints, self._options.server_port)]
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        fresh.rename(self._folder / "manifests" / "all.json")

    def start(self) -> None:
        """Start the controller, and see what the nodes add to the configuration."""
        folder, ports, options = self._folder, self._ports, self._options
        options.server_port = find_free_port()
        lines = [f"node-{number} token-of-the-node-{number}\n" for number in range(options.nodes)]
        (folder / "tokens").write_text("".join(lines))
        (folder / "tokens").chmod(0o600)
        self._write(0)
        api: Command = ["--api-host", "127.0.0.1", "--api-port", str(ports["api"]), "--http-port", str(ports["http"])]
        authority: Command = ["--set", f"mtls.ca={folder / 'ca'}", "--set", f"mtls.tokens={folder / 'tokens'}"]
        command: Command = [MAESH, "controller", *api, *self._build_flags(), *authority]
        core = choose_cores()[1]
        command.append(folder / "manifests")
        self._controller = self._group.start("controller", command, core=core).pid
        wait_until(lambda: fetch(ports["api"], "/api/status/readiness")[0] == 200, "the controller")

    def _build_flags(self) -> Command:
        return ["--mtls", "--set", f"mtls.port={self._ports['tunnel']}", "--set", "mtls.mode=strict"]

    def _start_proxy(self, name: str) -> int:
        ports = self._ports
        token = self._folder / f"token-{name}"
        token.write_text(f"token-of-the-{name}")
        command: Command = [MAESH, "proxy", "--endpoint", f"http://127.0.0.1:{ports['api']}", "--node", name]
        command += ["--bind", build_address(int(name.partition("-")[2])), "--workers", "1"]
        command += ["--admin-host", "127.0.0.1", "--admin-port", str(ports[name]), "--upstream-idle-timeout", "2s"]
        command += [*self._build_flags(), "--set", f"mtls.token={token}"]
        pid = self._group.start(name, command, core=choose_cores()[0]).pid
        wait_until(lambda: has_certificate(ports[name]), f"a certificate of {name}", timeout_s=60)
        return pid

    def measure_certificates(self) -> None:
        """Sign a certificate for every node but those of the proxies, as fast as the controller does it."""
        names = [f"node-{number}" for number in range(2, self._options.nodes)]
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        csr, left, refused = build_request(key), list(reversed(names)), []

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._ports["api"], timeout=60)
            while left:
                name = left.pop()
                body = json.dumps({"csr": csr, "token": f"token-of-the-{name}", "node": name})
                connection.request("POST", "/mtls/certificates", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                if response.status == 200:
                    self._keys[name] = pem + json.loads(answer)["chain"].encode()
                else:
                    refused.append(f"{response.status} {answer!r}")
            connection.close()

        before, begin = measure_cpu_s(self._controller), time.perf_counter()
        threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s, cpu_s = time.perf_counter() - begin, measure_cpu_s(self._controller) - before
        if refused:
            raise RuntimeError(f"{len(refused)} certificates were refused, such as: {refused[0]}")
        count = len(names)
        self._note("certificates signed in a row", f"{count:,} in {took_s:.1f} s: {count / took_s:,.0f} per second")
        self._note("the controller's CPU time for one", f"{cpu_s / count * 1e6:,.0f} µs")

    def measure_configuration(self) -> None:
        """Add all nodes, then one at a time; see what is sent, and how long it takes."""
        small = len(self._fetch())
        nodes = self._options.nodes
        self._write(nodes - self._options.changes)
        wait_until(lambda: len(self._list_nodes()) == nodes - self._options.changes, "the nodes", timeout_s=120)
        size = len(self._fetch())
        count = nodes - self._options.changes
        self._note(
            f"the nodes in the configuration, {count:,} of them",
            f"{(size - small) / 1000:,.0f} kB: {(size - small) / count:.0f} bytes each",
        )
        self._sender = self._start_proxy(SENDER)
        self._receiver = self._start_proxy(RECEIVER)
        took: dict[str, list[float]] = {"the controller's answer has it": [], "the proxy uses it": []}
        sizes, cpu_before = [], {"controller": measure_cpu_s(self._controller), "proxy": measure_cpu_s(self._sender)}
        for number in range(count, nodes):
            before = json.loads(self._fetch())["revision"]
            self._write(number + 1)
            begin = time.perf_counter()
            wait_until(lambda before=before: bool(self._fetch(before)), "a revision")  # type: ignore[misc]
            took["the controller's answer has it"].append(time.perf_counter() - begin)
            sizes.append(len(self._fetch(before)))
            wait_until(lambda before=before: self._read_revision() != before, "the proxy")  # type: ignore[misc]
            took["the proxy uses it"].append(time.perf_counter() - begin)
        self._note("one node more: what a proxy fetches", f"{statistics.median(sizes):.0f} bytes")
        for step, times in took.items():
            self._note(f"one node more: until {step}", f"{statistics.median(times) * 1000:.0f} ms")
        for name, pid in (("controller", self._controller), ("proxy", self._sender)):
            spent = (measure_cpu_s(pid) - cpu_before[name]) / self._options.changes
            self._note(
                f"one node more: CPU time of the {name}, with the polling of this measurement", f"{spent * 1000:.1f} ms"
            )

    def _fetch(self, since: str = "") -> bytes:
        query = f"?since={since}" if since else ""
        return fetch(self._ports["api"], f"/api/configuration/current{query}")[1]

    def _list_nodes(self) -> Sequence[str]:
        return list(json.loads(self._fetch()).get("transport", {}).get("nodes", {}))

    def _read_revision(self) -> str:
        found: dict[str, Any] = json.loads(fetch(self._ports[SENDER], "/status")[1])
        return str(found["revision"])

    def start_farm(self) -> None:
        """Start the nodes that are talked to, and the servers on them."""
        folder = self._folder
        (folder / "ca.pem").write_bytes((folder / "ca" / "tls.crt").read_bytes())
        lines = []
        for number in range(2, 2 + self._options.tunnels):
            path = folder / f"node-{number}.pem"
            path.write_bytes(self._keys[f"node-{number}"])
            lines.append(f"{build_address(number)} {path}\n")
        (folder / "farm").write_text("".join(lines))
        command: Command = [sys.executable, Path(__file__).with_name("node_farm.py"), folder]
        script = f"exec {' '.join(map(str, [*command, self._ports['tunnel']]))} <{folder / 'farm'}"
        self._group.start("farm", ["sh", "-c", script], core=choose_cores()[1])
        wait_until(lambda: "nodes listen" in self._group.read_log("farm"), "the nodes", timeout_s=60)
        start_server(self._options.server_port)

    def measure_tunnels(self) -> None:
        """Send requests to few nodes, then to all; read the number of connections and the memory of the worker."""
        idle = self._read_private_kb(self._sender)
        self._note("connections to other nodes before a request", f"{self._count_tunnels(SENDER, 'outgoing')}")
        for count in (self._options.talked, self._options.tunnels):
            while (missing := count - self._count_tunnels(SENDER, "outgoing")) > 0:
                self._send(missing)
            self._note(f"connections after requests to {count} nodes", f"{self._count_tunnels(SENDER, 'outgoing')}")
        with_streams = self._read_private_kb(self._sender)
        wait_until(lambda: self._count(SENDER, "maesh_tunnel_streams", "outgoing") == 0, "idle tunnels", timeout_s=90)
        without = self._read_private_kb(self._sender)
        tunnels = self._count_tunnels(SENDER, "outgoing")
        self._note(
            "memory of a tunnel that this node has opened, with an idle stream",
            f"{(with_streams - idle) / tunnels:.1f} kB",
        )
        self._note("the same without streams", f"{(without - idle) / tunnels:.1f} kB")

    def _send(self, count: int) -> None:
        """Send requests side by side, so that the first tunnels do not end before the last ones are open."""
        address, port = build_address(0), self._ports["http"]

        def ask(_: int) -> int:
            connection = http.client.HTTPConnection(address, port, timeout=60)
            connection.request("GET", "/", headers={"Host": HOST, "Connection": "close"})
            status = connection.getresponse().status
            connection.close()
            return status

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for status in pool.map(ask, range(count)):
                if status != 200:
                    raise RuntimeError(f"a request was answered with {status}")

    def measure_incoming(self) -> None:
        """Open many connections of one node to the other proxy."""
        folder = self._folder
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(folder / "ca.pem")
        opened = []
        before = self._read_private_kb(self._receiver)
        for number in (2, 3):
            context.load_cert_chain(folder / f"node-{number}.pem")
            for _ in range(WORKER_TUNNELS):
                sock = socket.create_connection((build_address(1), self._ports["tunnel"]), timeout=30)
                tls = context.wrap_socket(sock)
                tls.sendall(HTTP2_START)
                tls.recv(1000)
                opened.append(tls)
        tunnels = self._count_tunnels(RECEIVER, "incoming")
        used = self._read_private_kb(self._receiver) - before
        self._note(f"memory of a tunnel that another node has opened, {tunnels} of them", f"{used / tunnels:.1f} kB")
        for tls in opened:
            tls.close()

    def _count_tunnels(self, name: str, role: str) -> int:
        return self._count(name, "maesh_tunnels", role)

    def _count(self, name: str, metric: str, role: str) -> int:
        text = fetch(self._ports[name], "/metrics")[1].decode()
        return int(float(text.partition(f'{metric}{{role="{role}"}} ')[2].partition("\n")[0] or 0))

    @staticmethod
    def _read_private_kb(pid: int) -> float:
        """Read the private memory of the worker: the last process below the proxy's."""
        text = Path(f"/proc/{find_tree(pid)[-1]}/smaps_rollup").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines()[1:])
        return sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


def build_proxy(node: str, address: str) -> dict[str, Any]:
    """Build the pod of a node's proxy."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"proxy-{node}", "namespace": "maesh", "labels": {"maesh.io/tunnel": "15008"}},
        "spec": {"nodeName": node, "containers": [{"name": "proxy"}]},
        "status": {"podIP": address, "phase": "Running"},
    }


def build_service(endpoints: list[dict[str, Any]], port: int) -> list[dict[str, Any]]:
    """Build the service and its slice."""
    metadata = {"name": "web", "namespace": "bench"}
    labels = {"kubernetes.io/service-name": "web"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"name": "a", "port": 80}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "a", "port": port}],
            "endpoints": endpoints,
        },
    ]


def start_server(port: int) -> None:
    """Answer requests at every address of this machine, in threads that end with this process."""

    class Hello(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = http.server.ThreadingHTTPServer(("", port), Hello)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> int:
    """Measure, write the figures, and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of the mesh (default 1000)")
    parser.add_argument("--talked", type=int, default=30, help="nodes that a node talks to, at first (default 30)")
    parser.add_argument("--tunnels", type=int, default=998, help="nodes that it talks to in the end (default 998)")
    parser.add_argument("--changes", type=int, default=10, help="nodes that are added one at a time (default 10)")
    parser.add_argument("--output", type=Path, default=RESULTS / "mtls_scale.json", help="the file of results")
    options = parser.parse_args()
    raise_open_files_limit(20_000)
    options.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name, ProcessGroup(Path(name)) as group:
        mesh = SimulatedMesh(group, Path(name), options)
        mesh.start()
        mesh.measure_certificates()
        mesh.measure_configuration()
        mesh.start_farm()
        mesh.measure_tunnels()
        mesh.measure_incoming()
    found = {"machine": describe_machine(), "mtls_scale": mesh.figures}
    options.output.write_text(json.dumps(found, indent=1))
    print(f"{options.output}: report.py puts the table into RESULTS.md")
    return 0


if __name__ == "__main__":
    run_to_end(main)
