"""Asks the controllers of a mesh, and checks what they report of themselves and of the proxies.

Takes the APIs of controllers; returns their answers, and outcomes. A controller that does not answer is an answer, too.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from maesh_core.controller.api_clients.controllers import ControllerApi
from maesh_core.controller.cluster.leader_election import API_VERSION, LEASE_NAME, LEASE_S
from maesh_core.controller.cluster_check.objects import Reader
from maesh_core.controller.cluster_check.outcomes import Check, SectionBuilder
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import MaeshError
from maesh_core.model.messages import ControllerReport, NodeReport, ObjectReport
from maesh_core.plugin_system.conditions import MeshCondition

LATE_LEASE_S: Final = 3 * LEASE_S
"""Age of a Lease from which the leader is lost. More than its duration: the clocks of machines may differ."""
ASKED_PROXIES_LIMIT: Final = 50
"""Proxies that are asked which parts of their configuration they refuse."""


class ServicePort(msgspec.Struct, frozen=True):
    """A port of a service, with the reason if no server is ready."""

    port: int
    unserved: str = ""


class MeshService(msgspec.Struct, frozen=True, rename="camel"):
    """A service of the mesh."""

    namespace: str
    name: str
    errors: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()


class _Refused(msgspec.Struct, frozen=True):
    router: str = ""
    reason: str = ""


class _NodeStatus(msgspec.Struct, frozen=True):
    refused: tuple[_Refused, ...] = ()


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    renew_time: str | None = None


class _Lease(msgspec.Struct, frozen=True):
    spec: _LeaseSpec = _LeaseSpec()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one controller reports; `error` is the reason if it does not answer."""

    name: str
    error: str = ""
    report: ControllerReport | None = None
    proxies: tuple[NodeReport, ...] = ()
    services: tuple[MeshService, ...] = ()
    objects: tuple[ObjectReport, ...] = ()


class MeshAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What all controllers report."""

    answers: tuple[Answer, ...] = ()

    @property
    def reports(self) -> list[ControllerReport]:
        """The reports of controllers that answered."""
        return [each.report for each in self.answers if each.report is not None]

    @property
    def main(self) -> Answer | None:
        """The answer that counts for services and objects: that of the leader, or of any other."""
        found = [each for each in self.answers if each.report is not None]
        found.sort(key=lambda each: not (each.report and each.report.ready and each.report.leads))
        return found[0] if found else None

    def list_proxies(self) -> list[tuple[NodeReport, ControllerReport]]:
        """List each proxy by the latest report about it, with the controller that it pulls from."""
        latest: dict[str, tuple[NodeReport, ControllerReport]] = {}
        for answer in self.answers:
            for proxy in answer.proxies if answer.report else ():
                known = latest.get(proxy.name)
                if known is None or (known[0].ready, known[0].last_seen) < (proxy.ready, proxy.last_seen):
                    assert answer.report is not None  # noqa: S101 - for the type checker
                    latest[proxy.name] = (proxy, answer.report)
        return [latest[name] for name in sorted(latest)]

    def find_plugins(self) -> tuple[str, ...] | None:
        """Find the plugins of the mesh; None if no controller reports them: controllers of earlier versions do not."""
        return next((report.plugins for report in self.reports if report.plugins), None)


async def ask_controllers(apis: Sequence[ControllerApi]) -> MeshAnswers:
    """Ask all controllers at once."""
    return MeshAnswers(answers=tuple(await asyncio.gather(*(_ask(api) for api in apis))))


async def _ask(api: ControllerApi) -> Answer:
    try:
        return Answer(
            name=api.name,
            report=await _fetch(api, "/api/status/controller", ControllerReport),
            proxies=await _fetch(api, "/api/status/nodes", tuple[NodeReport, ...]),
            services=await _fetch(api, "/api/services", tuple[MeshService, ...]),
            objects=await _fetch(api, "/api/objects", tuple[ObjectReport, ...]),
        )
    except MaeshError as error:
        return Answer(name=api.name, error=str(error))


async def _fetch(api: ControllerApi, path: str, type_: Any) -> Any:
    try:
        return msgspec.json.decode(await api.fetch(path), type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MaeshError(f"what answered is no controller: {error}") from error


def check_controllers(section: SectionBuilder, mesh: MeshAnswers, *, version: str) -> None:
    """Check what the controllers report of themselves; `version` is that of this command."""
    lost = [f"{each.name}: {each.error}" for each in mesh.answers if each.report is None]
    section.judge("controllers-answer", lost, found=[each.name for each in mesh.answers])
    reports = mesh.reports
    if not reports:
        section.skip_rest("no controller answers")
        return
    section.judge("controllers-ready", [f"{each.name} is not ready" for each in reports if not each.ready])
    leaders = [each.name for each in reports if each.leads]
    if len(leaders) == 1:
        section.succeed("one-leader", leaders[0])
    elif leaders:
        section.judge("one-leader", [f"several controllers lead: {', '.join(leaders)}"])
    else:
        section.judge("one-leader", ["no controller that answers leads"])
    section.judge(
        "controllers-read-everything",
        [f"{each.name}: {origin}: {text}" for each in reports for origin, text in each.problems.items()],
    )
    versions = sorted({each.version or "an earlier version" for each in reports} | {version})
    section.warn(
        "same-versions",
        [*(f"{each.name}: {each.version or 'an earlier version'}" for each in reports), f"this command: {version}"]
        if len(versions) > 1
        else [],
        found=versions,
    )
    plugins = {each.plugins for each in reports}
    section.judge(
        "same-plugins",
        [f"{each.name}: {', '.join(each.plugins) or 'none'}" for each in reports] if len(plugins) > 1 else [],
        found=[", ".join(sorted(reports[0].plugins))] if reports[0].plugins else [],
    )


async def check_lease(section: SectionBuilder, reader: Reader, namespace: str, mesh: MeshAnswers, now: float) -> None:
    """Check whether the leader renews its Lease; `now` is a Unix time."""
    path = build_path(API_VERSION, "leases", namespace=namespace, name=LEASE_NAME)
    try:
        lease = await reader.find(path, _Lease)
    except MaeshError as error:
        section.fail("lease-renewed", error)
        return
    if lease is None or not lease.spec.holder_identity:
        section.judge("lease-renewed", ["there is no Lease with a holder"])
        return
    holder, problems = lease.spec.holder_identity, []
    age_s = _find_age(lease.spec.renew_time, now)
    if age_s is None:
        problems.append(f"{holder} holds it, but it has no time of renewal")
    elif age_s > LATE_LEASE_S:
        problems.append(f"{holder} holds it, but has not renewed it for {age_s:.0f} s")
    if mesh.reports and holder not in {each.name for each in mesh.reports} | {each.name for each in mesh.answers}:
        problems.append(f"{holder} holds it, which is no controller that was asked")
    section.judge("lease-renewed", problems, found=[holder])


def _find_age(text: str | None, now: float) -> float | None:
    try:
        return now - datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


def check_proxies(section: SectionBuilder, mesh: MeshAnswers, again: MeshAnswers) -> None:
    """Check what the controllers report of proxies; `again` is a later answer, because a proxy may just update."""
    if not mesh.reports:
        section.skip_rest("no controller answers")
        return
    found = mesh.list_proxies()
    count = len(found)
    is_known = section.judge(
        "proxies-known",
        [] if found else ["no proxy has pulled within the last hour"],
        found=[f"{count} {'proxy' if count == 1 else 'proxies'}"],
    )
    if not is_known:
        section.skip_rest("there is no proxy")
        return
    late = []
    for proxy, _ in found:
        if proxy.refused:
            late.append(f"{proxy.name} ({proxy.ip}): the controllers refuse its pulls")
        elif not proxy.ready:
            late.append(f"{proxy.name} ({proxy.ip}) was last seen at {proxy.last_seen}")
    section.judge("proxies-ready", late)
    behind = _list_behind(mesh)
    still = _list_behind(again)
    section.judge("proxies-current", [still[name] for name in behind if name in still])


def _list_behind(mesh: MeshAnswers) -> Mapping[str, str]:
    return {
        proxy.name: f"{proxy.name} has {proxy.revision or 'no revision'}, {report.name} has {report.revision}"
        for proxy, report in mesh.list_proxies()
        if proxy.ready and report.ready and proxy.revision != report.revision
    }


async def check_refusals(section: SectionBuilder, mesh: MeshAnswers, apis: Sequence[ControllerApi]) -> None:
    """Ask the proxies, through their controllers, which parts of the configuration they refuse."""
    by_name = {answer.report.name: api for answer, api in zip(mesh.answers, apis, strict=True) if answer.report}
    asked = [(proxy, by_name[report.name]) for proxy, report in mesh.list_proxies() if proxy.is_active]
    if not asked:
        return
    found = await asyncio.gather(*(_ask_refusals(proxy, api) for proxy, api in asked[:ASKED_PROXIES_LIMIT]))
    problems = [text for texts, _ in found for text in texts]
    lost = [text for _, text in found if text]
    if problems or not lost:
        section.judge("proxies-accept", [*problems, *lost])
    else:
        section.warn("proxies-accept", lost)


async def _ask_refusals(proxy: NodeReport, api: ControllerApi) -> tuple[list[str], str]:
    """Return what a proxy refuses, and why it could not be asked."""
    try:
        status: _NodeStatus = await _fetch(api, f"/api/status/node/{quote(proxy.name, safe='')}/status", _NodeStatus)
    except MaeshError as error:
        return [], f"{proxy.name} could not be asked: {error}"
    return [f"{proxy.name} refuses {each.router}: {each.reason}" for each in status.refused], ""


def build_conditions(name: str, conditions: Sequence[MeshCondition]) -> SectionBuilder:
    """Build the section of what plugins say about the mesh. A problem is a warning."""
    joined: dict[str, list[MeshCondition]] = {}
    for each in conditions:
        joined.setdefault(each.id, []).append(each)
    section = SectionBuilder(name, [Check(id_, found[0].title, found[0].hint) for id_, found in joined.items()])
    for id_, found in joined.items():
        problems = [text for each in found for text in each.problems]
        section.warn(id_, problems, found=[text for each in found for text in each.found])
    return section


def check_services(section: SectionBuilder, mesh: MeshAnswers) -> None:
    """Check what the controllers report of services and other objects."""
    main = mesh.main
    if main is None:
        section.skip_rest("no controller answers")
        return
    count = len(main.services)
    failing = [f"{each.name}.{each.namespace}: {text}" for each in main.services for text in each.errors]
    section.judge("services-without-errors", failing, found=[f"{count} service{'' if count == 1 else 's'}"])
    section.warn(
        "services-served",
        [
            f"{each.name}.{each.namespace}: port {port.port} has no ready server: {port.unserved}"
            for each in main.services
            for port in each.ports
            if port.unserved
        ],
    )
    known = {text for each in main.services for text in each.errors}
    section.judge(
        "objects-without-errors",
        [
            f"{f'{each.kind} {each.namespace}/{each.name}' if each.name else each.origin}: {text}"
            for each in main.objects
            for text in each.errors
            if text not in known
        ],
    )
