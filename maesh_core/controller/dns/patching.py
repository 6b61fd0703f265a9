"""Plans and applies the changes that configure the cluster's DNS for the mesh's zones, and those that restore it.

Takes a client and the mesh's names; computes plans and applies them. Planning only reads; anything that cannot be
understood raises ClusterDnsError before a write. Must not know settings or commands.
"""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from maesh_core.controller.dns import edits
from maesh_core.controller.dns.coredns import Place, build_blocks, plan_block_removal, plan_blocks
from maesh_core.controller.dns.corefile import ZONES, BlockBuilder, ExactRules
from maesh_core.controller.dns.detection import (
    CUSTOM_MAP,
    DEFAULT_FOLDER,
    DNS_NAMESPACE,
    KUBE_DNS,
    NO_UPSTREAM_VERSION,
    OLDEST_VERSION,
    MountedMap,
    find_container,
    find_coredns,
    find_corefile_key,
    find_flag,
    find_image,
    find_kube_dns,
    get_name,
    list_corefile_candidates,
    list_mounted_maps,
    read_version,
)
from maesh_core.controller.dns.node_cache_patching import NodeCachePlanner
from maesh_core.controller.dns.objects import CONFIG_MAPS, DEPLOYMENTS, PATIENCE_S, SERVICES, Object, ObjectStore, Pause
from maesh_core.controller.dns.plan import Change, Plan, build_change, join_plans
from maesh_core.controller.dns.stub_domains import plan_stub_domain_removal, plan_stub_domains
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.errors import ClusterDnsError, KubernetesError
from maesh_core.model.keys import ObjectKey

MESH_DNS = "coredns"
"""Service, Deployment and ConfigMap of the mesh's own CoreDNS, which it needs with kube-dns (Maesh's chart)."""
SHADOW_SELECTOR = "app=maesh,type=shadow"
ADDRESS_TRIES = 12
ADDRESS_PAUSE_S = 10.0
"""How long to wait for the address of the mesh's own CoreDNS, as in Maesh 1.3."""


class ClusterDns:
    """The DNS of one cluster, configured for one mesh. The caller closes the client.

    `plan` and `apply` can be repeated: if everything is in place, nothing is written. After `apply`, or with an empty
    plan, the rules are in the ConfigMap; CoreDNS needs a minute or two to load them.
    """

    __slots__ = ("_cluster_domain", "_mesh_namespace", "_node_caches", "_now", "_pause", "_store")

    def __init__(
        self,
        client: KubernetesClient,
        *,
        mesh_namespace: str,
        cluster_domain: str = "cluster.local",
        patience_s: float = PATIENCE_S,
        pause: Pause = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = ObjectStore(client, patience_s=patience_s, pause=pause, clock=clock)
        self._mesh_namespace = mesh_namespace
        self._cluster_domain = cluster_domain.strip(".").lower()
        self._node_caches = NodeCachePlanner(self._store, self._cluster_domain)
        self._pause = pause
        self._now = now

    def __repr__(self) -> str:
        return f"<ClusterDns {self._mesh_namespace}.svc.{self._cluster_domain}>"

    async def is_prepared(self) -> bool:
        """Whether the cluster's DNS was prepared for a mesh, and not cleaned up since.

        An annotation of its Deployment says so, or an existing block, if the Deployment was replaced, as by an upgrade
        with kubeadm.
        """
        deployments = await self._store.list(DEPLOYMENTS, DNS_NAMESPACE)
        coredns = find_coredns(deployments)
        found = coredns or find_kube_dns(deployments)
        if found is None or edits.has_restart(found):
            return found is not None
        return coredns is not None and await self._has_own_block(coredns)

    async def plan(self, exact: ExactRules | None = None) -> Plan:
        """Plan the changes that serve the zones, with these exact rules; None keeps the existing ones.

        With kube-dns it waits up to two minutes until the mesh's own CoreDNS has an address. Raises ClusterDnsError for
        what it does not understand, KubernetesError for what it cannot read.
        """
        deployments = await self._store.list(DEPLOYMENTS, DNS_NAMESPACE)
        coredns = find_coredns(deployments)
        if coredns is not None:
            return join_plans([await self._plan_coredns(coredns, exact), await self._node_caches.plan()])
        old = find_kube_dns(deployments)
        if old is None:
            raise ClusterDnsError(f"namespace {DNS_NAMESPACE} has neither CoreDNS nor kube-dns")
        own = await self._store.read(DEPLOYMENTS, ObjectKey(self._mesh_namespace, MESH_DNS))
        if own is None:
            raise ClusterDnsError(
                f"beside kube-dns the mesh needs a CoreDNS of its own, and there is no Deployment "
                f"{self._mesh_namespace}/{MESH_DNS}; the chart's kubedns=true brings one"
            )
        plan = await self._plan_coredns(own, exact)
        address = await self._wait_for_address()
        key, stubs = await self._plan_stub_domains(old, address)
        caches = await self._node_caches.plan(address, planned=[key.name])
        return join_plans([plan, Plan(changes=tuple(stubs)), caches])

    async def plan_removal(self) -> Plan:
        """Plan the changes that remove everything of the mesh: blocks, stub domains, shadow services.

        Raises ClusterDnsError for what it does not understand, KubernetesError for what it cannot read.
        """
        deployments = await self._store.list(DEPLOYMENTS, DNS_NAMESPACE)
        coredns, old = find_coredns(deployments), find_kube_dns(deployments)
        plans = [await self._plan_coredns_removal(coredns)] if coredns is not None else []
        planned = []
        if old is not None:
            key, changes = await self._plan_stub_domain_removal(old)
            planned.append(key.name)
            plans.append(Plan(changes=tuple(changes)))
            own = await self._store.read(DEPLOYMENTS, ObjectKey(self._mesh_namespace, MESH_DNS))
            if own is not None:
                plans.append(await self._plan_coredns_removal(own))
        if not plans:
            text = f"namespace {DNS_NAMESPACE} has neither CoreDNS nor kube-dns: there is no DNS to restore"
            plans.append(Plan(warnings=(text,)))
        plans.append(await self._node_caches.plan_removal(planned=planned))
        shadows = await self._store.list(SERVICES, self._mesh_namespace, selector=SHADOW_SELECTOR)
        deletions = [change for shadow in shadows for change in build_change(SERVICES, shadow, _delete, "deleted")]
        return join_plans([*plans, Plan(changes=tuple(deletions))])

    async def apply(self, plan: Plan, *, report: Callable[[str], None] = lambda _: None) -> bool:
        """Apply a plan, to the current object after a conflict; return whether anything was written.

        `report` is called with a line for each change. Raises ClusterDnsError and KubernetesError; earlier changes
        remain, and a new plan has the others.
        """
        has_written = False
        for change in plan.changes:
            if await self._store.write(change.resource, change.key, before=change.before, edit=change.edit):
                has_written = True
                report(f"{change.title}: {change.summary}")
        return has_written

    async def _plan_coredns(self, deployment: Object, exact: ExactRules | None) -> Plan:
        version = read_version(find_image(deployment) or "")
        if version is not None and version < OLDEST_VERSION:
            raise ClusterDnsError(f"CoreDNS {version[0]}.{version[1]} is too old: the mesh needs 1.3 or newer")
        builder = BlockBuilder(
            mesh_namespace=self._mesh_namespace,
            cluster_domain=self._cluster_domain,
            has_upstream=version is not None and version < NO_UPSTREAM_VERSION,
        )
        place = await self._find_place(deployment)
        if place is None:
            raise ClusterDnsError(f"{_name(deployment)} mounts no ConfigMap that has a Corefile")
        existing, port = place.read_exact_rules(), place.find_port()
        changes = plan_blocks(place, build_blocks(builder, existing if exact is None else exact, port))
        # The mesh's block enables CoreDNS's `reload`, so no restart is needed for exact rules alone.
        is_restarting = bool(plan_blocks(place, build_blocks(builder, existing, port)))
        digest = edits.hash_texts(build_blocks(builder, {}, port))
        warnings = () if version is not None else (_describe_unknown_version(deployment),)
        return Plan(changes=(*changes, *_plan_restart(deployment, digest, is_forced=is_restarting)), warnings=warnings)

    async def _plan_coredns_removal(self, deployment: Object) -> Plan:
        place = await self._find_place(deployment)
        if place is None:
            return Plan(warnings=(f"{_name(deployment)} mounts no ConfigMap that has a Corefile: none is restored",))
        changes = plan_block_removal(place)
        return Plan(changes=(*changes, *self._plan_restored_pods(deployment, is_changed=bool(changes))))

    def _plan_restored_pods(self, deployment: Object, *, is_changed: bool) -> list[Change]:
        now = self._now().isoformat(timespec="seconds") if is_changed else None
        return build_change(DEPLOYMENTS, deployment, partial(_restore_pods, restarted_at=now), "restarted")

    async def _find_place(self, deployment: Object) -> Place | None:
        """Find what a CoreDNS reads; None if it mounts no Corefile."""
        namespace = _get_namespace(deployment)
        custom: Object | None = None
        folders: list[str] = []
        for mounted in list_mounted_maps(deployment):
            if mounted.name == CUSTOM_MAP:
                folders += mounted.folders if not mounted.keys else ()  # if keys are named, other keys are not files
                custom = custom or await self._store.read(CONFIG_MAPS, ObjectKey(namespace, CUSTOM_MAP))
        path = find_flag(find_container(deployment) or {}, "conf")
        for mounted in list_corefile_candidates(deployment):
            config_map = await self._store.read(CONFIG_MAPS, ObjectKey(namespace, mounted.name))
            key = find_corefile_key(mounted, (config_map or {}).get("data") or {})
            if config_map is not None and key is not None:
                folder = os.path.dirname(path) or next(iter(mounted.folders), DEFAULT_FOLDER)
                return Place(config_map, key, custom, folder=folder, custom_folders=tuple(folders))
        return None

    async def _has_own_block(self, deployment: Object) -> bool:
        try:
            place = await self._find_place(deployment)
            return place is not None and place.has_own_block()
        except ClusterDnsError:
            return False  # it need not be understood
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                return False  # a ConfigMap of somebody else
            raise

    async def _plan_stub_domains(self, deployment: Object, address: str) -> tuple[ObjectKey, list[Change]]:
        mounted, found = await self._read_kube_dns_map(deployment)
        key = ObjectKey(DNS_NAMESPACE, mounted.name)
        if found is None and not mounted.is_optional:
            raise ClusterDnsError(f"there is no ConfigMap {key.namespace}/{key.name}, which kube-dns needs")
        changes = plan_stub_domains(found, key, [address])
        digest = edits.hash_texts(dict.fromkeys(ZONES, address))
        return key, [*changes, *_plan_restart(deployment, digest, is_forced=bool(changes))]

    async def _plan_stub_domain_removal(self, deployment: Object) -> tuple[ObjectKey, list[Change]]:
        mounted, found = await self._read_kube_dns_map(deployment)
        changes = [] if found is None else plan_stub_domain_removal(found)
        pods = self._plan_restored_pods(deployment, is_changed=bool(changes))
        return ObjectKey(DNS_NAMESPACE, mounted.name), [*changes, *pods]

    async def _read_kube_dns_map(self, deployment: Object) -> tuple[MountedMap, Object | None]:
        mounted = list_mounted_maps(deployment)
        chosen = next((each for each in mounted if each.name == KUBE_DNS), mounted[0] if mounted else None)
        if chosen is None:
            raise ClusterDnsError(f"Deployment {DNS_NAMESPACE}/{KUBE_DNS} mounts no ConfigMap")
        return chosen, await self._store.read(CONFIG_MAPS, ObjectKey(DNS_NAMESPACE, chosen.name))

    async def _wait_for_address(self) -> str:
        key = ObjectKey(self._mesh_namespace, MESH_DNS)
        for tries in range(ADDRESS_TRIES):
            if tries:
                await self._pause(ADDRESS_PAUSE_S)
            service = await self._store.read(SERVICES, key)
            address = ((service or {}).get("spec") or {}).get("clusterIP")
            if isinstance(address, str) and address not in ("", "None"):
                return address
        waited_s = ADDRESS_PAUSE_S * (ADDRESS_TRIES - 1)
        raise ClusterDnsError(f"Service {key.namespace}/{key.name} has no address after {waited_s:g} s")


def _plan_restart(deployment: Object, digest: str, *, is_forced: bool) -> list[Change]:
    value = edits.choose_restart(deployment, digest, is_forced=is_forced)
    return build_change(DEPLOYMENTS, deployment, partial(_restart, value=value), "restarted")


def _restart(deployment: Object | None, *, value: str) -> Object | None:
    return None if deployment is None else edits.set_restart(deployment, value)


def _restore_pods(deployment: Object | None, *, restarted_at: str | None) -> Object | None:
    return None if deployment is None else edits.drop_restart(deployment, restarted_at=restarted_at)


def _delete(_: Object | None) -> None:
    return None


def _get_namespace(deployment: Object) -> str:
    return str(deployment["metadata"].get("namespace") or DNS_NAMESPACE)


def _name(deployment: Object) -> str:
    return f"Deployment {_get_namespace(deployment)}/{get_name(deployment)}"


def _describe_unknown_version(deployment: Object) -> str:
    image = find_image(deployment)
    reason = f"its image is {image}" if image else "it has no image"
    return f"{_name(deployment)} does not say which version of CoreDNS it is ({reason}): 1.7 or newer is assumed"
