"""The one place where hooks are declared, in families: discovery, topology, protocol and others.

A hook runs once, when its process starts, and returns objects that the process then calls directly; no hook is called
while a request is processed. The interfaces of these objects are declared here, except for those of a middleware
(middleware.py) and of a page (pages.py); the interfaces of their arguments are in interfaces.py. Plugins import all of
them from `maesh_core.plugin`. The order in which hooks are called is not promised and does not matter: their results
are sorted by name, and the start fails if two results claim the same name.
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
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.interfaces import BalancedServer, Exchange, Node, Question, TopologyView, Verdict
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.pages import ApiPage

PROJECT_NAME = "maesh"
HOOK_API_VERSION = 1
"""Increased by one whenever a hook or an interface below changes so that an older plugin could misbehave."""

WireSettings: TypeAlias = msgspec.Struct | Mapping[str, object]
"""A service's settings of a middleware or a load balancer, as the controller's half sends them to the proxy's half."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)

# --- discovery -------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """A source of events that says which objects exist."""

    name: str

    def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Yield batches of events about the objects of these kinds, without end.

        For each kind, the first event is a `Replaced`; these may be in one batch or in several. If a source raises,
        the controller starts it again after a pause, and keeps the objects that it has reported.
        """


class DiscoverySpecs(Protocol):
    """Hooks that declare what is watched, and where."""

    @hookspec
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Return kinds of objects to watch. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_sources(self) -> Sequence[Source]:
        """Return sources of events besides the core's own. Controller; once, at start; raising stops the start."""


# --- topology --------------------------------------------------------------------------------------------------------


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a topology builder for one service.

    The topology API shows `value`, if it is not None, as `additions.NAME` of the service, where NAME is the builder's
    `name`; other parts of plugins in the controller read it as `service.additions["NAME"]`. Errors close the service.
    """

    value: object = None
    """A struct, or another value that msgspec can encode as JSON; for any other value, an error is shown instead."""
    branches: Mapping[tuple[int, str], tuple[BranchNode, ...]] = {}
    """Traffic that goes to other services, by port number and protocol."""
    pods: tuple[PodNode, ...] = ()
    """Pods that rules refer to; they need not be behind the service. The topology shows them."""
    sections: Mapping[str, Mapping[str, object]] = {}
    """Entries of the topology's sections, such as `trafficSplits`, by `name@namespace`."""
    objects: tuple[ObjectFindings, ...] = ()
    """The plugin's objects that concern the service, with their errors and notices, which `/api/objects` shows."""
    errors: tuple[str, ...] = ()
    """Shown on the service, which is closed; clients get the first error as the reason."""
    notices: tuple[str, ...] = ()
    """Shown on the service, which is served nevertheless."""


class TopologyBuilder(Protocol):
    """Adds to the graph what a plugin reads from its own kinds. Its name must be unique.

    It receives the service as the core built it, unless it is a `LastTopologyBuilder`.
    """

    name: str

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Build what concerns a service, or return None; pure.

        Raising ConfigurationError closes the service and shows the text on it.
        """


class LastTopologyBuilder(TopologyBuilder, Protocol):
    """A topology builder that runs after the others if `is_last` is true, and receives what they added."""

    is_last: bool


class ObjectChecker(Protocol):
    """Finds what is wrong with objects of one kind, whether or not they concern a service.

    It runs again when the object changes, when something that it read changes, and when the object concerns other
    services. Several checkers may check the same kind.
    """

    @property
    def type(self) -> type[Resource]:
        """The class of the objects that it checks."""

    def check(self, view: TopologyView, resource: Any, services: Sequence[ObjectKey]) -> Findings | None:
        """Check one object; pure. `services` are those whose `Addition.objects` contain it, sorted.

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


# --- pages -----------------------------------------------------------------------------------------------------------


class PageSpecs(Protocol):
    """Hooks that add to the controller's API."""

    @hookspec
    def maesh_api_pages(self) -> Sequence[ApiPage]:
        """Return pages of the controller's API. Controller; once, at start; raising stops the start."""


# --- protocol --------------------------------------------------------------------------------------------------------


class PortRange(msgspec.Struct, frozen=True, kw_only=True):
    """The entrypoints of a traffic type: `limit` ports from `first`.

    If it is exclusive, each service port gets an entrypoint of its own and keeps it. Otherwise services share the
    entrypoints: that of a port is `first` plus the port's index in the Service.
    """

    first: int
    limit: int
    is_exclusive: bool


class TrafficType(Protocol):
    """The controller's half of a protocol. `name` is the value of the annotation and the name of the section."""

    name: str
    transport: str
    """`TCP` or `UDP`: the protocol of suitable service ports; other ports are left out, with a notice."""
    port_range: PortRange
    has_middlewares: bool
    """Whether the annotations of middlewares have an effect on services of this type."""

    def build_section(
        self,
        service: ServiceNode,
        annotations: Mapping[str, str],
        *,
        entrypoints: Sequence[tuple[PortNode, int]],
        middlewares: tuple[str, ...],
    ) -> Section:
        """Build the routers and services of a service; pure. Annotations have no prefix.

        `entrypoints` pairs each suitable port with its entrypoint; `middlewares` are keys, outermost first. Raising
        ConfigurationError closes the service.
        """

    def build_closed_section(
        self, service: ServiceNode, *, entrypoints: Sequence[tuple[PortNode, int]], reason: str
    ) -> Section:
        """Build what responds in place of a service with an error; pure. The section may be empty."""


class Listener(Protocol):
    """An open entrypoint."""

    def close(self) -> None:
        """Stop accepting; accepted connections and sessions continue."""


class ProtocolHandler(Protocol):
    """The proxy's half of a protocol. It may be a `CountingHandler`."""

    name: str
    transport: str
    router_type: type[Any]
    """The frozen struct of this protocol's routers, with fields `entrypoint` and `middlewares`."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> Any:
        """Build a routing table; pure, but may reuse parts of the current one.

        `section` is the complete section of this protocol; every reference in it is checked. `middlewares` maps keys
        to compiled middlewares. `changed` has the keys of routers and services that differ from the current table; None
        means all. Raising refuses the whole update.
        """

    def apply_table(self, table: Any) -> None:
        """Use this table from now on."""

    def open_listener(self, sock: socket.socket, entrypoint: int) -> Awaitable[Listener]:
        """Serve an entrypoint on a non-blocking socket, bound and for TCP listening. The handler owns the socket."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""

    def start_draining(self) -> None:
        """Make clients reconnect elsewhere where the protocol allows it, and end idle connections and sessions."""

    def is_drained(self) -> bool:
        """Whether all connections, sessions and exchanges have ended."""

    def abort(self) -> None:
        """End all connections, sessions and exchanges immediately."""


class CountingHandler(ProtocolHandler, Protocol):
    """A handler that counts its open connections or sessions, for the log of a drain."""

    def count_under_way(self) -> int:
        """Count the open connections or sessions; called until the handler is drained."""


class ProtocolSpecs(Protocol):
    """Hooks for traffic types."""

    @hookspec
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Return the controller's half of protocols. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_protocol_handlers(self, node: Node) -> Sequence[ProtocolHandler]:
        """Return the proxy's half of protocols. Proxy; once, at start, in its event loop; raising stops the start."""


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


# --- middleware ------------------------------------------------------------------------------------------------------


class Stage(IntEnum):
    """The position of a middleware in the chain, outermost first; within a stage, kinds are sorted by name.

    `OBSERVE` is outside of the chain: nothing is called for requests, and routes work in proxies without the plugin.
    The settings reach the plugin's `ConfiguredObserver`, for services of every traffic type.
    """

    TRACE = 0
    """For middlewares that follow what all others do, and refuse nothing."""
    ADMISSION = 1
    LIMIT = 2
    PROTECT = 3
    DELIVER = 4
    OBSERVE = 5


class MiddlewareBuilder(Protocol):
    """The controller's half of a middleware: converts annotations to settings.

    It may be a `ClosingBuilder` and an `ExplainingBuilder`.
    """

    kind: str
    stage: Stage

    @property
    def annotations(self) -> tuple[str, ...]:
        """The annotations that it claims, without prefix; two kinds cannot claim the same one."""

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> WireSettings | None:
        """Build the settings for one service, or return None if it has no such middleware; pure.

        `annotations` has the service's annotations that this kind claims, without prefix. Return a struct of the
        factory's `settings_type`, or a mapping that can be decoded as that type. Raising ConfigurationError closes the
        service and shows the text on it.
        """


class ClosingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that sets the status of responses for closed services."""

    closed_status: int
    """The status of such responses, instead of 404."""


class ExplainingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that `maesh explain` can call."""

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Return whether the middleware would admit a client, and why; `settings` are those it built, as sent."""


class MiddlewareFactory(Protocol):
    """The proxy's half of a middleware: builds a `Middleware` from settings. It may be a `CountingFactory`."""

    kind: str
    settings_type: type[Any]
    """The type as which settings are decoded; if decoding fails, the router is refused."""

    def build_middleware(self, settings: Any, service: str) -> Middleware:
        """Build the middleware of one service, shared by all its ports; called again only if its settings change.

        `service` is `namespace/name`. In contrast, the label `service` of metrics is the key of a service port: for a
        request `Exchange.service`, for a connection `cut_port_key(connection.service)`.
        """


class CountingFactory(MiddlewareFactory, Protocol):
    """A middleware's factory that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""


class MiddlewareSpecs(Protocol):
    """Hooks for middlewares."""

    @hookspec
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the controller's half of middlewares. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the proxy's half of middlewares. Proxy; once, at start; raising stops the start."""


# --- observation -----------------------------------------------------------------------------------------------------


class TrafficObserver(Protocol):
    """Receives a record of all traffic that has ended.

    It may be a `ConfiguredObserver`, a `CountingObserver` and a `ClosingObserver`.
    """

    name: str

    def observe(self, record: TrafficRecord) -> None:
        """Called once for each request, tunnel, TCP connection, UDP session and refusal, when it has ended.

        It runs in the worker's event loop, before the next request, so it must return within microseconds: keep the
        record, and write it elsewhere. An exception is counted, and logged once; traffic continues. Records are created
        only if there is an observer.
        """


class ConfiguredObserver(TrafficObserver, Protocol):
    """An observer that services can configure, through a `MiddlewareBuilder` of stage `OBSERVE` with the same kind."""

    kind: str
    settings_type: type[Any]
    """The type as which settings are decoded; a service whose settings cannot be decoded is left out, and logged."""

    def apply_settings(self, settings: Mapping[str, Any]) -> None:
        """Use these settings from now on: those of all services that have any, by `namespace/name`.

        Called when a configuration has changed them; other services have none. If it raises, that is logged.
        """


class CountingObserver(TrafficObserver, Protocol):
    """An observer that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape."""


class ClosingObserver(TrafficObserver, Protocol):
    """An observer that has to finish its work."""

    def close(self) -> None:
        """Finish: no further record follows, and the worker ends. It must return within a second."""


class ObservationSpecs(Protocol):
    """Hooks for what observes traffic, such as logs."""

    @hookspec
    def maesh_traffic_observers(self, node: Node) -> Sequence[TrafficObserver]:
        """Return observers of traffic. Proxy; once, at start, in its event loop; raising stops the start."""


SPEC_FAMILIES: tuple[type, ...] = (
    DiscoverySpecs,
    TopologySpecs,
    PageSpecs,
    ProtocolSpecs,
    BalancingSpecs,
    MiddlewareSpecs,
    ObservationSpecs,
)

OPTIONAL_INTERFACES: Mapping[type, tuple[type, ...]] = {
    TopologyBuilder: (LastTopologyBuilder,),
    ProtocolHandler: (CountingHandler,),
    MiddlewareBuilder: (ClosingBuilder, ExplainingBuilder),
    MiddlewareFactory: (CountingFactory,),
    TrafficObserver: (ConfiguredObserver, CountingObserver, ClosingObserver),
}
"""Optional members of objects that a hook returns; if an object has one, it must be as declared."""
