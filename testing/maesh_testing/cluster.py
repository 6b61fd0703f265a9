"""A cluster as a test sees it, over its API server's own connections: that of the tests, or a real one.

Takes a kubeconfig. Makes namespaces of its own, and deletes them at the end; touches nothing else. Everything is done
by plain requests, so that what holds for the API server of the tests can be tried on any other.
"""

import asyncio
import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.kubernetes.paths import MERGE_PATCH, build_path
from maesh_core.errors import KubernetesError

Object = dict[str, Any]
CONFLICTS = 10
LISTED_VERSIONS = {
    "endpointslices": "discovery.k8s.io/v1",
    "leases": "coordination.k8s.io/v1",
    "deployments": "apps/v1",
}
"""Of the kinds that tests write and that are not in the core group."""


class Cluster:
    """A cluster with a namespace for the mesh and one for what it carries.

    `address` is where a test's own servers can be that stand for pods: real API servers refuse loopback addresses.
    """

    def __init__(self, kubeconfig: Path, *, address: str) -> None:
        suffix = secrets.token_hex(3)
        self.kubeconfig = kubeconfig
        self.address = address
        self.mesh_namespace, self.namespace = f"mesh-{suffix}", f"app-{suffix}"
        for name in (self.mesh_namespace, self.namespace):
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def __repr__(self) -> str:
        return f"<Cluster {self.kubeconfig} {self.mesh_namespace} {self.namespace}>"

    def close(self) -> None:
        """Delete the namespaces, and with them what is in them."""
        for name in (self.namespace, self.mesh_namespace):
            self._send("DELETE", build_path("v1", "namespaces", name=name))

    def apply(self, manifests: Object | Iterable[Object]) -> None:
        """Create objects or replace existing ones; a concurrent write is overwritten."""
        for manifest in [manifests] if isinstance(manifests, dict) else manifests:
            self._apply_one(manifest)

    def find(self, plural: str, name: str, namespace: str = "") -> Object | None:
        """Return an object, or None."""
        try:
            return self._send("GET", _build_path(plural, namespace or self.namespace, name))
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    def find_shadow(self, service: str) -> Object | None:
        """Return the shadow service of a service of the tests' namespace, or None."""
        name = f"{self.mesh_namespace}-{service}-6d61657368-{self.namespace}"
        return self.find("services", name, self.mesh_namespace)

    def list(self, plural: str, namespace: str = "") -> list[Object]:
        """Return all objects of a namespace."""
        found: list[Object] = self._send("GET", _build_path(plural, namespace or self.namespace))["items"]
        return found

    def patch(self, plural: str, name: str, patch: Mapping[str, Any], namespace: str = "") -> None:
        """Merge a patch into an object."""
        self._send("PATCH", _build_path(plural, namespace or self.namespace, name), patch, content_type=MERGE_PATCH)

    def delete(self, plural: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        self._send("DELETE", _build_path(plural, namespace or self.namespace, name))

    def _apply_one(self, manifest: Object) -> None:
        plural = "endpointslices" if manifest["kind"] == "EndpointSlice" else f"{manifest['kind'].lower()}s"
        metadata = manifest["metadata"]
        namespace = "" if plural == "namespaces" else metadata.get("namespace") or self.namespace
        path = build_path(manifest["apiVersion"], plural, namespace=namespace)
        for _ in range(CONFLICTS):
            try:
                self._send("POST", path, {**manifest, "metadata": {**metadata, "namespace": namespace}})
                return
            except KubernetesError as error:
                if error.status != 409:
                    raise
            if self._replace(f"{path}/{metadata['name']}", manifest):
                return
        raise AssertionError(f"{plural} {metadata['name']} changed again and again")

    def _replace(self, path: str, manifest: Object) -> bool:
        """Put a manifest in place of what is there; False if it changed or went meanwhile."""
        try:
            current = self._send("GET", path)
            metadata = {**current["metadata"], **manifest["metadata"]}
            spec = {"spec": {**current.get("spec", {}), **manifest["spec"]}} if "spec" in manifest else {}
            self._send("PUT", path, {**current, **manifest, **spec, "metadata": metadata})
        except KubernetesError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def _send(self, method: str, path: str, body: Any = None, **options: Any) -> Object:
        async def send() -> bytes:
            credentials = find_access(str(self.kubeconfig), "")
            assert credentials is not None
            client = KubernetesClient(credentials)
            try:
                return await client.send(method, path, body, **options)
            finally:
                await client.close()

        found: Object = msgspec.json.decode(asyncio.run(send()))
        return found


def _build_path(plural: str, namespace: str, name: str = "") -> str:
    return build_path(LISTED_VERSIONS.get(plural, "v1"), plural, namespace=namespace, name=name)


def find_own_address() -> str:
    """Find an address of this machine that others may know; the loopback one where there is no other."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of TEST-NET-1 (RFC 5737); nothing is sent
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
