"""Checks the cluster's DNS: whether it is configured for the mesh's zones, and whether it really answers.

Takes a client and the shadow services; returns outcomes. The configuration is compared with what `maesh prepare` plans.
The answers come from the DNS pods themselves, asked over TCP by port-forward, because a command runs outside of the
cluster as well. They are untrusted: only addresses are read from them.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import msgspec

from maesh_core.controller.cluster_check.objects import MeshPod, Reader
from maesh_core.controller.cluster_check.outcomes import FORBIDDEN, SectionBuilder
from maesh_core.controller.cluster_check.permissions import DnsNames
from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.detection import (
    CUSTOM_MAP,
    DNS_NAMESPACE,
    find_coredns,
    find_kube_dns,
    get_name,
    list_corefile_candidates,
    list_mounted_maps,
)
from maesh_core.controller.dns.objects import DEPLOYMENTS, ObjectStore
from maesh_core.controller.dns.patching import ClusterDns
from maesh_core.controller.kubernetes.port_forward import PortForward
from maesh_core.errors import KubernetesError, MaeshError

DNS_PORT: Final = 53
QUERY_TIMEOUT_S: Final = 5.0
PODS_LIMIT: Final = 5
"""DNS pods that are asked."""
NAMES_LIMIT: Final = 3
"""Services that each DNS pod is asked for, in each zone."""


class Shadow(msgspec.Struct, frozen=True):
    """A service with the address that DNS must answer with."""

    name: str
    namespace: str
    address: str

    def build_host(self, zone: str) -> str:
        """Build the name of the service in a zone."""
        return f"{self.name}.{self.namespace}.{zone}."


class DnsServers(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's DNS: its pods, and the objects with its configuration."""

    names: DnsNames = DnsNames()
    pods: tuple[MeshPod, ...] = ()
    problem: str = ""


async def find_servers(reader: Reader) -> DnsServers:
    """Find the cluster's DNS; what cannot be found is no problem here, because the check of the plan reports it."""
    store = ObjectStore(reader.client, patience_s=0)
    try:
        deployments = await store.list(DEPLOYMENTS, DNS_NAMESPACE)
        found = find_coredns(deployments) or find_kube_dns(deployments)
        if found is None:
            return DnsServers(problem=f"namespace {DNS_NAMESPACE} has neither CoreDNS nor kube-dns")
        selector = ",".join(f"{name}={value}" for name, value in _read_selector(found).items())
        pods = await reader.list_pods(DNS_NAMESPACE, selector) if selector else ()
    except MaeshError as error:
        return DnsServers(problem=str(error))
    maps = [mounted.name for mounted in list_corefile_candidates(found)[:1]]
    maps += [mounted.name for mounted in list_mounted_maps(found) if mounted.name == CUSTOM_MAP]
    names = DnsNames(deployments=(get_name(found),), config_maps=tuple(dict.fromkeys(maps)))
    return DnsServers(names=names, pods=pods)


def _read_selector(deployment: dict[str, Any]) -> dict[str, str]:
    labels = ((deployment.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return {str(name): str(value) for name, value in labels.items()}


async def check_configuration(
    section: SectionBuilder, reader: Reader, *, mesh_namespace: str, cluster_domain: str
) -> bool:
    """Check whether `maesh prepare` would change anything; returns whether all is in place."""

    async def pause(_: float) -> None:
        pass  # an address that is not there yet is a problem now

    cluster = ClusterDns(
        reader.client, mesh_namespace=mesh_namespace, cluster_domain=cluster_domain, patience_s=0, pause=pause
    )
    try:
        plan = await cluster.plan()
    except MaeshError as error:
        section.fail("dns-configured", error)
        return False
    changes = [f"{change.title} must be changed: {change.summary}" for change in plan.changes]
    if changes:
        section.judge("dns-configured", [*changes, *plan.warnings])
    else:
        section.warn("dns-configured", plan.warnings)
    return not changes


async def check_answers(
    section: SectionBuilder, reader: Reader, servers: DnsServers, shadows: Sequence[Shadow]
) -> None:
    """Ask the DNS pods for services of the mesh."""
    pods = [pod for pod in servers.pods if pod.is_ready]
    if servers.problem or not pods:
        section.skip("dns-answers", servers.problem or "the cluster's DNS has no ready pod")
        return
    if not shadows:
        section.skip("dns-answers", "the mesh has no service to ask for")
        return
    asked = shadows[:NAMES_LIMIT]
    try:
        found = await asyncio.gather(*(_ask_pod(reader, pod, asked) for pod in pods[:PODS_LIMIT]))
    except KubernetesError as error:
        section.fail("dns-answers", error)
        return
    hosts = ", ".join(shadow.build_host(ZONES[0]).rstrip(".") for shadow in asked)
    section.judge("dns-answers", [text for texts in found for text in texts], found=[f"asked for {hosts}"])


async def _ask_pod(reader: Reader, pod: MeshPod, shadows: Sequence[Shadow]) -> list[str]:
    """Ask one pod for all names; returns problems. Raises KubernetesError if that is forbidden."""
    problems = []
    async with PortForward(reader.client, DNS_NAMESPACE, pod.name, DNS_PORT) as forward:
        for shadow in shadows:
            for zone in ZONES:
                text = await _ask(forward, shadow, zone)
                if text:
                    problems.append(f"{pod.name}: {shadow.build_host(zone).rstrip('.')}: {text}")
                if forward.failure is not None and forward.failure.status == FORBIDDEN:
                    raise forward.failure
    return problems


async def _ask(forward: PortForward, shadow: Shadow, zone: str) -> str:
    """Ask for the address of a service; returns what is wrong with the answer."""
    kind = dns.rdatatype.AAAA if ":" in shadow.address else dns.rdatatype.A
    query = dns.message.make_query(shadow.build_host(zone), kind)
    try:
        answer = await dns.asyncquery.tcp(query, "127.0.0.1", port=forward.port, timeout=QUERY_TIMEOUT_S)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        reason = str(forward.failure or error) or type(error).__name__
        return f"no answer: {' '.join(reason.split())}"
    addresses = sorted(item.address for group in answer.answer if group.rdtype == kind for item in group)
    if shadow.address in addresses:
        return ""
    if addresses:
        return f"the answer is {', '.join(addresses)}, but the shadow service has {shadow.address}"
    code = answer.rcode()
    return f"the answer is {dns.rcode.to_text(code)}" if code else "the answer has no address"
