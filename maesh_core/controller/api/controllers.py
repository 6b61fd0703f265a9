"""Finds the controllers of a mesh and sends requests to their APIs, for the commands that show them.

Takes the address of one controller, or what names a cluster; returns functions that fetch a path, or objects that can
also follow a stream. In a cluster the requests go through the API server, with the user's own permissions. Raises
StartupError if no controller can be found.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import msgspec

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError, MaeshError, SettingsError, StartupError

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches a path of one controller's API and returns the body; raises MaeshError."""
Controllers = Sequence[tuple[str, Fetch]]
"""Controllers by name, or by address."""


class ControllerApi(Protocol):
    """The API of one controller."""

    name: str
    """Its pod, or its address."""

    async def fetch(self, path: str) -> bytes:
        """Fetch a path and return the body; raises MaeshError."""

    def follow(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> AsyncIterator[list[bytes]]:
        """Yield the lines of a stream in batches, the first one empty; ends with the stream. Raises MaeshError."""


LOCAL_ENDPOINT = "http://127.0.0.1:9000"
"""The default address of the controller of `maesh up`."""
TIMEOUT_S = 5.0
API_PORT = 9000
LINE_LIMIT_BYTES = 64 * 1024
LABELS = "app=maesh,component=controller"
"""Labels of the controllers' pods, as the chart sets them."""
ENDED_PHASES = ("Succeeded", "Failed")
"""Phases of pods that were evicted, whose objects remain."""

_URL = re.compile(r"https?://[^/\s]")


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    status: _PodStatus = _PodStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] | None = None


@asynccontextmanager
async def open_controllers(
    endpoint: str, *, kubeconfig: str, master_url: str, namespace: str
) -> AsyncIterator[Controllers]:
    """Open the controllers as `open_apis` does, with the function that fetches a path of each."""
    async with open_apis(endpoint, kubeconfig=kubeconfig, master_url=master_url, namespace=namespace) as apis:
        yield [(api.name, api.fetch) for api in apis]


@asynccontextmanager
async def open_apis(
    endpoint: str, *, kubeconfig: str, master_url: str, namespace: str
) -> AsyncIterator[Sequence[ControllerApi]]:
    """Open the controller at `endpoint`, otherwise those of the cluster, otherwise the one on this machine.

    Raises SettingsError and StartupError.
    """
    if endpoint and not _URL.match(endpoint):
        raise SettingsError(f"--endpoint: {endpoint!r} is not the URL of a controller")
    credentials = None if endpoint else find_access(kubeconfig, master_url)
    if credentials is None:
        base = (endpoint or LOCAL_ENDPOINT).rstrip("/").removesuffix("/api/configuration/current")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            yield [_DirectApi(session, base)]
        return
    client = KubernetesClient(credentials)
    try:
        yield [_ProxiedApi(client, namespace, name) for name in await _find_controllers(client, namespace)]
    finally:
        await client.close()


class _DirectApi:
    """The API at an address."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.name = base
        self._session = session

    async def fetch(self, path: str) -> bytes:
        try:
            async with self._session.get(self.name + path) as response:
                return await self._read(response, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise MaeshError(f"no controller answers at {self.name}: {_describe(error)}") from error

    async def follow(
        self, path: str, query: Mapping[str, str], *, silence_limit_s: float
    ) -> AsyncIterator[list[bytes]]:
        timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_S, sock_read=silence_limit_s)
        has_answered = False
        try:
            async with self._session.get(self.name + path, params=query, timeout=timeout) as response:
                if response.status != 200:
                    await self._read(response, path)
                has_answered = True
                yield []
                rest = b""
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    if len(rest) > LINE_LIMIT_BYTES:
                        raise MaeshError(f"{path}: a line of over {LINE_LIMIT_BYTES} bytes")
                    yield lines
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = "lost the controller at" if has_answered else "no controller answers at"
            raise MaeshError(f"{text} {self.name}: {_describe(error)}") from error

    async def _read(self, response: aiohttp.ClientResponse, path: str) -> bytes:
        body = await response.read()
        if response.status != 200:
            raise MaeshError(f"{path}: {response.status} {body[:200].decode(errors='replace').strip()}")
        return body


class _ProxiedApi:
    """The API of a pod, through the API server, as kubectl does, with the user's own permissions."""

    def __init__(self, client: KubernetesClient, namespace: str, pod: str) -> None:
        self.name = pod
        self._client = client
        path = build_path("v1", "pods", namespace=namespace, name=f"{pod}:{API_PORT}", subresource="proxy")
        self._base = path.replace("%3A", ":")

    async def fetch(self, path: str) -> bytes:
        return await self._client.get(self._base + path, timeout_s=TIMEOUT_S)

    def follow(self, path: str, query: Mapping[str, str], *, silence_limit_s: float) -> AsyncIterator[list[bytes]]:
        return self._client.watch_lines(self._base + path, query, silence_limit_s=silence_limit_s)


def _describe(error: Exception) -> str:
    """Describe why a request failed; if no connection could be established, in the system's words."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or "no answer in time"


async def _find_controllers(client: KubernetesClient, namespace: str) -> list[str]:
    path = build_path("v1", "pods", namespace=namespace)
    try:
        body = await client.get(path, {"labelSelector": LABELS}, timeout_s=TIMEOUT_S)
        pods: Any = msgspec.json.decode(body, type=_Pods)
    except (KubernetesError, msgspec.DecodeError) as error:
        raise StartupError(f"the controllers' pods cannot be listed: {error}") from error
    names = sorted(pod.metadata.name for pod in pods.items or () if pod.status.phase not in ENDED_PHASES)
    if not names:
        raise StartupError(f"no pod in namespace {namespace} is labelled {LABELS}; --namespace names another namespace")
    return names
