"""The controller's half of a protocol that gives each service port an entrypoint of its own: TCP, UDP and their like.

Takes a ServiceNode, gives a Section of StreamRouters. Which entrypoint a port has comes from the caller, who keeps the
port table.
"""

from collections.abc import Mapping, Sequence

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_load_balancer
from maesh_core.model.configuration import LEAST_CONNECTIONS, ROUND_ROBIN, Section, Server, Service, StreamRouter
from maesh_core.model.keys import build_port_key
from maesh_core.model.topology import BackendNode, PortNode, ServiceNode
from maesh_core.plugin_system.branches import build_branches
from maesh_core.plugin_system.hookspecs import PortRange

LOAD_BALANCERS = (ROUND_ROBIN, LEAST_CONNECTIONS)


class StreamTrafficType:
    """Implements `hookspecs.TrafficType`; a subclass says its `name` and its `transport`."""

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

        A headless service is refused: its clients choose a pod by the address that DNS gave, which what comes to an
        entrypoint does not carry.
        """
        load_balancer = parse_load_balancer(annotations, LOAD_BALANCERS)
        if service.is_headless:
            raise ConfigurationError(f"a headless service cannot be carried as {self.name}: its clients name no pod")
        routers: dict[str, StreamRouter] = {}
        services: dict[str, Service] = {}
        for port, entrypoint in entrypoints:
            key = build_port_key(service.key, port.number)
            routers[key] = StreamRouter(entrypoint=entrypoint, service=key, middlewares=middlewares)
            servers = tuple(Server(address=server.address, port=server.port) for server in port.servers)
            services[key] = Service(servers=servers, load_balancer=load_balancer)
            targets, branched = build_branches(key, port, _build_backend)
            if targets:  # a stream has nothing that a branch could match, so the first one has it all
                services |= branched
                routers[key] = StreamRouter(entrypoint=entrypoint, service=targets[0][1], middlewares=middlewares)
        return Section(routers=routers, services=services)

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Leave nothing: an entrypoint without a router is closed, and that is all that a stream can say."""
        del service, entrypoints, reason
        return Section()


def _build_backend(backend: BackendNode) -> Service:
    return Service(servers=tuple(Server(address=each.address, port=each.port) for each in backend.port.servers))
