"""The status of a mesh for `maesh status`: its controllers, its proxies, and what is wrong with services and objects.

Calls controllers' APIs through the functions that it is given, and joins the answers: each controller knows the proxies
that pull from it, and all know the same services and objects. A controller that does not answer is listed with the
reason.
"""

import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import aiohttp
import msgspec

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError, MaeshError, SettingsError, StartupError
from maesh_core.model.messages import ControllerReport, NodeReport, ObjectReport
from maesh_core.settings import StatusSettings

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches a path of one controller's API and returns the body; raises MaeshError."""
ReportT = TypeVar("ReportT")
_URL = re.compile(r"https?://[^/\s]")

LOCAL_ENDPOINT = "http://127.0.0.1:9000"
"""The default address of the controller of `maesh up`."""
TIMEOUT_S = 5.0
API_PORT = 9000
LABELS = "app=maesh,component=controller"
"""Labels of the controllers' pods, as the chart sets them."""
ENDED_PHASES = ("Succeeded", "Failed")
"""Phases of pods that were evicted, whose objects remain."""


class ControllerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One controller; `error` is the reason if it did not answer."""

    name: str
    report: ControllerReport | None = None
    error: str | None = None


class FailingService(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service with its errors."""

    namespace: str
    name: str
    errors: tuple[str, ...] = ()


class UnservedPort(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service port without a ready server, and why."""

    namespace: str
    name: str
    port: int
    reason: str


class MeshStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The status of the whole mesh. `service_count` is None if no controller answered.

    `objects` have errors or notices; services are among them.
    """

    controllers: tuple[ControllerStatus, ...]
    proxies: tuple[NodeReport, ...] = ()
    service_count: int | None = None
    failing_services: tuple[FailingService, ...] = ()
    unserved_ports: tuple[UnservedPort, ...] = ()
    objects: tuple[ObjectReport, ...] = ()


class _Port(msgspec.Struct, frozen=True):
    port: int
    unserved: str = ""


class _Service(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    errors: tuple[str, ...] = ()
    ports: tuple[_Port, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    status: _PodStatus = _PodStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod] | None = None


class _Answers(msgspec.Struct, frozen=True):
    status: ControllerStatus
    proxies: Sequence[NodeReport] = ()
    services: Sequence[_Service] | None = None
    objects: Sequence[ObjectReport] = ()


async def ask_mesh(settings: StatusSettings) -> MeshStatus:
    """Ask the given controller, otherwise all controllers of the cluster, otherwise the one on this machine.

    Raises StartupError.
    """
    if settings.endpoint:
        if not _URL.match(settings.endpoint):
            raise SettingsError(f"--endpoint: {settings.endpoint!r} is not the URL of a controller")
        return await _ask_endpoint(settings.endpoint)
    credentials = find_access(settings.kubeconfig, settings.master_url)
    if credentials is None:
        status = await _ask_endpoint(LOCAL_ENDPOINT)
        error = status.controllers[0].error
        if error is not None:
            raise StartupError(f"{error}; --endpoint names another controller, --kubeconfig a cluster")
        return status
    client = KubernetesClient(credentials)
    try:
        return await ask_controllers(await _find_controllers(client, settings.namespace))
    finally:
        await client.close()


async def _ask_endpoint(endpoint: str) -> MeshStatus:
    base = endpoint.rstrip("/").removesuffix("/api/configuration/current")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await ask_controllers([(base, partial(_fetch, session, base))])


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


async def ask_controllers(controllers: Sequence[tuple[str, Fetch]]) -> MeshStatus:
    """Ask every controller, by name. The latest report about a proxy counts; the leader reports services."""
    answers = [await _ask(name, fetch) for name, fetch in controllers]
    proxies: dict[str, NodeReport] = {}
    for answer in answers:
        for proxy in answer.proxies:
            known = proxies.get(proxy.name)
            if known is None or known.last_seen < proxy.last_seen:
                proxies[proxy.name] = proxy
    reporting = [answer for answer in answers if answer.services is not None]
    reporting.sort(key=lambda answer: not (answer.status.report and answer.status.report.leads))
    services = reporting[0].services or () if reporting else ()
    return MeshStatus(
        controllers=tuple(answer.status for answer in answers),
        proxies=tuple(proxies[name] for name in sorted(proxies)),
        service_count=len(services) if reporting else None,
        failing_services=tuple(
            FailingService(namespace=service.namespace, name=service.name, errors=service.errors)
            for service in services
            if service.errors
        ),
        unserved_ports=tuple(
            UnservedPort(namespace=service.namespace, name=service.name, port=port.port, reason=port.unserved)
            for service in services
            for port in service.ports
            if port.unserved
        ),
        objects=tuple(reporting[0].objects) if reporting else (),
    )


async def _ask(name: str, fetch: Fetch) -> _Answers:
    try:
        report = _parse(await fetch("/api/status/controller"), ControllerReport)
        proxies = _parse(await fetch("/api/status/nodes"), list[NodeReport])
        services = _parse(await fetch("/api/services"), list[_Service])
        objects = await _ask_objects(fetch)
    except MaeshError as error:
        return _Answers(ControllerStatus(name=name, error=str(error)))
    return _Answers(ControllerStatus(name=name, report=report), proxies, services, objects)


async def _ask_objects(fetch: Fetch) -> Sequence[ObjectReport]:
    """Fetch the objects with findings; a controller of an earlier version has none."""
    try:
        return _parse(await fetch("/api/objects"), list[ObjectReport])
    except MaeshError:
        return ()


def _parse(body: bytes, type_: type[ReportT]) -> ReportT:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error
