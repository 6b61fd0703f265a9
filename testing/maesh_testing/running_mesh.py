"""`maesh up` as a process, in front of servers of the test."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from maesh_testing.commands import Command
from maesh_testing.http_client import Answer, send_request
from maesh_testing.upstream import Upstream

SERVICE, NAMESPACE = "app", "test"
HOST = f"{SERVICE}.{NAMESPACE}.maesh"

_ResultT = TypeVar("_ResultT")


def build_service(
    name: str,
    servers: Sequence[tuple[str, int]] = (),
    *,
    namespace: str = NAMESPACE,
    annotations: Mapping[str, str] | None = None,
    account: str = "",
) -> list[dict[str, Any]]:
    """Build the objects of a service with port 80: the Service, and an EndpointSlice for each address and port.

    Annotations without a prefix get `maesh.containo.us/`. With an account, each address
    belongs to a Pod of this service account.
    """
    full = {key if "/" in key else f"maesh.containo.us/{key}": value for key, value in (annotations or {}).items()}
    metadata = {"name": name, "namespace": namespace, "annotations": full}
    service = {"ports": [{"name": "web", "port": 80, "targetPort": 8080}]}
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-{number}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [address],
                    "conditions": {"ready": True},
                    **({"targetRef": {"kind": "Pod", "name": f"{name}-{number}"}} if account else {}),
                }
            ],
        }
        for number, (address, port) in enumerate(servers)
    ]
    pods = [
        build_pod(f"{name}-{number}", address, account, namespace=namespace)
        for number, (address, _) in enumerate(servers if account else ())
    ]
    return [{"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, *slices, *pods]


def build_pod(name: str, address: str, account: str, *, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Build a Pod that runs as a service account."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main"}]},
        "status": {"podIP": address, "phase": "Running"},
    }


class Manifests:
    """A folder of manifests. Each is renamed into place as a whole, as editors and `kubectl` do it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = folder

    def write(self, name: str, content: str | Sequence[Mapping[str, Any]]) -> Path:
        """Write text as it is, or objects as a JSON list."""
        if not isinstance(content, str):
            content = json.dumps({"apiVersion": "v1", "kind": "List", "items": content})
        fresh = self.path.with_name(f"{self.path.name}.fresh")
        fresh.write_text(content)
        return fresh.rename(self.path / name)


class RunningMesh:
    """`maesh up` that is ready. `upstreams` are the servers of its service `app` in namespace `test`."""

    def __init__(
        self,
        command: Command,
        ports: tuple[int, int, int],
        manifests: Manifests,
        upstreams: Sequence[Upstream],
        *,
        account: str = "",
    ) -> None:
        self.command, self.manifests, self.upstreams = command, manifests, upstreams
        self._account = account
        self.http_port, self.api_port, self.admin_port = ports

    def __repr__(self) -> str:
        return f"<RunningMesh {self.command!r}>"

    def get(
        self, path: str = "/", *, host: str = HOST, headers: Mapping[str, str] | None = None, client: str = ""
    ) -> Answer:
        """Send a GET through the mesh, from the address `client` where that is given."""
        return self.send("GET", path, host=host, headers=headers, client=client)

    def send(
        self,
        method: str,
        path: str = "/",
        *,
        host: str = HOST,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        client: str = "",
    ) -> Answer:
        """Send a request through the mesh, from the address `client` where that is given."""
        return send_request(self.http_port, host, path, method=method, headers=headers, body=body, client=client)

    def describe_service(self, name: str = SERVICE, namespace: str = NAMESPACE) -> dict[str, Any]:
        """Return what the controller says of a service now: `errors`, `notices`, its hosts and its servers."""
        reports = send_request(self.api_port, path="/api/services").json
        (found,) = [each for each in reports if (each["namespace"], each["name"]) == (namespace, name)]
        return dict(found)

    def read_metrics(self) -> str:
        """Return the proxy's metrics, in Prometheus' text format."""
        return send_request(self.admin_port, path="/metrics").text

    def set_annotations(self, annotations: Mapping[str, str]) -> None:
        """Give the service other annotations; the mesh follows within a moment, which `wait_until` waits for."""
        servers = [(upstream.address, upstream.port) for upstream in self.upstreams]
        objects = build_service(SERVICE, servers, annotations=annotations, account=self._account)
        self.manifests.write(f"{SERVICE}.json", objects)

    def wait_until(self, condition: Callable[[], _ResultT], what: str) -> _ResultT:
        """Wait for something while the mesh runs; its end is an error that shows what it wrote."""
        return self.command.wait_until(condition, what)
