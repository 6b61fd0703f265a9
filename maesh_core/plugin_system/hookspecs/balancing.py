"""The hooks for load balancers, and the interfaces of both halves of one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs.markers import WireSettings, hookspec
from maesh_core.plugin_system.interfaces.exchange import Exchange
from maesh_core.plugin_system.interfaces.servers import BalancedServer
from maesh_core.plugin_system.node import Node

# --- balancing -------------------------------------------------------------------------------------------------------


class BalancerBuilder(Protocol):
    """The controller's half of a load balancer. `name` is the value of the annotation `load-balancer`.

    Only HTTP services can use it.
    """

    name: str

    @property
    def annotations(self) -> tuple[str, ...]:
        """Further annotations that it claims, without prefix."""

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> WireSettings:
        """Build the settings for one service that uses this balancer; pure.

        `annotations` has the service's annotations that it claims, without prefix. Return a struct of the factory's
        `settings_type`, or a mapping that can be decoded as that type. Raising ConfigurationError closes the service
        and shows the text on it.
        """


class Chooser(Protocol):
    """Chooses a server of a service."""

    def choose(self, exchange: Exchange, servers: Sequence[BalancedServer]) -> BalancedServer:
        """Choose one of `servers`: those that are usable and were not tried yet; there is at least one.

        Called for every attempt. If it raises or returns anything else, round-robin is used.
        """


class BalancerFactory(Protocol):
    """The proxy's half of a load balancer."""

    name: str
    settings_type: type[Any]
    """The type as which settings are decoded; if decoding fails, the router is refused."""

    def build_balancer(
        self, settings: Any, servers: Sequence[tuple[BalancedServer, int]], former: Chooser | None
    ) -> Chooser:
        """Build the chooser of one service, from its servers and their weights, none of which is 0.

        Called again whenever these change; `former` is then the previous chooser. If it raises, round-robin is used.
        """


class BalancingSpecs(Protocol):
    """Hooks for load balancers."""

    @hookspec
    def maesh_balancer_builders(self) -> Sequence[BalancerBuilder]:
        """Return the controller's half of load balancers. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_balancer_factories(self, node: Node) -> Sequence[BalancerFactory]:
        """Return the proxy's half of load balancers. Proxy; once, at start; raising stops the start."""
