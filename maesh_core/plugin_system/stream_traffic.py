"""The controller's half of protocols in which each service port has an entrypoint of its own, such as TCP and UDP.

Takes a ServiceNode and the entrypoints of its ports, which the caller has from the port table; returns a Section of
StreamRouters.
"""

from collections.abc import Mapping, Sequence

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_load_balancer
from maesh_core.model.configuration import (
    LEAST_CONNECTIONS,
    ROUND_ROBIN,
    Answer,
    NamedServer,
    Section,
    Server,
    Service,
    StreamRouter,
)
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.topology import BackendNode, PortNode, ServiceNode
from maesh_core.plugin_system.branches import build_answer, build_branches
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.rules import build_backend_service, build_rule_service, plan_rules

LOAD_BALANCERS = (ROUND_ROBIN, LEAST_CONNECTIONS)


class StreamTrafficType:
    """Implements `TrafficType`; a subclass sets `name` and `transport`."""

    name: str
    transport: str
    has_middlewares = False

    def __init__(self, port_range: PortRange) -> None:
        self.port_range = port_range

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.port_range.limit} entrypoints from {self.port_range.first}>"

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Route each entrypoint to its port's servers.

        A headless service is refused: its clients choose a pod by the address that DNS returned, and this address is
        not visible at an entrypoint.
        """
        load_balancer = parse_load_balancer(annotations, LOAD_BALANCERS)
        if service.is_headless:
            raise ConfigurationError(f"a headless service cannot be carried as {self.name}: its clients name no pod")
        routers: dict[str, StreamRouter] = {}
        services: dict[str, Service] = {}
        for port, entrypoint in entrypoints:
            key = build_port_key(service.key, port.number)
            routers[key] = StreamRouter(entrypoint=entrypoint, service=key, middlewares=middlewares)
            own = Service(servers=_build_servers(port), names=build_names(port), load_balancer=load_balancer)
            if port.rules is not None:
                target, ruled = _build_rules(service.key, port, own)
                services |= ruled
                routers[key] = StreamRouter(entrypoint=entrypoint, service=target, middlewares=middlewares)
                continue
            services[key] = own
            targets, branched = build_branches(key, port, _build_backend)
            if targets:  # streams have nothing to match, so the first branch gets all of them
                services |= branched
                routers[key] = StreamRouter(entrypoint=entrypoint, service=targets[0][1], middlewares=middlewares)
        return Section(routers=routers, services=services)

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Return an empty section: an entrypoint without a router is closed; a stream has no other error response."""
        del service, entrypoints, reason
        return Section()


def _build_rules(service: ObjectKey, port: PortNode, own: Service) -> tuple[str, dict[str, Service]]:
    """Build the services of the rule that gets all streams, which have nothing to match; without one, an answer."""
    plan = plan_rules(service, port)
    rules = plan.producer or ()
    if not rules or port.rules is None:
        key = f"{build_port_key(service, port.number)}/rule"
        return key, {key: Service(answer=Answer(status=503, reason="no rule applies"))}
    chosen = rules[port.rules.order[0].rule if port.rules.order else 0]
    own_key = build_port_key(service, port.number)
    services = {
        part.key: own if part.key == own_key else build_backend_service(part.backend, _build_backend)
        for part in chosen.parts
    }
    return chosen.key, {**services, chosen.key: build_rule_service(chosen)}


def _build_backend(backend: BackendNode) -> Service:
    if backend.port is None:
        return Service(answer=build_answer(backend))
    return Service(servers=_build_servers(backend.port), names=build_names(backend.port))


def _build_servers(port: PortNode) -> tuple[Server, ...]:
    return tuple(
        Server(address=each.address, port=each.port, node=each.node) for each in port.servers if not each.is_name
    )


def build_names(port: PortNode) -> tuple[NamedServer, ...]:
    """List the servers of a port that are known by name."""
    return tuple(NamedServer(name=each.address, port=each.port) for each in port.servers if each.is_name)
