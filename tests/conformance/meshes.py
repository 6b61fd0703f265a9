"""The meshes against which the cases run: `maesh up` with manifests, and a controller with an API server and a proxy.

Both run in two forms: with an entrypoint for each port of a Service, so that the suite's requests arrive at the Service
to which they are sent, whatever their Host is, and with shared entrypoints, so that the Host decides. The manifests are
applied as they are; Deployments become echo servers.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from maesh_testing.api_server import ApiServer
from maesh_testing.commands import MAESH, Command, build_environment
from maesh_testing.http_client import send_request
from maesh_testing.ports import find_free_port
from maesh_testing.running_mesh import Manifests

from .cases import CRDS, EXPERIMENTAL_CRDS, load_manifest
from .pods import EchoPods

PORTS = 20
STRIDE = 10
PLURALS = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"}
ROUTES = frozenset(PLURALS)

Object = dict[str, Any]


class Form(msgspec.Struct, frozen=True):
    """How a mesh runs: `mode` is its name in the report."""

    mode: str
    workers: int
    is_own: bool


OWN = Form(mode="own-entrypoints", workers=1, is_own=True)
SHARED = Form(mode="shared-entrypoints", workers=2, is_own=False)


class Mesh(Protocol):
    """A running mesh with the suite's base manifests."""

    name: str
    form: Form

    def apply(self, objects: Sequence[Object]) -> None:
        """Replace the objects of the last case by these, and return when proxies route by them."""

    def find_entrypoint(self, namespace: str, service: str, port: int) -> tuple[str, int]: ...

    def list_routes(self) -> Sequence[Object]:
        """List the routes of the case as they are stored."""

    def list_statuses(self) -> Mapping[tuple[str, str], Sequence[Object]]:
        """List the entries of statuses by kind and name."""

    def close(self) -> None: ...


def find_ports() -> int:
    """Find the first of PORTS free ports."""
    found = [find_free_port(first=12000, last=19999)]
    while found[-1] - found[0] != PORTS - STRIDE:
        following = find_free_port(first=12000, last=19999)
        found = [found[0], following] if following == found[0] + STRIDE else [following]
    return found[0]


class _Commands:
    """Commands that run together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commands: list[Command] = []

    def start(self, *arguments: object) -> Command:
        folder = self._folder / f"command-{len(self._commands)}"
        self._commands.append(Command((*MAESH, *map(str, arguments)), folder, build_environment(self._folder)))
        return self._commands[-1]

    def end(self) -> None:
        complaints = [complaint for command in reversed(self._commands) for complaint in command.end()]
        assert not complaints, "\n".join(complaints)


def _list_flags(form: Form) -> tuple[object, ...]:
    if not form.is_own:
        return ("--http-port", find_ports(), "--limit-http-port", PORTS)
    return (
        *("--default-entrypoint", "own", "--own-http-port", find_ports(), "--limit-own-http-port", PORTS),
        *("--http-port", find_free_port(), "--limit-http-port", 1),
    )


def _build_base(pods: EchoPods) -> list[Object]:
    """Build the base manifests as a cluster has them: Deployments as Pods, and Services with EndpointSlices."""
    objects = [each for each in load_manifest("base.yaml") if each["kind"] != "Deployment"]
    services = [each for each in objects if each["kind"] == "Service"]
    slices = [slice_ for service in services for slice_ in pods.build_slices(service)]
    return [*objects, *(pod.build() for pod in pods.pods), *slices]


def _wait_applied(wait: Callable[[Callable[[], bool], str], object], api_port: int, admin_port: int) -> None:
    """Wait until the proxy has applied the controller's revision."""

    def is_applied() -> bool:
        wanted = send_request(api_port, path="/api/status/controller").json["revision"]
        return bool(send_request(admin_port, path="/status").json["revision"] == wanted)

    wait(is_applied, "the current revision in the proxy")


class LocalMesh:
    """`maesh up` with a folder of manifests."""

    name = "maesh up"

    def __init__(self, folder: Path, pods: EchoPods, form: Form) -> None:
        self.form = form
        self._manifests = Manifests(folder / "manifests")
        self._manifests.write("base.json", _build_base(pods))
        self._routes: list[Object] = []
        self._commands = _Commands(folder)
        self._api_port, self._admin_port = find_free_port(), find_free_port()
        options = ("--api-port", self._api_port, "--admin-port", self._admin_port, "--json")
        flags = ("--workers", form.workers, *_list_flags(form))
        self._command = self._commands.start("up", *options, *flags, self._manifests.path)
        self._command.wait_until(lambda: "\n" in self._command.stdout, "one line on standard output")

    def apply(self, objects: Sequence[Object]) -> None:
        """Write the objects into a file; routes are applied when all have a status, and no other one has."""
        self._manifests.write("case.json", objects)
        self._routes = [each for each in objects if each["kind"] in ROUTES]
        wanted = {(each["kind"], each["metadata"]["name"]) for each in self._routes}
        self._command.wait_until(lambda: self.list_statuses().keys() == wanted, "the routes of the case")
        _wait_applied(self._command.wait_until, self._api_port, self._admin_port)

    def find_entrypoint(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        """Find where a port of a Service is served."""
        reports = send_request(self._api_port, path="/api/services").json
        (found,) = [each for each in reports if (each["namespace"], each["name"]) == (namespace, service)]
        return "127.0.0.1", next(each["entrypoint"] for each in found["ports"] if each["port"] == port)

    def list_routes(self) -> Sequence[Object]:
        """List the manifests."""
        return self._routes

    def list_statuses(self) -> Mapping[tuple[str, str], Sequence[Object]]:
        """Read `/api/status/routes`."""
        found = send_request(self._api_port, path="/api/status/routes").json
        return {(each["kind"], each["name"]): each["parents"] for each in found}

    def close(self) -> None:
        """End the command."""
        self._commands.end()


class ClusterMesh:
    """A controller with the API server for tests, and a proxy. Clients find entrypoints by shadow services."""

    name = "cluster"

    def __init__(self, folder: Path, pods: EchoPods, form: Form) -> None:
        self.form = form
        self._server = ApiServer()
        self._server.start()
        self._routes: list[Object] = []
        self._commands = _Commands(folder)
        self._server.add_crds(CRDS)
        self._server.add_crds(EXPERIMENTAL_CRDS)
        self._server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        self._server.apply(_build_base(pods))
        kubeconfig = self._server.write_kubeconfig(folder / "kubeconfig")
        self._api_port, self._admin_port = find_free_port(), find_free_port()
        flags = (*_list_flags(form), "--kubeconfig", kubeconfig)
        self._controller = self._commands.start(
            "controller", "--api-host", "127.0.0.1", "--api-port", self._api_port, *flags
        )
        self._wait_ready(self._controller, self._api_port, "/api/status/readiness")
        endpoint = f"http://127.0.0.1:{self._api_port}"
        addresses = ("--bind", "127.0.0.1", "--admin-host", "127.0.0.1", "--admin-port", self._admin_port)
        proxy = self._commands.start("proxy", "--endpoint", endpoint, "--workers", form.workers, *addresses)
        self._wait_ready(proxy, self._admin_port, "/ready")
        self._controller.wait_until(lambda: len(self._list_shadows()) == 3, "shadow services")

    def _wait_ready(self, command: Command, port: int, path: str) -> None:
        command.wait_until(lambda: send_request(port, path=path).status == 200, path)

    def apply(self, objects: Sequence[Object]) -> None:
        """Apply the objects, and wait until all routes have a status."""
        for each in self._routes:
            self._server.delete(PLURALS[each["kind"]], each["metadata"]["name"], each["metadata"]["namespace"])
        self._server.apply(objects)
        self._routes = [each for each in objects if each["kind"] in ROUTES]
        self._controller.wait_until(lambda: all(self.list_statuses().values()), "the statuses of the routes")
        self._controller.wait_until(self._is_current, "the routes in the controller")
        _wait_applied(self._controller.wait_until, self._api_port, self._admin_port)

    def _is_current(self) -> bool:
        found = send_request(self._api_port, path="/api/status/routes").json
        wanted = {(each["kind"], each["metadata"]["name"]) for each in self._routes}
        return {(each["kind"], each["name"]) for each in found} == wanted

    def find_entrypoint(self, namespace: str, service: str, port: int) -> tuple[str, int]:
        """Find where the shadow service sends what is sent to a port of it."""
        found = self._list_shadows()[f"maesh-{service}-6d61657368-{namespace}"]
        return "127.0.0.1", next(each["targetPort"] for each in found["spec"]["ports"] if each["port"] == port)

    def list_statuses(self) -> Mapping[tuple[str, str], Sequence[Object]]:
        """Read the statuses of the case's routes from the API server."""
        return {
            (each["kind"], each["metadata"]["name"]): each.get("status", {}).get("parents", ())
            for each in self.list_routes()
        }

    def list_routes(self) -> Sequence[Object]:
        """Read the routes of the case from the API server, with their generation."""
        named = ((each["kind"], each["metadata"]) for each in self._routes)
        return [
            {"kind": kind, **self._server.get(PLURALS[kind], metadata["name"], metadata["namespace"])}
            for kind, metadata in named
        ]

    def _list_shadows(self) -> dict[str, Object]:
        found = self._server.list("services", "maesh")
        return {each["metadata"]["name"]: each for each in found}

    def close(self) -> None:
        """End the commands, and then the API server."""
        self._commands.end()
        self._server.stop()
