"""The controller's half of protocols in which each service port has an entrypoint of its own, such as TCP and UDP.

Takes a ServiceNode and the entrypoints of its ports, which the caller has from the port table; returns a Section of
StreamRouters.
"""

from collections.abc import Callable, Mapping, Sequence

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import (
    parse_load_balancer,
    parse_server_name,
    parse_stream_scheme,
    select_annotations,
)
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
from maesh_core.model.hosts import build_tls_name
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.schemes import TLS
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
    """Implements `TrafficType`; a subclass sets `name`, `transport`, and `schemes` if it has any."""

    name: str
    transport: str
    has_middlewares = False
    schemes: tuple[str, ...] = ()
    """The values of the annotation `scheme` that the protocol has, the default first."""

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
            own = self._build_service(port, service.key, annotations, load_balancer=load_balancer)
            ruled = _RuledPort(key, port, own, plan_rules(service.key, port), self._build_backend)
            target = ruled.build_producer() if port.rules is not None else ruled.build_own()
            consumers = {namespace: ruled.build_consumer(namespace) for namespace in sorted(port.consumers)}
            services |= ruled.services
            routers[key] = StreamRouter(
                entrypoint=entrypoint, service=target, middlewares=middlewares, consumers=consumers
            )
        return Section(routers=routers, services=services)

    def _build_service(
        self, port: PortNode, key: ObjectKey, annotations: Mapping[str, str], *, load_balancer: str = ROUND_ROBIN
    ) -> Service:
        """Build the service of a port of a Service, whose annotations say whether its servers get TLS."""
        scheme = parse_stream_scheme(annotations, self.schemes)
        server_name = parse_server_name(annotations) if scheme == TLS else ""
        tls_name = (server_name or build_tls_name(key)) if scheme == TLS else ""
        servers = tuple(
            Server(address=each.address, port=each.port, node=each.node, tls_name=tls_name)
            for each in port.servers
            if not each.is_name
        )
        names = build_names(port, tls_name=server_name)
        return Service(servers=servers, names=names, scheme=scheme, load_balancer=load_balancer)

    def _build_backend(self, backend: BackendNode) -> Service:
        """Build the service of a backend, which uses the backend's own annotations."""
        if backend.port is None:
            return Service(answer=build_answer(backend))
        annotations = select_annotations(backend.annotations, backend.port)
        return self._build_service(backend.port, backend.service, annotations)

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

    __slots__ = ("_build_backend", "_key", "_own", "_plan", "_port", "services")

    def __init__(
        self,
        key: str,
        port: PortNode,
        own: Service,
        plan: RulePlan,
        build_backend: Callable[[BackendNode], Service],
    ) -> None:
        self._key, self._port, self._own, self._plan = key, port, own, plan
        self._build_backend = build_backend
        self.services: dict[str, Service] = {}

    def build_own(self) -> str:
        """Build the port's own service, and its branch if it has one."""
        self.services[self._key] = self._own
        targets, branched = build_branches(self._key, self._port, self._build_backend)
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
            self.services[part.key] = self._own if is_own else build_backend_service(part.backend, self._build_backend)
        self.services[chosen.key] = build_rule_service(chosen)
        return chosen.key


def build_names(port: PortNode, *, tls_name: str = "") -> tuple[NamedServer, ...]:
    """List the servers of a port that are known by name."""
    return tuple(
        NamedServer(name=each.address, port=each.port, tls_name=tls_name) for each in port.servers if each.is_name
    )
