"""Finds the controllers of a mesh and sends requests to their APIs, for the commands that show them.

Takes the address of one controller, or what names a cluster; returns functions that fetch a path. In a cluster the
requests go through the API server, with the user's own permissions. Raises StartupError if no controller can be found.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

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

LOCAL_ENDPOINT = "http://127.0.0.1:9000"
"""The default address of the controller of `maesh up`."""
TIMEOUT_S = 5.0
API_PORT = 9000
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
    """Open the controller at `endpoint`, otherwise those of the cluster, otherwise the one on this machine.

    Raises SettingsError and StartupError.
    """
    if endpoint and not _URL.match(endpoint):
        raise SettingsError(f"--endpoint: {endpoint!r} is not the URL of a controller")
    credentials = None if endpoint else find_access(kubeconfig, master_url)
    if credentials is None:
        base = (endpoint or LOCAL_ENDPOINT).rstrip("/").removesuffix("/api/configuration/current")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            yield [(base, partial(_fetch, session, base))]
        return
    client = KubernetesClient(credentials)
    try:
        yield await _find_controllers(client, namespace)
    finally:
        await client.close()


async def _fetch(session: aiohttp.ClientSession, base: str, path: str) -> bytes:
    try:
        async with session.get(base + path) as response:
            body = await response.read()
            if response.status != 200:
                raise MaeshError(f"{path}: {response.status} {body[:200].decode(errors='replace').strip()}")
            return body
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise MaeshError(f"no controller answers at {base}: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """Describe why a request failed; if no connection could be established, in the system's words."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return str(error) or "no answer in time"


async def _find_controllers(client: KubernetesClient, namespace: str) -> list[tuple[str, Fetch]]:
    path = build_path("v1", "pods", namespace=namespace)
    try:
        body = await client.get(path, {"labelSelector": LABELS}, timeout_s=TIMEOUT_S)
        pods: Any = msgspec.json.decode(body, type=_Pods)
    except (KubernetesError, msgspec.DecodeError) as error:
        raise StartupError(f"the controllers' pods cannot be listed: {error}") from error
    names = sorted(pod.metadata.name for pod in pods.items or () if pod.status.phase not in ENDED_PHASES)
    if not names:
        raise StartupError(f"no pod in namespace {namespace} is labelled {LABELS}; --namespace names another namespace")
    return [(name, partial(_fetch_through, client, namespace, name)) for name in names]


async def _fetch_through(client: KubernetesClient, namespace: str, pod: str, path: str) -> bytes:
    """Send a request to a pod through the API server, as kubectl does, with the user's own permissions."""
    proxy = build_path("v1", "pods", namespace=namespace, name=f"{pod}:{API_PORT}", subresource="proxy")
    return await client.get(proxy.replace("%3A", ":") + path, timeout_s=TIMEOUT_S)
