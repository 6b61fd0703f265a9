"""A controller and the proxies of two nodes on this machine; what passes between the nodes is recorded.

The pod of the services runs on the node `receiver`. In the configuration, the receiver's proxy has the address of a
relay, which records the bytes of both directions.
"""

import contextlib
import http.client
import json
import re
import socket
import threading

from maesh_testing import build_service, find_free_port, wait_until
from maesh_testing.http_client import Answer

SENDER, RECEIVER, RELAY = "127.0.11.1", "127.0.11.2", "127.0.11.3"
ADDRESSES = {"sender": SENDER, "receiver": RECEIVER}
TOKENS = {"sender": "token-of-the-sender", "receiver": "token-of-the-receiver"}
HOST = "web.shop.maesh"
MARKER = "unique-marker-of-this-test"
"""What the server of the services answers."""
REQUIRED = "encryption is required: "
"""How the reason of a refusal begins."""


class Relay:
    """Accepts connections, connects to `target` for each, and records what passes."""

    def __init__(self, port, target):
        self.recorded = bytearray()
        self.target = target
        self._listening = socket.create_server((RELAY, port))
        self._threads = []
        self._sockets = [self._listening]
        self._start(self._accept)

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            self._start(self._pump, client, server)
            self._start(self._pump, server, client)

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.recorded += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for sock in self._sockets:
            sock.close()


class TwoNodes:
    """Starts the commands; `upstream` is the server of the services `web` (HTTP) and `raw` (TCP)."""

    def __init__(self, start_maesh, upstream, folder):
        self._start_maesh, self.upstream, self.folder = start_maesh, upstream, folder
        self.ports = {name: find_free_port() for name in ("api", "http", "tcp", "tunnel", "sender", "receiver")}
        self.commands = {}
        (folder / "manifests").mkdir()
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{node} {token}\n" for node, token in TOKENS.items()))
        tokens.chmod(0o600)

    def write(self, mode, *, receiver=RELAY, others=()):
        """Write the objects of the cluster, with the mode of the services, and others."""
        pods = [
            self._build_proxy("sender", SENDER),
            self._build_proxy("receiver", receiver),
        ]
        objects = [*pods, *self._build_service("web", mode, "http"), *self._build_service("raw", mode, "tcp"), *others]
        fresh = self.folder / "fresh.json"
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        fresh.rename(self.folder / "manifests" / "all.json")

    def _build_proxy(self, node, address):
        metadata = {"name": f"proxy-{node}", "namespace": "maesh", "labels": {"maesh.io/tunnel": "15008"}}
        spec = {"nodeName": node, "containers": [{"name": "proxy"}]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": {"podIP": address, "phase": "Running"},
        }

    def _build_service(self, name, mode, traffic_type):
        upstream = [(self.upstream.address, self.upstream.port)]
        annotations = {"encryption": mode, "traffic-type": traffic_type}
        service, endpoints = build_service(name, upstream, namespace="shop", annotations=annotations)
        reference = {"kind": "Pod", "name": "server", "namespace": "shop"}
        endpoints["endpoints"][0] |= {"nodeName": "receiver", "targetRef": reference}
        return [service, endpoints]

    def start_controller(self, *flags, has_plugin=True):
        """Start the controller, and wait until it answers."""
        ports = self.ports
        settings = {"ca": self.folder / "ca", "tokens": self.folder / "tokens", "port": ports["tunnel"]}
        plugin = ["--mtls", *(part for name, value in settings.items() for part in ("--set", f"mtls.{name}={value}"))]
        self.commands["controller"] = command = self._start_maesh(
            "controller",
            *("--api-host", "127.0.0.1", "--api-port", ports["api"]),
            *("--http-port", ports["http"], "--limit-http-port", 5, "--tcp-port", ports["tcp"], "--limit-tcp-port", 5),
            *("--port-mapping", self.folder / "ports.json"),
            *(plugin if has_plugin else ()),
            *flags,
            self.folder / "manifests",
        )
        command.wait_until(lambda: self._ask_admin("api", "/api/status/readiness").status == 200, "the API")

    def start_proxy(self, node, *flags, token=""):
        """Start the proxy of a node, and wait until it has a configuration."""
        file = self.folder / f"token-{node}"
        file.write_text(token or TOKENS[node])
        self.commands[node] = command = self._start_maesh(
            "proxy",
            *("--node", node, "--endpoint", f"http://127.0.0.1:{self.ports['api']}", "--bind", ADDRESSES[node]),
            *("--admin-host", "127.0.0.1", "--admin-port", self.ports[node], "--workers", 1),
            *("--mtls", "--set", f"mtls.token={file}", "--set", f"mtls.port={self.ports['tunnel']}"),
            *flags,
        )
        command.wait_until(lambda: self._ask_admin(node, "/configuration").status == 200, "a configuration")

    def wait_for_certificate(self, node, state="valid"):
        """Wait until the certificate of a node has a state; returns all that the node reports of it."""

        def find():
            services = self._ask_admin(node, "/status").json.get("services", {})
            found = services.get("mtls", {})
            return found if found.get("certificate") == state else None

        return self.commands[node].wait_until(find, f"a certificate that is {state}")

    def get(self, path="/", *, headers=None, address=SENDER, client=""):
        """Send a request of a client to a proxy, by default that of the sender's node."""
        return self._send(address, self.ports["http"], path, {"Host": HOST, **(headers or {})}, client)

    def connect(self):
        """Connect to the TCP service through the proxy of the sender's node."""
        return socket.create_connection((SENDER, self.ports["tcp"]), timeout=60)

    def wait_for_mode(self, mode):
        """Wait until the sender's proxy has the mode."""

        def check():
            section = self._ask_admin("sender", "/configuration").json["http"]["services"]
            found = {service.get("encryption", "off") for service in section.values()}
            return found == {mode}

        wait_until(check, f"the mode {mode}")

    def read_metric(self, node, pattern):
        """Add up the samples of a proxy's metrics whose names and labels match."""
        text = self._ask_admin(node, "/metrics").text
        return sum(float(value) for value in re.findall(rf"^{pattern}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    def _ask_admin(self, name, path):
        return self._send("127.0.0.1", self.ports[name], path, {})

    def _send(self, address, port, path, headers, client=""):
        source = (client, 0) if client else None
        connection = http.client.HTTPConnection(address, port, timeout=60, source_address=source)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, str(error).encode())
        finally:
            connection.close()


def start_both(nodes, *flags):
    """Start the controller and both proxies, and wait for their certificates."""
    nodes.start_controller(*flags)
    for node in ("sender", "receiver"):
        nodes.start_proxy(node)
        nodes.wait_for_certificate(node)


class Load:
    """Sends requests, one after the other in each of two threads, until it is closed."""

    def __init__(self, nodes):
        self.statuses, self.reasons, self._nodes, self._has_ended = [], [], nodes, threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while not self._has_ended.is_set():
            answer = self._nodes.get()
            self.statuses.append(answer.status)
            if answer.status != 200:
                self.reasons.append(answer.headers.get("X-Maesh-Reason", answer.text))

    def wait_for_more(self, count=20):
        """Wait until further requests were answered."""
        before = len(self.statuses)
        self._nodes.commands["sender"].wait_until(lambda: len(self.statuses) > before + count, "requests")

    def close(self):
        self._has_ended.set()
        for thread in self._threads:
            thread.join()
