"""The one place where hooks are declared, in families: discovery, topology, protocol, balancing, middleware.

A hook runs once, when its process starts, and returns the objects that the process then calls directly; none is
called while a request passes. The interfaces of those objects stand here too, but for that of a middleware
(middleware.py); what they are handed is in interfaces.py. Plugins import all of it from `maesh_core.plugin`. The order
in which hooks are called is not promised, and never matters: what they return is sorted by name, and two that claim one
name stop the start.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

import msgspec
import pluggy

from maesh_core.model.configuration import Section
from maesh_core.model.events import Event
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.model.topology import BranchNode, PodNode, PortNode, ServiceNode
from maesh_core.plugin_system.interfaces import BalancedServer, Exchange, Node, Question, TopologyView, Verdict
from maesh_core.plugin_system.middleware import Middleware

PROJECT_NAME = "maesh"
HOOK_API_VERSION = 1
"""Raised by one whenever a hook or an interface below changes so that an older plugin could misbehave."""

WireSettings: TypeAlias = msgspec.Struct | Mapping[str, object]
"""What a service says to a middleware or a load balancer, as it travels from the controller's half to the proxy's."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)

# --- discovery -------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """Something that tells which objects the cluster holds."""

    name: str

    def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Tell of the objects of these kinds, forever, a batch at a time.

        For each kind a `Replaced` comes first, in one batch or several. A source that raises is started again by
        the controller after a pause; what it told stays.
        """


class DiscoverySpecs(Protocol):
    """Hooks that say what is watched, and where."""

    @hookspec
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Return kinds of objects to watch. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_sources(self) -> Sequence[Source]:
        """Return sources of events besides the core's own. Controller; once, at start; raising stops the start."""


# --- topology --------------------------------------------------------------------------------------------------------


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin found about one service.

    The topology API shows `value`, if it is not None, as `additions.NAME` of the service, where NAME is the builder's
    `name`; other parts of plugins in the controller read it as `service.additions["NAME"]`. Errors close the service.
    """

    value: object = None
    """A struct, or whatever else msgspec can turn into JSON; anything else is shown as an error text in its place."""
    branches: Mapping[tuple[int, str], tuple[BranchNode, ...]] = {}
    """By port number and protocol: traffic that goes to other services."""
    pods: tuple[PodNode, ...] = ()
    """Pods that rules name, and that need not be behind the service; the topology shows them."""
    sections: Mapping[str, Mapping[str, object]] = {}
    """What the topology shows in sections such as `trafficSplits`, by `name@namespace`."""
    objects: tuple[ObjectFindings, ...] = ()
    """The plugin's objects that concern the service, with what is wrong with each; `/api/objects` shows it on them."""
    errors: tuple[str, ...] = ()
    """Shown on the service, which is closed: clients read the first."""
    notices: tuple[str, ...] = ()
    """Shown on the service, which is served all the same."""


class TopologyBuilder(Protocol):
    """Adds to the graph what a plugin's own kinds say. No two may have one name.

    It sees the service as the core made it, unless it is a `LastTopologyBuilder`.
    """

    name: str

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Find what concerns a service; pure.

        Raising ConfigurationError closes the service and shows the text on it.
        """


class LastTopologyBuilder(TopologyBuilder, Protocol):
    """A topology builder that sees what the others added, if `is_last` is true."""

    is_last: bool


class ObjectChecker(Protocol):
    """Finds what is wrong with objects of one kind, whether or not they concern a service.

    It runs again when the object changes, when what it read changes, and when the object concerns other services.
    Several may check one kind.
    """

    @property
    def type(self) -> type[Resource]:
        """The class of the objects that it checks."""

    def check(self, view: TopologyView, resource: Any, services: Sequence[ObjectKey]) -> Findings | None:
        """Check one object; pure. `services` are those that name it in `Addition.objects`, sorted.

        Raising ConfigurationError makes the text an error of the object.
        """


class TopologySpecs(Protocol):
    """Hooks that add to the topology."""

    @hookspec
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return builders that add to each service's node. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return checkers that find objects without effect. Controller; once, at start; raising stops the start."""


# --- protocol --------------------------------------------------------------------------------------------------------


class PortRange(msgspec.Struct, frozen=True, kw_only=True):
    """The entrypoints of a traffic type: `limit` ports from `first`.

    Exclusive: each service port gets one of its own, which it keeps. Otherwise services share them: the entrypoint is
    `first` plus the port's index in the Service.
    """

    first: int
    limit: int
    is_exclusive: bool


class TrafficType(Protocol):
    """The controller's half of a protocol. `name` is the annotation's value and the configuration's section."""

    name: str
    transport: str
    """`TCP` or `UDP`: the service ports that suit; others are left out with a notice."""
    port_range: PortRange
    has_middlewares: bool
    """Whether the middleware annotations act on services of this type."""

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Turn a service into routers and services; pure. Annotations come without prefix.

        `entrypoints` pairs each suitable port with its entrypoint; `middlewares` are keys, outermost first. Raising
        ConfigurationError closes the service.
        """

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Turn a service with an error into what answers in its place; pure. May be empty."""


class Listener(Protocol):
    """An open entrypoint."""

    def close(self) -> None:
        """Stop accepting; what was accepted goes on."""


class ProtocolHandler(Protocol):
    """The proxy's half of a protocol. It may be a `CountingHandler`."""

    name: str
    transport: str
    router_type: type[Any]
    """The frozen struct of this protocol's routers; it has `entrypoint` and `middlewares`."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> Any:
        """Build a routing table; pure, but may reuse parts of the current one.

        `section` is the whole of this protocol, checked: every reference in it resolves. `middlewares` maps keys to
        compiled middlewares. `changed` names the routers and services that differ from the current table's, None for
        all. Raising refuses the whole update.
        """

    def apply_table(self, table: Any) -> None:
        """Route by this table from now on."""

    def open_listener(self, sock: socket.socket, entrypoint: int) -> Awaitable[Listener]:
        """Serve an entrypoint on a bound, listening (TCP) or bound (UDP) non-blocking socket, which it now owns."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters, at a scrape."""

    def start_draining(self) -> None:
        """Tell clients to go elsewhere, and end what is idle."""

    def is_drained(self) -> bool:
        """Whether nothing is under way any more."""

    def abort(self) -> None:
        """End everything at once."""


class CountingHandler(ProtocolHandler, Protocol):
    """A handler that says how much it has under way, for the log of a drain."""

    def count_under_way(self) -> int:
        """Count its connections or sessions; asked while it is not drained."""


class ProtocolSpecs(Protocol):
    """Hooks that give traffic types."""

    @hookspec
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Return the controller's half of protocols. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_protocol_handlers(self, node: Node) -> Sequence[ProtocolHandler]:
        """Return the proxy's half of protocols. Proxy; once, at start, in its event loop; raising stops the start."""


# --- balancing -------------------------------------------------------------------------------------------------------


class BalancerBuilder(Protocol):
    """The controller's half of a load balancer. `name` is what a service's annotation `load-balancer` says.

    HTTP services alone can have it.
    """

    name: str

    @property
    def annotations(self) -> tuple[str, ...]:
        """Further names that it claims, without prefix."""

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> WireSettings:
        """Decide the settings for one service that names this balancer; pure.

        `annotations` holds those of the service that it claims, without prefix. Return the struct that is the
        `settings_type` of the balancer's factory, or a mapping that it can be decoded from. Raising ConfigurationError
        closes the service and shows the text on it.
        """


class Chooser(Protocol):
    """Chooses among a service's servers."""

    def choose(self, exchange: Exchange, servers: Sequence[BalancedServer]) -> BalancedServer:
        """Choose one of `servers`, of which there is at least one: those that can be used and were not tried yet.

        Called for every attempt. Where it raises, or gives anything else, they come in turn.
        """


class BalancerFactory(Protocol):
    """The proxy's half of a load balancer."""

    name: str
    settings_type: type[Any]
    """What the raw settings are decoded into; what does not fit refuses the router."""

    def build_balancer(
        self, settings: Any, servers: Sequence[tuple[BalancedServer, int]], former: Chooser | None
    ) -> Chooser:
        """Build what chooses for one service, from its servers and their weights, none of which is 0.

        Called again whenever they change, with what it had built before. Where it raises, they come in turn.
        """


class BalancingSpecs(Protocol):
    """Hooks that give load balancers."""

    @hookspec
    def maesh_balancer_builders(self) -> Sequence[BalancerBuilder]:
        """Return the controller's half of load balancers. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_balancer_factories(self, node: Node) -> Sequence[BalancerFactory]:
        """Return the proxy's half of load balancers. Proxy; once, at start; raising stops the start."""


# --- middleware ------------------------------------------------------------------------------------------------------


class Stage(IntEnum):
    """The position of a middleware in the chain, outermost first; within a stage, the names of kinds decide."""

    ADMISSION = 1
    LIMIT = 2
    PROTECT = 3
    DELIVER = 4


class MiddlewareBuilder(Protocol):
    """The controller's half of a middleware: annotations to settings.

    It may be a `ClosingBuilder` and an `ExplainingBuilder`.
    """

    kind: str
    stage: Stage

    @property
    def annotations(self) -> tuple[str, ...]:
        """The names that it claims, without prefix; no two kinds may claim one."""

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> WireSettings | None:
        """Decide the settings for one service, or None when it has no such middleware; pure.

        `annotations` holds those of the service that this kind claims, without prefix. Return the struct that is the
        `settings_type` of the middleware's factory, or a mapping that it can be decoded from. Raising
        ConfigurationError closes the service and shows the text on it.
        """


class ClosingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that decides what the hosts of a closed service answer with."""

    closed_status: int
    """In place of 404."""


class ExplainingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that `maesh explain` can ask."""

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say whom the middleware would let in, and why; `settings` are what it built, as they travel."""


class MiddlewareFactory(Protocol):
    """The proxy's half of a middleware: turns settings into a `Middleware`. It may be a `CountingFactory`."""

    kind: str
    settings_type: type[Any]
    """What the raw settings are decoded into; what does not fit refuses the router."""

    def build_middleware(self, settings: Any, service: str) -> Middleware:
        """Build the middleware of one service, all of whose ports share it; called again only when its settings change.

        `service` is `namespace/name`. The label `service` of metrics is that of a port: `Exchange.service`, and of a
        connection `cut_port_key(connection.service)`.
        """


class CountingFactory(MiddlewareFactory, Protocol):
    """A middleware's factory that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters, at a scrape."""


class MiddlewareSpecs(Protocol):
    """Hooks that give middlewares."""

    @hookspec
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the controller's half of middlewares. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the proxy's half of middlewares. Proxy; once, at start; raising stops the start."""


SPEC_FAMILIES: tuple[type, ...] = (DiscoverySpecs, TopologySpecs, ProtocolSpecs, BalancingSpecs, MiddlewareSpecs)

OPTIONAL_INTERFACES: Mapping[type, tuple[type, ...]] = {
    TopologyBuilder: (LastTopologyBuilder,),
    ProtocolHandler: (CountingHandler,),
    MiddlewareBuilder: (ClosingBuilder, ExplainingBuilder),
    MiddlewareFactory: (CountingFactory,),
}
"""What objects that a hook gives may have besides; where they have it, it must be as declared."""
