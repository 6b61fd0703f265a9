"""The controller's half of HTTP: it builds a router and a service for each port of a service.

Services share entrypoints: that of a port is the first one plus the port's index, and the Host distinguishes the
services. Takes a ServiceNode, returns a Section. The caller provides the middlewares in their order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.configuration.annotation_values import (
    KEEP_HOST,
    NAME_HOST,
    choose_scheme,
    parse_egress_forwarded,
    parse_egress_host,
)
from maesh_core.controller.configuration.plugin_settings import render_settings
from maesh_core.controller.configuration.rules import build_rules
from maesh_core.model.addresses import bracket_address
from maesh_core.model.annotations import SCHEME, parse_load_balancer, parse_server_name, select_annotations
from maesh_core.model.configuration import (
    LEAST_REQUEST,
    ROUND_ROBIN,
    HttpBranch,
    HttpRouter,
    NamedServer,
    Section,
    Server,
    Service,
)
from maesh_core.model.hosts import ZONES, build_tls_name
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.schemes import ENCRYPTED_SCHEMES, SCHEME_BY_APP_PROTOCOL
from maesh_core.model.topology import BackendNode, PortNode, ServiceNode
from maesh_core.plugin_system.branches import build_answer, build_branches
from maesh_core.plugin_system.hookspecs import BalancerBuilder
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.rules import has_rules

LOAD_BALANCERS = (ROUND_ROBIN, LEAST_REQUEST)
"""The core's own load balancers; plugins add others."""


class HttpTrafficType:
    """Traffic type `http`."""

    __slots__ = ("_balancers", "is_own_default", "own_range", "port_range")

    name = "http"
    transport = "TCP"
    has_middlewares = True

    def __init__(
        self,
        port_range: PortRange,
        balancers: Mapping[str, BalancerBuilder] | None = None,
        *,
        own_range: PortRange | None = None,
        is_own_default: bool = False,
    ) -> None:
        """Use `own_range` for ports that want an entrypoint of their own, which is all of them if `is_own_default`."""
        self.port_range = port_range
        self.own_range = own_range
        self.is_own_default = is_own_default
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
        """Route the service's hosts to its servers; a headless service has none of its own addresses among them."""
        load_balancer = parse_load_balancer(annotations, (*LOAD_BALANCERS, *sorted(self._balancers)))
        balancer_settings = self._build_balancer_settings(load_balancer, annotations, service)
        hosts = build_hosts(service)
        routers: dict[str, HttpRouter] = {}
        services: dict[str, Service] = {}
        for port, entrypoint in entrypoints:
            key = build_port_key(service.key, port.number)
            routers[key] = HttpRouter(entrypoint=entrypoint, hosts=hosts, service=key, middlewares=middlewares)
            scheme = choose_scheme(annotations, port)
            own = Service(
                servers=_build_servers(port, scheme, service.key, annotations),
                names=_build_names(port, annotations),
                scheme=scheme,
                load_balancer=load_balancer,
                load_balancer_settings=balancer_settings,
            )
            if not has_rules(port):
                services[key] = own
            if port.branches and port.rules is None:
                routers[key], branched = _add_branches(key, port, routers[key])
                services |= branched
            if has_rules(port) or port.side_backends:
                routers[key], ruled = build_rules(
                    service.key, port, routers[key], own=own, build_backend=_build_backend
                )
                services |= ruled
        return Section(routers=routers, services=services)

    def _build_balancer_settings(
        self, name: str, annotations: Mapping[str, str], service: ServiceNode
    ) -> Mapping[str, Any]:
        """Let the balancer's plugin build its settings; the core's own balancers have none."""
        builder = self._balancers.get(name)
        if builder is None:
            return {}
        claimed = {each: annotations[each] for each in builder.annotations if each in annotations}
        return render_settings(builder.build_settings(claimed, service), f"load balancer {name}")

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Keep the hosts, which answer 404 with the reason."""
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
    """Build the service of a backend, which uses the backend's own annotations and port, and round-robin."""
    if backend.port is None:
        return Service(answer=build_answer(backend))
    annotations, app_protocol = select_annotations(backend.annotations, backend.port), backend.port.app_protocol
    scheme = choose_scheme(annotations, backend.port)
    if backend.protocol and SCHEME not in annotations and app_protocol not in SCHEME_BY_APP_PROTOCOL:
        scheme = backend.protocol
    return Service(
        servers=_build_servers(backend.port, scheme, backend.service, annotations),
        names=_build_names(backend.port, annotations),
        scheme=scheme,
    )


def _build_servers(
    port: PortNode, scheme: str, service: ObjectKey, annotations: Mapping[str, str]
) -> tuple[Server, ...]:
    tls_name = (parse_server_name(annotations) or build_tls_name(service)) if scheme in ENCRYPTED_SCHEMES else ""
    return tuple(
        Server(address=server.address, port=server.port, tls_name=tls_name, node=server.node)
        for server in port.servers
        if not server.is_name
    )


def _build_names(port: PortNode, annotations: Mapping[str, str]) -> tuple[NamedServer, ...]:
    """List the servers with a DNS name. They get fields that identify the client only if an annotation says so."""
    named = [server for server in port.servers if server.is_name]
    if not named:
        return ()
    host = parse_egress_host(annotations)
    hides_client = not parse_egress_forwarded(annotations)
    return tuple(
        NamedServer(
            name=server.address,
            port=server.port,
            host={NAME_HOST: server.address, KEEP_HOST: ""}.get(host, host),
            hides_client=hides_client,
            tls_name=parse_server_name(annotations),
        )
        for server in named
    )


def build_hosts(service: ServiceNode) -> tuple[str, ...]:
    """List the hosts of a service, in lower case and without port.

    They are the name in both zones, then the cluster addresses and those of the shadow service; an IPv6 address is in
    brackets (RFC 9110 section 7.2) and in its canonical form (RFC 5952).
    """
    name = f"{service.key.name}.{service.key.namespace}".lower()
    addresses = (*service.cluster_ips, *service.shadow_ips)
    return (*(f"{name}.{zone}" for zone in ZONES), *map(bracket_address, addresses))
