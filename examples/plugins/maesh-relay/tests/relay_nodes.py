"""A controller and the proxies of two nodes as processes on this machine; the server is a pod of node `b`."""

import http.client
import json
import re

from maesh_testing import Answer, build_pod, build_service, find_free_port

ADDRESSES = {"a": "127.0.13.1", "b": "127.0.13.2"}
HOST = "web.shop.maesh"


class RelayNodes:
    """Starts the commands. A request of a client of node `a` goes to the proxy of `a`."""

    def __init__(self, start_maesh, upstream, folder):
        self._start_maesh, self.upstream, self.folder = start_maesh, upstream, folder
        self.ports = {name: find_free_port() for name in ("api", "http", "tcp", "relay", "a", "b")}
        self.commands = {}
        (folder / "manifests").mkdir(parents=True)
        (folder / "secret").write_text("s" * 32)

    def write(self, mode, *, others=()):
        """Write the objects of the cluster, with the mode of the service."""
        objects = [*map(self._build_proxy, ADDRESSES), *self._build_service(mode), *others]
        fresh = self.folder / "fresh.json"
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        fresh.rename(self.folder / "manifests" / "all.json")

    def _build_proxy(self, node):
        pod = build_pod(f"proxy-{node}", ADDRESSES[node], "maesh", namespace="maesh")
        pod["metadata"]["labels"] = {"maesh.io/tunnel": str(self.ports["relay"])}
        pod["spec"]["nodeName"] = node
        return pod

    def _build_service(self, mode):
        upstream = [(self.upstream.address, self.upstream.port)]
        service, endpoints = build_service("web", upstream, namespace="shop", annotations={"relay": mode})
        reference = {"kind": "Pod", "name": "server", "namespace": "shop"}
        endpoints["endpoints"][0] |= {"nodeName": "b", "targetRef": reference}
        return [service, endpoints]

    def start(self, *flags, secrets=("secret", "secret")):
        """Start the controller and both proxies; wait until each has a configuration."""
        ports = self.ports
        plugin = ("--relay", "--set", f"relay.port={ports['relay']}", *flags)
        self.commands["api"] = self._start_maesh(
            *("controller", "--api-host", "127.0.0.1", "--api-port", ports["api"]),
            *("--http-port", ports["http"], "--limit-http-port", 5, "--tcp-port", ports["tcp"], "--limit-tcp-port", 5),
            *("--port-mapping", self.folder / "ports.json", *plugin, self.folder / "manifests"),
        )
        self._wait("api", "/api/status/readiness")
        for name, secret in zip(ADDRESSES, secrets, strict=True):
            self.commands[name] = self._start_maesh(
                *("proxy", "--node", name, "--endpoint", f"http://127.0.0.1:{ports['api']}", "--workers", 1),
                *("--bind", ADDRESSES[name], "--admin-host", "127.0.0.1", "--admin-port", ports[name]),
                *(*plugin, "--set", f"relay.secret-file={self.folder / secret}"),
            )
            self._wait(name, "/ready")

    def _wait(self, name, path):
        self.commands[name].wait_until(lambda: self._ask(name, path).status == 200, path)

    def _ask(self, name, path):
        return send("127.0.0.1", self.ports[name], path)

    def get(self, path="/", *, client=""):
        """Send a request of a client to the proxy of node `a`."""
        return send(ADDRESSES["a"], self.ports["http"], path, {"Host": HOST}, client)

    def wait_for_mode(self, mode):
        """Wait until the proxies have the mode."""

        def check(name):
            services = self._ask(name, "/configuration").json["http"]["services"].values()
            return {service.get("encryption", "off") for service in services} == {mode}

        for name in ADDRESSES:
            self.commands[name].wait_until(lambda name=name: check(name), f"the mode {mode}")

    def read_metric(self, name, pattern):
        """Add up the samples of a proxy's metrics whose names and labels match."""
        text = self._ask(name, "/metrics").text
        return sum(float(value) for value in re.findall(rf"^{pattern}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def send(address, port, path, headers=None, client=""):
    """Send a GET; the status is 0 if there is no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=60, source_address=(client, 0) if client else None)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, {}, str(error).encode())
    finally:
        connection.close()
