"""Runs all checks once, and returns their report.

Takes settings and the installed plugins. The parts are checked in the order in which one needs the other; what depends
on a part that could not be read is skipped, with the reason. Never raises for what it finds: a mesh that is down has a
report, too.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from maesh_core.controller.api.conditions import fetch_conditions
from maesh_core.controller.api_clients.controllers import LOCAL_ENDPOINT, ApiAccess, ControllerApi, open_apis
from maesh_core.controller.cluster_check import catalogue, certificates, controllers, permissions, written
from maesh_core.controller.cluster_check import dns as cluster_dns
from maesh_core.controller.cluster_check.controllers import MeshAnswers, ask_controllers
from maesh_core.controller.cluster_check.installation import Flags, MeshPods, check_pods
from maesh_core.controller.cluster_check.kinds import check_kinds
from maesh_core.controller.cluster_check.objects import Reader
from maesh_core.controller.cluster_check.outcomes import Report, SectionBuilder, build_report
from maesh_core.controller.cluster_check.plugin_kinds import MeshKinds, choose_plugins, load_kinds
from maesh_core.controller.controller_status import find_version
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.errors import MaeshError
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.check import CheckSettings

OLDEST_KUBERNETES: Final = (1, 22)
UPDATE_S: Final = 2.0
"""Time for a proxy to apply a configuration, before it counts as behind."""
API_TIMEOUT_S: Final = 10.0
MTLS: Final = "mtls"
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})")

Pause = Callable[[float], Awaitable[None]]


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str = ""


class MeshCheck:
    """One run of all checks. Tests pass their own `pause` and `now`, which returns a Unix time."""

    def __init__(
        self,
        settings: CheckSettings,
        installed: Sequence[InstalledPlugin],
        *,
        pause: Pause = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._installed = installed
        self._pause = pause
        self._now = now
        self._sections = {name: SectionBuilder(name, checks) for name, checks in catalogue.CATALOGUE.items()}

    def __repr__(self) -> str:
        return f"<MeshCheck of {self._settings.endpoint or self._settings.namespace}>"

    async def run(self) -> Report:
        """Run the checks. Raises StartupError for settings that cannot be used."""
        settings = self._settings
        credentials = None if settings.endpoint else find_access(settings.kubeconfig, settings.master_url)
        async with AsyncExitStack() as stack:
            if credentials is None:
                await self._check_mesh(stack, settings.endpoint or LOCAL_ENDPOINT)
            else:
                client = KubernetesClient(credentials)
                stack.push_async_callback(client.close)
                await self._check_cluster(stack, Reader(client))
        return build_report([section.build() for section in self._sections.values()])

    async def _check_mesh(self, stack: AsyncExitStack, endpoint: str) -> MeshAnswers:
        """Check what controllers report: one at an endpoint, or those of the cluster without one."""
        apis, mesh = await self._ask(stack, endpoint)
        section = self._sections[catalogue.PROXIES]
        again = mesh
        if any(proxy.revision != report.revision for proxy, report in mesh.list_proxies()):
            await self._pause(UPDATE_S)
            again = await ask_controllers(apis)
        controllers.check_proxies(section, mesh, again)
        await controllers.check_refusals(section, mesh, apis)
        await self._check_conditions(mesh, apis)
        controllers.check_services(self._sections[catalogue.SERVICES], again)
        plugins = mesh.find_plugins() or ()
        if MTLS in plugins:
            certificates.check_proxies(self._sections[catalogue.CERTIFICATES], mesh, now=self._now())
        return mesh

    async def _check_conditions(self, mesh: MeshAnswers, apis: Sequence[ControllerApi]) -> None:
        """Ask one controller what plugins say about the mesh."""
        api = next((api for api, answer in zip(apis, mesh.answers, strict=True) if answer is mesh.main), None)
        if api is not None:
            conditions = await fetch_conditions(api.fetch)
            self._sections[catalogue.MESH] = controllers.build_conditions(catalogue.MESH, conditions)

    async def _ask(self, stack: AsyncExitStack, endpoint: str) -> tuple[Sequence[ControllerApi], MeshAnswers]:
        settings = self._settings
        section = self._sections[catalogue.CONTROLLERS]
        try:
            apis = await stack.enter_async_context(
                open_apis(
                    endpoint,
                    kubeconfig=settings.kubeconfig,
                    master_url=settings.master_url,
                    namespace=settings.namespace,
                    access=ApiAccess.from_settings(settings),
                    timeout_s=API_TIMEOUT_S,
                )
            )
        except MaeshError as error:
            section.fail("controllers-answer", error)
            section.skip_rest("no controller answers")
            return (), MeshAnswers()
        mesh = await ask_controllers(apis)
        controllers.check_controllers(section, mesh, version=find_version())
        return apis, mesh

    async def _check_cluster(self, stack: AsyncExitStack, reader: Reader) -> None:
        if not await self._check_api_server(reader):
            for name, section in self._sections.items():
                if name != catalogue.API_SERVER:
                    section.skip_rest("the API server does not answer")
            return
        namespace = self._settings.namespace
        pods = await check_pods(self._sections[catalogue.PODS], reader, namespace)
        flags = pods.flags
        names = choose_plugins(self._installed, flags)
        wanted = permissions.list_of_user(namespace, is_protected=MTLS in names)
        await permissions.check_own(self._sections[catalogue.RIGHTS_OF_USER], reader, wanted)
        mesh = await self._check_mesh(stack, "")
        section = self._sections[catalogue.CONTROLLERS]
        await controllers.check_lease(section, reader, namespace, mesh, self._now())
        kinds = load_kinds(self._installed, mesh.find_plugins() or names, flags)
        await self._check_objects(reader, pods, kinds, mesh)

    async def _check_api_server(self, reader: Reader) -> bool:
        section = self._sections[catalogue.API_SERVER]
        try:
            found = await reader.read("/version", _Version)
        except MaeshError as error:
            section.judge("api-reachable", [str(error)])
            section.skip_rest("the API server does not answer")
            return False
        section.succeed("api-reachable")
        match = _VERSION.match(found.git_version)
        if match is None:
            section.warn("api-version", [f"its version {found.git_version!r} is unknown"])
        else:
            is_old = (int(match[1]), int(match[2])) < OLDEST_KUBERNETES
            problems = [f"{found.git_version} is older than {'.'.join(map(str, OLDEST_KUBERNETES))}"] if is_old else []
            section.judge("api-version", problems, found=[found.git_version])
        return True

    async def _check_objects(self, reader: Reader, pods: MeshPods, kinds: MeshKinds, mesh: MeshAnswers) -> None:
        """Check what is in the API server: kinds, permissions, certificates, DNS and what the leader writes."""
        flags, namespace = pods.flags, self._settings.namespace
        served = await check_kinds(
            self._sections[catalogue.KINDS],
            reader,
            core=kinds.core,
            added=kinds.added,
            needed=kinds.needed,
            notes=kinds.problems,
        )
        servers = await cluster_dns.find_servers(reader)
        wanted = list_needed(namespace, kinds, served, servers.names, flags)
        section = self._sections[catalogue.PERMISSIONS]
        if not pods.accounts:
            section.skip_rest("the mesh has no controller")
        for account in pods.accounts[:1]:
            await permissions.check_account(section, reader, namespace=namespace, account=account, wanted=wanted)
        if MTLS in kinds.plugins:
            section = self._sections[catalogue.CERTIFICATES]
            name, now = _read_authority(flags).config_map, self._now()
            await certificates.check_authority(section, reader, namespace=namespace, config_map=name, now=now)
        section = self._sections[catalogue.WRITTEN]
        services = mesh.main.services if mesh.main else None
        shadows = await written.check_shadow_services(section, reader, namespace, services)
        await written.check_statuses(section, reader, kinds.list_written(served))
        section = self._sections[catalogue.DNS]
        domain = flags.values.get("cluster-domain") or self._settings.cluster_domain
        await cluster_dns.check_configuration(section, reader, mesh_namespace=namespace, cluster_domain=domain)
        await cluster_dns.check_answers(section, reader, servers, shadows)


def list_needed(
    namespace: str, kinds: MeshKinds, served: Mapping[str, str], names: permissions.DnsNames, flags: Flags
) -> list[permissions.Permission]:
    """List the permissions that controllers need with these kinds, DNS and flags."""
    return [
        *permissions.list_watched((*kinds.core, *kinds.added), served),
        *permissions.list_statuses([each.kind for each in kinds.list_written(served)], served),
        *permissions.list_leading(namespace),
        *permissions.list_dns(namespace, names),
        *(permissions.list_authority(namespace, _read_authority(flags)) if MTLS in kinds.plugins else ()),
    ]


def _read_authority(flags: Flags) -> permissions.Authority:
    default = permissions.Authority()
    return permissions.Authority(
        secret=flags.settings.get("mtls.ca-secret", default.secret),
        config_map=flags.settings.get("mtls.trust-config-map", default.config_map),
    )
