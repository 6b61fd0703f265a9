"""Controllers that run in the test's own process against the API server for tests, in a time of their own."""

import asyncio
import contextvars
import functools
import json
import time
from contextlib import suppress

import aiohttp
import pytest

from maesh_core.controller.api.server import open_socket, start_server
from maesh_core.controller.cluster import joining
from maesh_core.controller.cluster.membership import Cluster
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.run import run_controller
from maesh_core.errors import KubernetesError
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.stream_traffic import StreamTrafficType
from maesh_core.settings import ControllerSettings

PATIENCE_S = 60.0
_replica = contextvars.ContextVar("replica")


@pytest.fixture
def manifest_folder(tmp_path):
    """An empty folder for the manifests of a controller."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path, manifest_folder):
    """The settings of a controller that reads `manifest_folder`, and listens on a free port."""
    return {
        "paths": (str(manifest_folder),),
        "api_host": "127.0.0.1",
        "api_port": 0,
        "port_mapping": str(tmp_path / "state" / "port-mapping.json"),
    }


@pytest.fixture
async def serve():
    """Serve a handler on a loopback port; gives its base URL. Stopped at the end, if the test did not."""
    servers = []

    async def start(handler, **options):
        sock = open_socket("127.0.0.1", 0, flag="--api-port")
        port = sock.getsockname()[1]
        server = await start_server(handler, sock, **options)
        servers.append(server)
        return f"http://127.0.0.1:{port}", server

    yield start
    for server in servers:
        await server.close()


def build_credentials(server):
    async def load():
        return Access(server=server.url, headers={"Authorization": f"Bearer {server.token}"})

    return Credentials(load)


@pytest.fixture
async def build_client():
    """Build clients of a server's administrator; closed at the end."""
    clients = []

    def build(server):
        clients.append(KubernetesClient(build_credentials(server)))
        return clients[-1]

    yield build
    for client in clients:
        await client.close()


class Time:
    """A clock that goes as the machine's does, but can be put forward, and the pauses by it."""

    def __init__(self):
        self._ahead_s = 0.0
        self._put_forward = asyncio.Event()

    def __call__(self):
        return time.monotonic() + self._ahead_s

    async def pause(self, seconds):
        due = self() + seconds
        await asyncio.sleep(0)
        while (left := due - self()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._put_forward.wait()

    def skip(self, seconds):
        self._ahead_s += seconds
        self._put_forward.set()
        self._put_forward = asyncio.Event()


class WeakClient(KubernetesClient):
    """A client whose process can be stopped or killed between two of its requests, or before it has the answer.

    `kill` says of each call, by method and path, whether the process dies at it: `before` it has an effect, or `after`.
    What watches tell comes only while `watching` is set. With `holding`, a write is taken away and kept in `held`.
    """

    def __init__(self, credentials, clock, kill=lambda method, path: ""):
        super().__init__(credentials)
        self.running = asyncio.Event()
        self.running.set()
        self.watching = asyncio.Event()
        self.watching.set()
        self.dead = asyncio.Event()
        self.holding = lambda method, path: False
        self.held = []
        self.keeping_time = 0
        self.calls = []
        self.clock = clock
        self.kill = kill

    async def send(self, method, path, body=None, *, timeout_s=30.0, **more):
        moment = await self._begin(method, path, timeout_s)
        if self.holding(method, path):
            self.held.append((method, path, body))
            await self.clock.pause(timeout_s)
            raise KubernetesError(f"{method} {path}: no answer in time")
        keeps_time = method != "GET" or "/leases/" in path
        self.keeping_time += keeps_time
        try:
            answer = await super().send(method, path, body, timeout_s=timeout_s, **more)
        except Exception:
            if moment == "after":
                self._die()
            raise
        finally:  # a cancellation goes through: nothing may be raised in its place
            self.keeping_time -= keeps_time
        if moment == "after":
            self._die()
        if not self.running.is_set():
            await self._hang(f"{method} {path}", timeout_s)
        return answer

    async def watch_lines(self, path, query, *, silence_limit_s):
        await self._begin("WATCH", path, silence_limit_s)
        async for lines in super().watch_lines(path, query, silence_limit_s=silence_limit_s):
            await self.running.wait()
            await self.watching.wait()
            yield lines

    async def _begin(self, method, path, timeout_s):
        if not self.running.is_set():
            await self._hang(f"{method} {path}", timeout_s)
        if self.dead.is_set():
            raise KubernetesError("this process is dead")
        self.calls.append((method, path))
        moment = self.kill(method, path)
        if moment == "before":
            self._die()
        return moment

    async def _hang(self, what, timeout_s):
        waits = [asyncio.ensure_future(self.running.wait()), asyncio.ensure_future(self.clock.pause(timeout_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not self.running.is_set():
            raise KubernetesError(f"{what}: no answer in time")

    def _die(self):
        self.dead.set()
        raise KubernetesError("this process is dead")


class UdpTrafficType(StreamTrafficType):
    name = "udp"
    transport = "UDP"


class FewPlugins:
    names: tuple[str, ...] = ()

    def __init__(self, udp_limit, sources, hooks):
        udp = UdpTrafficType(PortRange(first=15000, limit=udp_limit, is_exclusive=True))
        self._given = {"maesh_traffic_types": [udp], "maesh_sources": sources, **hooks}

    def collect(self, hook_name, **arguments):
        return self._given.get(hook_name, [])

    def describe(self, provided):
        return type(provided).__name__


class Replica:
    """One controller. `kill` it and it ends at its next request at the latest; `freeze` it and no request ends."""

    cluster: Cluster

    def __init__(self, task, client, stop, started):
        self.task, self.client, self._stop, self._started = task, client, stop, started

    def __repr__(self):
        calls = [f"{method} {path}" for method, path in self.client.calls if "/leases/" not in path]
        return f"<Replica {self._started} {self.task} after {calls}>"

    @property
    def is_ready(self):
        return self._started.done()

    @property
    def is_alive(self):
        return not self.client.dead.is_set() and not self.task.done()

    @property
    def leads(self):
        return self.is_alive and self.is_ready and self.election.is_leader

    @property
    def election(self):
        return self.cluster.election

    async def wait_ready(self):
        await asyncio.wait((self._started, self.task), return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            await self.task

    async def get(self, path):
        url = f"http://127.0.0.1:{self._started.result().api_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return json.loads(await response.read())

    async def report(self, name, namespace="shop"):
        found = await self.get("/api/services")
        return next((each for each in found if (each["namespace"], each["name"]) == (namespace, name)), None)

    async def list_entrypoints(self):
        """Give what is served of exclusive traffic types: service port to entrypoint."""
        document = await self.get("/api/configuration/current")
        return {
            (type_, key): router["entrypoint"]
            for type_ in ("tcp", "udp")
            for key, router in document.get(type_, {}).get("routers", {}).items()
        }

    async def stop(self):
        self._stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.task

    async def crash(self):
        """End as a process does that is killed: nothing is given up, and no request goes out any more."""
        self.client.dead.set()
        self.client.running.set()
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Fleet:
    """The controllers of one test, which live by one clock."""

    def __init__(self, server):
        self.server = server
        self.clock = Time()
        self.replicas = []

    def begin(self, *, kill=lambda method, path: "", udp_limit=5, sources=(), hooks=None, **settings):
        """Start a controller, and give it at once."""
        client = WeakClient(build_credentials(self.server), self.clock, kill)
        given = {"limit_tcp_port": 5, "api_host": "127.0.0.1", "api_port": 0, "kubeconfig": "the test's", **settings}
        stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
        replica = Replica(None, client, stop, started)
        context = contextvars.copy_context()
        context.run(_replica.set, replica)
        replica.task = asyncio.get_running_loop().create_task(
            run_controller(
                ControllerSettings(**given),
                FewPlugins(udp_limit, sources, hooks or {}),
                stop=stop,
                ready=started.set_result,
                clock=self.clock,
                pause=self.clock.pause,
            ),
            context=context,
        )
        self.replicas.append(replica)
        return replica

    async def start(self, **more):
        """Start a controller, and give it when it is ready."""
        replica = self.begin(**more)
        await replica.wait_ready()
        return replica

    async def until(self, condition, *, idle_s=0.5):
        """Wait until a condition, plain or a coroutine function, holds, and give what it gives.

        While nobody leads nothing is to be seen, and the time is made short: it goes forward by `idle_s` a look.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.002)
                self.skip(0.05 if any(each.leads for each in self.replicas) else idle_s)

    def skip(self, seconds):
        """Put the clock forward, but not past the end of a write or of a look at the lease: those keep to the real one.

        A response that a busy machine delays would otherwise end the lead.
        """
        if not any(each.client.keeping_time for each in self.replicas):
            self.clock.skip(seconds)

    async def end(self):
        for replica in self.replicas:
            await replica.crash()


class KnownCluster(Cluster):
    """A cluster that its replica in the test knows."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        _replica.get().cluster = self


@pytest.fixture
async def build_fleet(monkeypatch):
    """Build fleets of servers; all controllers are killed at the end."""
    monkeypatch.setattr(joining, "open_client", lambda settings: _replica.get().client)
    monkeypatch.setattr(joining, "Cluster", KnownCluster)
    fleets = []

    def build(server):
        fleets.append(Fleet(server))
        return fleets[-1]

    yield build
    for fleet in fleets:
        await fleet.end()


@pytest.fixture
def fleet(api_server, build_fleet):
    """Start controllers of the test's API server, which has the mesh's namespace."""
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    return build_fleet(api_server)


def build_service(name, *ports, type_=None, namespace="shop", annotations=None, **spec):
    """Build a user's Service; a port is a number, or a number and its protocol."""
    pairs = [each if isinstance(each, tuple) else (each, "UDP" if type_ == "udp" else "TCP") for each in ports]
    given = {**({"mesh.traefik.io/traffic-type": type_} if type_ else {}), **(annotations or {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": given},
        "spec": {
            "selector": {"app": name},
            "ports": [
                {"name": f"{protocol.lower()}-{number}", "port": number, "protocol": protocol}
                for number, protocol in pairs
            ],
            **spec,
        },
    }


@pytest.fixture
def service():
    """Give what builds a user's Service."""
    return build_service


def list_shadows(server, namespace="shop"):
    """List the shadow services as they are: name of the service to its ports' targets."""
    found = {}
    for each in server.list("services", "maesh"):
        annotations = each["metadata"].get("annotations", {})
        if annotations.get("maesh.containo.us/shadow-of-namespace") == namespace:
            targets = {port["port"]: port["targetPort"] for port in each["spec"]["ports"]}
            found[annotations["maesh.containo.us/shadow-of-service"]] = targets
    return found


@pytest.fixture
def shadows(api_server):
    """Give what lists the shadow services of the test's API server."""
    return functools.partial(list_shadows, api_server)
