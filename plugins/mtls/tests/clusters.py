"""A controller's view of the API server for tests: the cluster as plugins get it, and a controller that knows pods."""

import asyncio
import base64
import contextlib

import msgspec

from maesh_core.controller.cluster.cluster_api import PluginCluster
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.plugin import Pod
from maesh_core.settings import ControllerSettings

from .certificates import encode

NAMESPACE = "maesh"
ACCOUNT = "maesh-mesh"


@contextlib.asynccontextmanager
async def open_cluster(server, *, token=""):
    """Connect to an API server, by default as its administrator."""

    async def load():
        return Access(server=server.url, headers={"Authorization": f"Bearer {token or server.token}"})

    client = KubernetesClient(Credentials(load))
    cluster = PluginCluster(client)
    try:
        yield cluster
    finally:
        await cluster.close()
        await client.close()


class FakeController:
    """A `ControllerNode` that knows the pods that the API server has, unless `is_behind`."""

    def __init__(self, server, cluster=None, *, is_leader=True):
        self.name = "controller-1"
        self.settings = ControllerSettings()
        self.cluster = cluster
        self.is_leader = is_leader
        self.is_behind = False
        self.problems = {}
        self._server = server

    def find_pod(self, key):
        found = None if self.is_behind else self._server.find("pods", key.name, key.namespace)
        return None if found is None else msgspec.convert(found, Pod)

    def find_pods(self, address):
        raise AssertionError(address)

    def list_services(self):
        raise AssertionError

    def render_topology(self):
        raise AssertionError

    async def gather_reports(self, name, add):
        raise AssertionError(name)

    mesh_nodes: dict[str, object] = {}

    async def list_proxies(self):
        return [], True

    def list_own_proxies(self):
        return []

    def refresh_transport(self):
        pass

    def report(self, origin, problem):
        self.problems.pop(origin, None)
        if problem is not None:
            self.problems[origin] = problem


def build_node(name):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def build_proxy(node, *, name="", account=ACCOUNT, address="127.0.0.1"):
    """Build the Pod of a proxy."""
    metadata = {"name": name or f"proxy-{node}", "namespace": NAMESPACE, "labels": {"maesh.io/tunnel": "15008"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "proxy"}]},
        "status": {"podIP": address, "phase": "Running"},
    }


def apply_secret(server, signer, **files):
    """Write an authority into the Secret, as cert-manager or an administrator does; `files` are others, as text."""
    texts = {"tls.crt": encode(signer.certificate), "tls.key": encode(signer.key), **files}
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    metadata = {"name": "maesh-ca", "namespace": NAMESPACE}
    server.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


@contextlib.asynccontextmanager
async def running(*services):
    """Run services of a controller, none of which may end."""
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def wait_until(check):
    """Wait until something is so; what changes it may be another thread."""
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)
