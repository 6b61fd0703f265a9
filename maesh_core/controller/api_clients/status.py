"""The status of a mesh for `maesh status`: its controllers, its proxies, and what is wrong with services and objects.

Calls controllers' APIs through the functions that it is given, and joins the answers: each controller knows the proxies
that pull from it, and all know the same services and objects. A controller that does not answer is listed with the
reason.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from maesh_core.controller.api.conditions import fetch_conditions
from maesh_core.controller.api_clients.controllers import ApiAccess, Controllers, Fetch, open_controllers
from maesh_core.controller.api_clients.encryption_status import EncryptionStatus, ServiceMode, parse_encryption
from maesh_core.errors import MaeshError, StartupError
from maesh_core.model.messages import ControllerReport, NodeReport, ObjectReport
from maesh_core.plugin_system.conditions import MeshCondition
from maesh_core.settings import StatusSettings

ReportT = TypeVar("ReportT")


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

    `objects` have errors or notices; services are among them. `modes` has a mode for each service if the controller has
    a transport; `encryption` is then what services have sent, by path.
    """

    controllers: tuple[ControllerStatus, ...]
    proxies: tuple[NodeReport, ...] = ()
    service_count: int | None = None
    failing_services: tuple[FailingService, ...] = ()
    unserved_ports: tuple[UnservedPort, ...] = ()
    objects: tuple[ObjectReport, ...] = ()
    modes: tuple[ServiceMode, ...] | msgspec.UnsetType = msgspec.UNSET
    conditions: tuple[MeshCondition, ...] = ()
    """What plugins say about the whole mesh."""
    encryption: EncryptionStatus | msgspec.UnsetType = msgspec.UNSET


class _Port(msgspec.Struct, frozen=True):
    port: int
    unserved: str = ""


class _Service(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    errors: tuple[str, ...] = ()
    ports: tuple[_Port, ...] = ()
    encryption: str = ""


class _Answers(msgspec.Struct, frozen=True):
    status: ControllerStatus
    proxies: Sequence[NodeReport] = ()
    services: Sequence[_Service] | None = None
    objects: Sequence[ObjectReport] = ()
    fetch: Fetch | None = None


async def ask_mesh(settings: StatusSettings) -> MeshStatus:
    """Ask the given controller, otherwise all controllers of the cluster, otherwise the one on this machine.

    Raises StartupError.
    """
    async with open_controllers(
        settings.endpoint,
        kubeconfig=settings.kubeconfig,
        master_url=settings.master_url,
        namespace=settings.namespace,
        access=ApiAccess.from_settings(settings),
    ) as controllers:
        status = await ask_controllers(controllers)
    error = status.controllers[0].error
    if error is not None and not settings.endpoint and "://" in controllers[0][0]:
        raise StartupError(f"{error}; --endpoint names another controller, --kubeconfig a cluster")
    return status


async def ask_controllers(controllers: Controllers) -> MeshStatus:
    """Ask every controller, by name. The leader reports services.

    The latest report about a proxy counts, or that of the controller that answers its pulls.
    """
    answers = [await _ask(name, fetch) for name, fetch in controllers]
    proxies: dict[str, NodeReport] = {}
    for answer in answers:
        for proxy in answer.proxies:
            known = proxies.get(proxy.name)
            if known is None or (known.ready, known.last_seen) < (proxy.ready, proxy.last_seen):
                proxies[proxy.name] = proxy
    reporting = [answer for answer in answers if answer.services is not None]
    reporting.sort(key=lambda answer: not (answer.status.report and answer.status.report.leads))
    services = reporting[0].services or () if reporting else ()
    modes = tuple(
        ServiceMode(namespace=service.namespace, name=service.name, encryption=service.encryption)
        for service in services
        if service.encryption
    )
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
        modes=modes or msgspec.UNSET,
        conditions=await fetch_conditions(reporting[0].fetch) if reporting and reporting[0].fetch else (),
        encryption=await _ask_encryption(reporting[0].fetch, modes) if modes else msgspec.UNSET,
    )


async def _ask(name: str, fetch: Fetch) -> _Answers:
    try:
        report = _parse(await fetch("/api/status/controller"), ControllerReport)
        proxies = _parse(await fetch("/api/status/nodes"), list[NodeReport])
        services = _parse(await fetch("/api/services"), list[_Service])
        objects = await _ask_objects(fetch)
    except MaeshError as error:
        return _Answers(ControllerStatus(name=name, error=str(error)))
    return _Answers(ControllerStatus(name=name, report=report), proxies, services, objects, fetch)


async def _ask_encryption(fetch: Fetch | None, modes: Sequence[ServiceMode]) -> EncryptionStatus | msgspec.UnsetType:
    """Ask a controller for the traffic of all proxies; a failure is part of the result."""
    if fetch is None:
        return msgspec.UNSET
    try:
        return parse_encryption(await fetch("/api/traffic"), modes)
    except MaeshError as error:
        return EncryptionStatus(error=str(error))


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
