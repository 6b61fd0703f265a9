"""The controller's half: a service in, what proxies must do for it out."""

from collections.abc import Mapping, Sequence

from maesh_blank import BlankSettings
from maesh_core.plugin import (
    PortNode,
    PortRange,
    Section,
    Server,
    Service,
    ServiceNode,
    StreamRouter,
    TrafficType,
    build_port_key,
    hookimpl,
)


class BlankTrafficType:
    """What a service with `traffic-type: blank` has."""

    name = "blank"
    transport = "TCP"
    has_middlewares = False

    def __init__(self, settings: BlankSettings) -> None:
        self.port_range = PortRange(first=settings.first_port, limit=settings.limit, is_exclusive=True)

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Lead each entrypoint to its port's servers. Raise ConfigurationError to close the service and say why."""
        routers, services = {}, {}
        for port, entrypoint in entrypoints:
            key = build_port_key(service.key, port.number)
            routers[key] = StreamRouter(entrypoint=entrypoint, service=key)
            services[key] = Service(servers=tuple(Server(address=one.address, port=one.port) for one in port.servers))
        return Section(routers=routers, services=services)

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Leave nothing: an entrypoint that no router has is closed."""
        return Section()


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Give the traffic types of this plugin."""
        return [BlankTrafficType(self._settings)]
