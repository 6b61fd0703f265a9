"""The controller's half of HTTP: a service becomes a router and a service for each of its ports.

Services share entrypoints, the one of a port being the first plus the port's index; the Host tells them apart. Takes
a ServiceNode, gives a Section. Middlewares and their order come from the caller.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.configuration.annotations import check_carried, parse_scheme
from maesh_core.controller.configuration.plugin_settings import check_sendable
from maesh_core.model.annotations import parse_annotations, parse_load_balancer
from maesh_core.model.configuration import LEAST_REQUEST, ROUND_ROBIN, HttpBranch, HttpRouter, Section, Server, Service
from maesh_core.model.keys import build_port_key
from maesh_core.model.topology import BackendNode, PortNode, ServiceNode
from maesh_core.plugin_system.branches import build_branches
from maesh_core.plugin_system.hookspecs import BalancerBuilder, PortRange

ZONES = ("maesh", "traefik.mesh")
LOAD_BALANCERS = (ROUND_ROBIN, LEAST_REQUEST)
"""The core's own; plugins give others."""


class HttpTrafficType:
    """Traffic type `http`."""

    __slots__ = ("_balancers", "port_range")

    name = "http"
    transport = "TCP"
    has_middlewares = True

    def __init__(self, port_range: PortRange, balancers: Mapping[str, BalancerBuilder] | None = None) -> None:
        self.port_range = port_range
        self._balancers = balancers or {}

    def __repr__(self) -> str:
        return f"<HttpTrafficType {self.port_range.limit} entrypoints from {self.port_range.first}>"

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Route the service's hosts to its servers; a headless service has no cluster address among them."""
        scheme = parse_scheme(annotations)
        check_carried(scheme)
        load_balancer = parse_load_balancer(annotations, (*LOAD_BALANCERS, *sorted(self._balancers)))
        balancer_settings = self._build_balancer_settings(load_balancer, annotations, service)
        hosts = build_hosts(service)
        tls_name = build_tls_name(service) if scheme == "https" else ""
        routers: dict[str, HttpRouter] = {}
        services: dict[str, Service] = {}
        for port, entrypoint in entrypoints:
            key = build_port_key(service.key, port.number)
            routers[key] = HttpRouter(entrypoint=entrypoint, hosts=hosts, service=key, middlewares=middlewares)
            servers = tuple(
                Server(address=server.address, port=server.port, tls_name=tls_name) for server in port.servers
            )
            services[key] = Service(
                servers=servers,
                scheme=scheme,
                load_balancer=load_balancer,
                load_balancer_settings=balancer_settings,
            )
            if port.branches:
                routers[key], branched = _add_branches(key, port, routers[key])
                services |= branched
        return Section(routers=routers, services=services)

    def _build_balancer_settings(
        self, name: str, annotations: Mapping[str, str], service: ServiceNode
    ) -> Mapping[str, Any]:
        """Ask the plugin that gives a balancer; the core's own have no settings."""
        builder = self._balancers.get(name)
        if builder is None:
            return {}
        claimed = {each: annotations[each] for each in builder.annotations if each in annotations}
        settings = builder.build_settings(claimed, service)
        check_sendable(settings, f"load balancer {name}")
        return settings

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Keep the hosts, so that they answer 404 with the reason."""
        hosts = build_hosts(service)
        routers = {
            build_port_key(service.key, port.number): HttpRouter(entrypoint=entrypoint, hosts=hosts, reason=reason)
            for port, entrypoint in entrypoints
        }
        return Section(routers=routers)


def _add_branches(key: str, port: PortNode, router: HttpRouter) -> tuple[HttpRouter, dict[str, Service]]:
    targets, services = build_branches(key, port, _build_backend)
    branches = tuple(HttpBranch(service=target, matches=branch.matches) for branch, target in targets)
    return msgspec.structs.replace(router, branches=branches), services


def _build_backend(backend: BackendNode) -> Service:
    """Build what stands for a backend; it is spoken to as its own annotations say, by turns."""
    scheme = parse_scheme(parse_annotations(backend.annotations))
    check_carried(scheme)
    tls_name = f"{backend.service.name}.{backend.service.namespace}.svc".lower() if scheme == "https" else ""
    servers = tuple(
        Server(address=server.address, port=server.port, tls_name=tls_name) for server in backend.port.servers
    )
    return Service(servers=servers, scheme=scheme)


def build_hosts(service: ServiceNode) -> tuple[str, ...]:
    """Name the hosts that mean a service, in lower case, as a Host header has them without its port.

    The name in both zones, then the cluster addresses; an IPv6 address stands in brackets (RFC 9110, section 7.2) and
    in its canonical spelling (RFC 5952).
    """
    name = f"{service.key.name}.{service.key.namespace}".lower()
    addresses = (f"[{address}]" if ":" in address else address for address in service.cluster_ips)
    return (*(f"{name}.{zone}" for zone in ZONES), *addresses)


def build_tls_name(service: ServiceNode) -> str:
    """Name a service as its pods' certificates do: pods change their addresses, and the zones above mean the mesh.

    The cluster's domain is left out: certificates made for a service commonly have the name without it, too.
    """
    return f"{service.key.name}.{service.key.namespace}.svc".lower()
