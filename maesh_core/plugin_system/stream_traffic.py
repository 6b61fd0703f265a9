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
from maesh_core.model.keys import build_port_key
from maesh_core.model.topology import BackendNode, PortNode, RuleTable, ServiceNode
from maesh_core.plugin_system.branches import build_answer, build_branches
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.plugin_system.rules import (
    PlannedRule,
    RulePlan,
    build_backend_service,
    build_rule_service,
    plan_rules,
)

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
            own = Service(servers=_build_servers(port), names=build_names(port), load_balancer=load_balancer)
            ruled = _RuledPort(key, port, own, plan_rules(service.key, port))
            target = ruled.build_producer() if port.rules is not None else ruled.build_own()
            consumers = {namespace: ruled.build_consumer(namespace) for namespace in sorted(port.consumers)}
            services |= ruled.services
            routers[key] = StreamRouter(
                entrypoint=entrypoint, service=target, middlewares=middlewares, consumers=consumers
            )
        return Section(routers=routers, services=services)

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Return an empty section: an entrypoint without a router is closed; a stream has no other error response."""
        del service, entrypoints, reason
        return Section()


class _RuledPort:
    """The services of a port so far: the build methods add those of a target, and return its key.

    Streams have nothing to match, so the first match of a table, or the first branch, gets all of them.
    """

    __slots__ = ("_key", "_own", "_plan", "_port", "services")

    def __init__(self, key: str, port: PortNode, own: Service, plan: RulePlan) -> None:
        self._key, self._port, self._own, self._plan = key, port, own, plan
        self.services: dict[str, Service] = {}

    def build_own(self) -> str:
        """Build the port's own service, and its branch if it has one."""
        self.services[self._key] = self._own
        targets, branched = build_branches(self._key, self._port, _build_backend)
        self.services |= branched if targets else {}
        return targets[0][1] if targets else self._key

    def build_producer(self) -> str:
        """Build the rule for all clients."""
        return self._build_rule(f"{self._key}/rule", self._port.rules, self._plan.producer)

    def build_consumer(self, namespace: str) -> str:
        """Build the rule for clients of a namespace."""
        table, planned = self._port.consumers[namespace], self._plan.consumers[namespace]
        return self._build_rule(f"{self._key}/consumer/{namespace}", table, planned)

    def _build_rule(self, key: str, table: RuleTable | None, planned: Sequence[PlannedRule] | None) -> str:
        """Build the rule that gets all streams; without one, a service that refuses them under `key`."""
        if table is None or not planned:
            self.services[key] = Service(answer=Answer(status=503, reason="no rule applies"))
            return key
        chosen = planned[table.order[0].rule if table.order else 0]
        for part in chosen.parts:
            is_own = part.key == self._key
            self.services[part.key] = self._own if is_own else build_backend_service(part.backend, _build_backend)
        self.services[chosen.key] = build_rule_service(chosen)
        return chosen.key


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
