"""Three nodes with a proxy each, a machine with the controller, and pods: network namespaces with real processes.

A request of a pod goes to the proxy of its own node. What passes between nodes passes the bridge of the network, where
`network.capture` records it.
"""

import json
import os
import re
import signal
import ssl
import subprocess
import threading

import trustme

from maesh_testing import Upstream, build_environment, wait_until
from maesh_testing.commands import MAESH, Command

NODES = ("a", "b", "c")
HTTP_PORT, TCP_PORT, TUNNEL_PORT, ADMIN_PORT, API_PORT, POD_PORT = 5000, 10000, 15008, 8080, 9000, 8000
API_TOKEN = "a-token-for-the-api-of-the-tests"
HOST = "web.shop.maesh"


class ThreeNodes:
    """Starts pods and commands. `encryption` is the mode of the services `web` (HTTP) and `raw` (TCP)."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        self.control = network.add_node("control")
        self.nodes = {name: network.add_node(name) for name in NODES}
        self.tunnel_addresses = {name: node.address for name, node in self.nodes.items()}
        self.encryption = "strict"
        self.servers = {}  # by pod
        self.others = []
        """Further objects of the cluster."""
        self.flags = self.proxy_flags = ()
        """Further flags of the controller and the proxies, and of the proxies only."""
        self.commands = {}
        self._ended, self._upstreams = [], []
        (folder / "manifests").mkdir(parents=True)
        self._write_files()

    def _write_files(self):
        authority = trustme.CA()
        issued = authority.issue_cert(self.control.address)
        (self.folder / "api.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        (self.folder / "api.key").write_bytes(issued.private_key_pem.bytes())
        (self.folder / "api-ca.crt").write_bytes(authority.cert_pem.bytes())
        (self.folder / "api-tokens").write_text(f"all {API_TOKEN}\n")
        tokens = {name: f"token-of-the-node-{name}" for name in NODES}
        (self.folder / "tokens").write_text("".join(f"{name} {token}\n" for name, token in tokens.items()))
        (self.folder / "tokens").chmod(0o600)
        for name, token in tokens.items():
            (self.folder / f"token-{name}").write_text(token)

    def add_server(self, node, text=""):
        """Add a pod on a node, with a server that answers with a text."""
        pod = self.add_pod(node)
        upstream = pod.call(lambda: Upstream(text or node, POD_PORT, pod.address))
        self._upstreams.append(upstream)
        return pod, upstream

    def add_pod(self, node):
        """Add a pod of the services on a node; the test runs its server."""
        pod = self.network.add_pod(self.nodes[node])
        self.servers[pod] = node
        return pod

    def add_client(self, node):
        """Add a pod on a node that has no server."""
        return self.network.add_pod(self.nodes[node])

    def write(self):
        """Write the objects of the cluster as they are now."""
        objects = [self._build_proxy(name, self.tunnel_addresses[name]) for name in self.tunnel_addresses]
        for name, traffic_type in (("web", "http"), ("raw", "tcp")):
            objects += self._build_service(name, traffic_type)
        objects += self.others
        fresh = self.folder / "fresh.json"
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        fresh.rename(self.folder / "manifests" / "all.json")

    def _build_proxy(self, node, address):
        metadata = {"name": f"proxy-{node}", "namespace": "maesh", "labels": {"maesh.io/tunnel": str(TUNNEL_PORT)}}
        spec = {"nodeName": node, "containers": [{"name": "proxy"}]}
        status = {"podIP": address, "phase": "Running"}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}

    def _build_service(self, name, traffic_type):
        annotations = {"encryption": self.encryption, "traffic-type": traffic_type}
        endpoints = [
            {
                "addresses": [pod.address],
                "nodeName": node,
                "targetRef": {"kind": "Pod", "name": f"server-{node}", "namespace": "shop"},
                "conditions": {"ready": True},
            }
            for pod, node in self.servers.items()
        ]
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": name,
                    "namespace": "shop",
                    "annotations": {f"maesh.containo.us/{key}": value for key, value in annotations.items()},
                },
                "spec": {"ports": [{"name": "a", "port": 80}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "a", "port": POD_PORT, "protocol": "TCP"}],
                "endpoints": endpoints,
            },
        ]

    def start(self, *, without_plugin="", absent=""):
        """Write the objects; start the controller and the proxies; wait until each has what it needs.

        The proxies of some nodes have no plugin, and are no nodes of the configuration; those of some do not run.
        """
        self.tunnel_addresses = {name: self.tunnel_addresses[name] for name in NODES if name not in without_plugin}
        self.write()
        self.start_controller()
        for name in sorted(set(NODES) - set(absent)):
            self.start_proxy(name, has_plugin=name not in without_plugin)
        for name in sorted(set(NODES) - set(absent)):
            self.wait_for_proxy(name, has_certificate=name not in without_plugin)

    def start_controller(self, *flags):
        """Start the controller, and wait until it answers."""
        files = {name: self.folder / name for name in ("api.crt", "api.key", "api-tokens", "ca", "tokens")}
        self._start(
            "controller",
            self.control,
            "controller",
            *("--api-cert", files["api.crt"], "--api-key", files["api.key"], "--api-tokens", files["api-tokens"]),
            *("--limit-http-port", 5, "--limit-tcp-port", 5, "--port-mapping", self.folder / "ports.json"),
            *("--mtls", "--set", f"mtls.ca={files['ca']}", "--set", f"mtls.tokens={files['tokens']}"),
            *self.flags,
            *flags,
            self.folder / "manifests",
        )

    def start_proxy(self, name, *, has_plugin=True):
        """Start the proxy of a node."""
        plugin = ("--mtls", "--set", f"mtls.token={self.folder / f'token-{name}'}")
        self._start(
            name,
            self.nodes[name],
            "proxy",
            *("--node", name, "--endpoint", f"https://{self.control.address}:{API_PORT}", "--workers", 1),
            *("--admin-host", "127.0.0.1"),
            *("--root-ca-controller", self.folder / "api-ca.crt", "--controller-token", self.folder / "api-tokens"),
            *(plugin if has_plugin else ()),
            *self.flags,
            *self.proxy_flags,
        )

    def _start(self, key, node, *arguments):
        program = (*node.wrap(MAESH), *map(str, arguments))
        folder = self.folder / f"command-{len(self.commands) + len(self._ended)}-{key}"
        self.commands[key] = Command(program, folder, build_environment(self.folder))

    def wait_for_proxy(self, name, *, has_certificate=True):
        """Wait until a proxy has a configuration, and its certificate."""
        command = self.commands[name]
        command.wait_until(lambda: self.ask(name, "/ready").status == 200, "a configuration")
        if has_certificate:
            command.wait_until(lambda: self.read_certificate(name).get("certificate") == "valid", "a certificate")

    def read_certificate(self, name):
        """Read what a proxy reports of its certificate."""
        return self.ask(name, "/status").json.get("services", {}).get("mtls", {})

    def wait_until_applied(self, *names):
        """Wait until proxies have the modes and the servers that were written."""
        wanted = (self.encryption, {pod.address for pod in self.servers})
        for name in names or NODES:
            self.commands[name].wait_until(lambda name=name: self._read_services(name) == wanted, f"{wanted}")

    def _read_services(self, name):
        services = self.ask(name, "/configuration").json["http"]["services"].values()
        modes = {service.get("encryption", "off") for service in services}
        addresses = {server["address"] for service in services for server in service.get("servers", ())}
        return ",".join(modes), addresses

    def ask(self, name, path):
        """Ask the admin port of a proxy, from its own node."""
        return self.nodes[name].get("127.0.0.1", ADMIN_PORT, path)

    def get(self, client, path="/", **options):
        """Send a request of a pod to the proxy of its node."""
        headers = {"Host": HOST, **options.pop("headers", {})}
        return client.get(client.node.address, HTTP_PORT, path, headers=headers, **options)

    def connect(self, client, port=TCP_PORT):
        """Connect a pod to a port of the proxy of its node."""
        return client.connect(client.node.address, port)

    def read_metric(self, name, pattern):
        """Add up the samples of a proxy's metrics whose names and labels match."""
        text = self.ask(name, "/metrics").text
        return sum(float(value) for value in re.findall(rf"^{pattern}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    def run_maesh(self, *arguments):
        """Run a command of the plugin against the controller, on its machine; returns what it prints."""
        command = (*self.control.wrap(MAESH), "mtls", *arguments)
        access = (
            *("--endpoint", f"https://{self.control.address}:{API_PORT}"),
            *("--root-ca-controller", self.folder / "api-ca.crt", "--controller-token", self.folder / "api-tokens"),
        )
        environment = build_environment(self.folder)
        words = list(map(str, (*command, *access)))
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask_controller(self, path):
        """Ask the API of the controller, from its own machine."""
        context = ssl.create_default_context(cafile=str(self.folder / "api-ca.crt"))
        sock = self.control.connect(self.control.address, API_PORT)
        with context.wrap_socket(sock, server_hostname=self.control.address) as tls:
            head = f"GET {path} HTTP/1.1\r\nHost: {self.control.address}\r\nAuthorization: Bearer {API_TOKEN}\r\n"
            tls.sendall(f"{head}Connection: close\r\n\r\n".encode())
            with tls.makefile("rb") as file:
                status, _, body = file.read().partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200 "), status
        return json.loads(body)

    def kill(self, key):
        """Kill a command and everything that it has started, at once."""
        command = self.commands.pop(key)
        for pid in command.find_left_behind():
            os.kill(pid, signal.SIGKILL)
        command.wait()
        wait_until(lambda: not command.find_left_behind(), "the end of what was killed")
        self._ended.append(command)

    def stop(self, key):
        """End a command in good order."""
        command = self.commands.pop(key)
        assert command.stop() == 0, command.stderr
        self._ended.append(command)

    def close(self):
        """End everything, and check that it ended well."""
        complaints = [complaint for command in reversed(self.commands.values()) for complaint in command.end()]
        for upstream in self._upstreams:
            upstream.close()
        assert not complaints, "\n".join(complaints)


class Load:
    """Sends requests of a pod, one after the other in each of some threads, until it is closed."""

    def __init__(self, mesh, client, threads=3):
        self.answers = []
        self._mesh, self._client, self._has_ended = mesh, client, threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while not self._has_ended.is_set():
            answer = self._mesh.get(self._client)
            self.answers.append((answer.status, answer.text))

    def wait_for(self, texts, *, count=30):
        """Wait until further requests were answered, by exactly these servers; returns from which answer on."""
        start = len(self.answers)

        def check():
            nonlocal start
            found = {text for _, text in self.answers[start:]}
            if found - texts:
                start = len(self.answers)
            return found == texts and len(self.answers) >= start + count

        wait_until(check, f"answers of {texts} only")
        return start

    @property
    def failures(self):
        """The answers that are no 200, with their texts."""
        return [answer for answer in self.answers if answer[0] != 200]

    def close(self):
        """End it."""
        self._has_ended.set()
        for thread in self._threads:
            thread.join()
