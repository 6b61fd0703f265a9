"""Plans how NodeLocal DNSCache forwards the mesh's zones to the cluster's DNS: changes, or warnings.

Takes an object store, returns plans. Stub domains are written if the cache reads them; otherwise a warning shows the
entry that its Corefile lacks. The Corefile itself is never changed. Whatever cannot be understood or read here is a
warning too, because it must not prevent the changes to the cluster's DNS.
"""

from collections.abc import Collection
from http import HTTPStatus

import msgspec

from maesh_core.controller.dns.detection import DNS_NAMESPACE, KUBE_DNS
from maesh_core.controller.dns.edits import naming
from maesh_core.controller.dns.node_cache import (
    CLUSTER_DNS,
    CorefilePlace,
    Forwarding,
    NodeCache,
    find_node_caches,
    read_forwarding,
)
from maesh_core.controller.dns.objects import CONFIG_MAPS, DAEMON_SETS, SERVICES, Object, ObjectStore
from maesh_core.controller.dns.plan import Change, Plan, join_plans
from maesh_core.controller.dns.stub_domains import has_stub_domains, plan_stub_domain_removal, plan_stub_domains
from maesh_core.errors import ClusterDnsError, KubernetesError
from maesh_core.model.keys import ObjectKey


class NodeCachePlanner:
    """Plans for all node caches of one cluster."""

    __slots__ = ("_cluster_domain", "_store")

    def __init__(self, store: ObjectStore, cluster_domain: str) -> None:
        self._store = store
        self._cluster_domain = cluster_domain

    def __repr__(self) -> str:
        return f"<NodeCachePlanner {self._cluster_domain}>"

    async def plan(self, mesh_address: str | None = None, *, planned: Collection[str] = ()) -> Plan:
        """Plan the changes and warnings for node caches to forward the zones.

        The zones are forwarded to the servers of the cluster's own names, or with kube-dns to `mesh_address`, the
        mesh's own CoreDNS. `planned` are ConfigMaps whose stub domains are already planned.
        """
        try:
            caches = find_node_caches(await self._store.list(DAEMON_SETS, DNS_NAMESPACE))
        except KubernetesError as error:
            return _warn_if_forbidden("it cannot be seen whether NodeLocal DNSCache runs", error)
        plans, done = [], set(planned)
        for cache in caches:
            if cache.stubs is None or cache.stubs.name not in done:
                plans.append(await self._plan_one(cache, mesh_address))
                done |= {cache.stubs.name} if cache.stubs is not None else set()
        return join_plans(plans)

    async def plan_removal(self, *, planned: Collection[str] = ()) -> Plan:
        """Plan the changes that remove the zones from stub domains, also those of caches that no longer exist."""
        names = {KUBE_DNS}
        try:
            caches = find_node_caches(await self._store.list(DAEMON_SETS, DNS_NAMESPACE))
            names |= {cache.stubs.name for cache in caches if cache.stubs is not None}
        except KubernetesError as error:
            _warn_if_forbidden("", error)
        plans = []
        for name in sorted(names - set(planned)):
            found = await self._read_if_allowed(name)
            if found is not None and has_stub_domains(found):
                plans.append(Plan(changes=tuple(plan_stub_domain_removal(found))))
        return join_plans(plans)

    async def _plan_one(self, cache: NodeCache, mesh_address: str | None) -> Plan:
        try:
            place, forwarding = await self._read_forwarding(cache)
            if not place.is_template:
                cache = msgspec.structs.replace(cache, stubs=None)
            changes, lack = await self._plan_stub_domains(cache, forwarding, mesh_address)
        except KubernetesError as error:
            return _warn_if_forbidden(f"{cache.title} cannot be looked at", error)
        except ClusterDnsError as error:
            return Plan(warnings=(f"{cache.title}: {error}",))
        if not lack or not forwarding.zones:
            return Plan(changes=tuple(changes))
        entry = forwarding.render_entry([mesh_address] if mesh_address else [])
        zones, where = ", ".join(forwarding.zones), f"ConfigMap {DNS_NAMESPACE}/{place.name}, {place.key}"
        text = f"{cache.title} {lack} and does not forward {zones} to the cluster's DNS. Add to {where}:\n{entry}"
        return Plan(warnings=(text,))

    async def _plan_stub_domains(
        self, cache: NodeCache, forwarding: Forwarding, mesh_address: str | None
    ) -> tuple[list[Change], str]:
        """Plan the changes of its stub domains, or a warning if that is not possible."""
        if cache.stubs is None:
            return [], "reads no stub domains"
        key = ObjectKey(DNS_NAMESPACE, cache.stubs.name)
        found = await self._store.read(CONFIG_MAPS, key)
        if not forwarding.zones:
            return plan_stub_domain_removal(found) if found is not None and has_stub_domains(found) else [], ""
        if found is None and not cache.stubs.is_optional:
            return [], f"lacks its ConfigMap {key.name}"
        addresses = [mesh_address] if mesh_address else await self._find_addresses(cache, forwarding)
        if not addresses:
            return [], "has no address of the cluster's DNS"
        return plan_stub_domains(found, key, addresses, zones=forwarding.zones), ""

    async def _read_forwarding(self, cache: NodeCache) -> tuple[CorefilePlace, Forwarding]:
        for place in cache.corefiles:
            config_map = await self._store.read(CONFIG_MAPS, ObjectKey(DNS_NAMESPACE, place.name))
            text = ((config_map or {}).get("data") or {}).get(place.key)
            if config_map is not None and isinstance(text, str):
                with naming(config_map, place.key):
                    return place, read_forwarding(text, self._cluster_domain)
        raise ClusterDnsError("its Corefile is in no ConfigMap that it mounts")

    async def _find_addresses(self, cache: NodeCache, forwarding: Forwarding) -> list[str]:
        """Find the servers of the cluster's own names; a template leaves them to a Service."""
        if forwarding.targets != (CLUSTER_DNS,):
            return forwarding.list_addresses()
        service = await self._store.read(SERVICES, ObjectKey(DNS_NAMESPACE, cache.upstream_service))
        address = ((service or {}).get("spec") or {}).get("clusterIP")
        return [address] if isinstance(address, str) and address not in ("", "None") else []

    async def _read_if_allowed(self, name: str) -> Object | None:
        try:
            return await self._store.read(CONFIG_MAPS, ObjectKey(DNS_NAMESPACE, name))
        except KubernetesError as error:
            _warn_if_forbidden("", error)
            return None  # a ConfigMap of somebody else


def _warn_if_forbidden(text: str, error: KubernetesError) -> Plan:
    if error.status != HTTPStatus.FORBIDDEN:
        raise error
    return Plan(warnings=(f"{text}: {error}",))
