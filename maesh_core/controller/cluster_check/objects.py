"""Reads objects of the API server with the fields that checks need.

Takes a client; returns decoded structs, or raises KubernetesError. What the API server sends is untrusted: an object of
another shape raises KubernetesError, too.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError

TIMEOUT_S: Final = 10.0
NOT_FOUND: Final = 404

FoundT = TypeVar("FoundT")


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata of an object."""

    name: str = ""
    namespace: str = ""
    generation: int = 0
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    deletion_timestamp: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Why a container does not run."""

    reason: str = ""
    message: str = ""


class ContainerState(msgspec.Struct, frozen=True):
    """The state of a container, as far as it is a problem."""

    waiting: Waiting | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the kubelet reports of a container."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState | None = None


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """A condition of an object."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The status of a pod."""

    phase: str = ""
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class Container(msgspec.Struct, frozen=True):
    """A container of a pod."""

    name: str = ""
    image: str = ""
    args: tuple[str, ...] | None = None


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The specification of a pod."""

    containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""


class MeshPod(msgspec.Struct, frozen=True):
    """A pod of the mesh: of a controller, a proxy or the cluster's DNS."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def is_ready(self) -> bool:
        """Whether it is ready."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions or ())

    @property
    def image(self) -> str:
        """The image of its first container."""
        return self.spec.containers[0].image if self.spec.containers else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of its first container."""
        return (self.spec.containers[0].args or ()) if self.spec.containers else ()

    def describe_problem(self) -> str:
        """Say why it is not ready."""
        for status in self.status.container_statuses or ():
            if status.state is not None and status.state.waiting is not None:
                waiting = status.state.waiting
                return f"{waiting.reason}{f': {waiting.message}' if waiting.message else ''}"
        for condition in self.status.conditions or ():
            if condition.status != "True" and condition.message:
                return condition.message
        return f"its phase is {self.status.phase or 'unknown'}"


class PodList(msgspec.Struct, frozen=True):
    """A list of pods."""

    items: tuple[MeshPod, ...] | None = None


class Reader:
    """Reads objects of one cluster."""

    __slots__ = ("client",)

    def __init__(self, client: KubernetesClient) -> None:
        self.client = client

    def __repr__(self) -> str:
        return f"<Reader {self.client!r}>"

    async def read(self, path: str, type_: type[FoundT], query: Mapping[str, str] | None = None) -> FoundT:
        """Read a path. Raises KubernetesError."""
        return parse(path, await self.client.get(path, query, timeout_s=TIMEOUT_S), type_)

    async def find(self, path: str, type_: type[FoundT]) -> FoundT | None:
        """Read an object; None if it does not exist. Raises KubernetesError."""
        try:
            return await self.read(path, type_)
        except KubernetesError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def create(self, path: str, body: Mapping[str, Any], type_: type[FoundT]) -> FoundT:
        """Send an object that the API server answers without storing it, such as a review. Raises KubernetesError."""
        return parse(path, await self.client.send("POST", path, body, timeout_s=TIMEOUT_S), type_)

    async def list_pods(self, namespace: str, selector: str) -> tuple[MeshPod, ...]:
        """List pods that have not ended, by name. Raises KubernetesError."""
        path = build_path("v1", "pods", namespace=namespace)
        found = await self.read(path, PodList, {"labelSelector": selector})
        pods = [pod for pod in found.items or () if pod.status.phase not in ("Succeeded", "Failed")]
        return tuple(sorted(pods, key=lambda pod: pod.name))


def parse(path: str, body: bytes, type_: type[FoundT]) -> FoundT:
    """Decode what the API server sent. Raises KubernetesError."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KubernetesError(f"{path}: the API server's answer is malformed: {error}") from error
