"""The one place where hooks are declared, in families: discovery, topology, protocol and others.

A hook runs once, when its process starts, and returns objects that the process then calls directly; no hook is called
while a request is processed. The interfaces of these objects are declared here, except for those of a protocol
(protocols.py), a middleware (middleware.py) and a page (pages.py); the interfaces of their arguments are in
interfaces.py and node.py. Plugins import all of them from `maesh_core.plugin`. The order in which hooks are called is
not promised and does not matter: their results are sorted by name, and the start fails if two results claim the same
name.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import pluggy

from maesh_core.model.events import Event
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.pod_names import PODS
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.model.topology import BackendNode, BranchNode, PodNode, PortNode, PortRules, ServiceNode
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.certifiers import ApiCertifier
from maesh_core.plugin_system.controllers import (
    ControllerNode,
    ControllerService,
    CountingService,
    PreparedService,
)
from maesh_core.plugin_system.describing import DescribingBuilder
from maesh_core.plugin_system.interfaces import BalancedServer, Exchange, Question, TopologyView, Verdict
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.outside import NamesService, OutsideRules
from maesh_core.plugin_system.pages import ApiPage, CountingPage, OpenPage, PostPage
from maesh_core.plugin_system.policy_checks import PolicyChecker
from maesh_core.plugin_system.protocols import CountingHandler, ProtocolHandler, TrafficType
from maesh_core.plugin_system.request_sources import RequestSource, SourcedBuilder, SourceKind
from maesh_core.plugin_system.transports import (
    InformedService,
    ListeningTransport,
    NodeService,
    ParentNode,
    ReportingRules,
    ReviewingTransport,
    Transport,
    TransportRules,
)

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
    """Traffic that goes to other services, by port number and protocol; only rules may answer or filter."""
    rules: Mapping[tuple[int, str], PortRules] = {}
    """Rules that decide about all traffic of a port, by its number and protocol; only one builder may have some."""
    side_backends: Mapping[tuple[int, str], Mapping[str, BackendNode]] = {}
    """Services that get copies of a port's requests, by port number and protocol, then by the name in their keys."""
    traffic_types: Mapping[tuple[int, str], str] = {}
    """Traffic types of ports for which neither an annotation nor `appProtocol` decides."""
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
    def maesh_outside_rules(self) -> Sequence[OutsideRules]:
        """Return which servers outside of the mesh are carried. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return checkers that find objects without effect. Controller; once, at start; raising stops the start."""


# --- policy ----------------------------------------------------------------------------------------------------------


class PolicySpecs(Protocol):
    """Hooks for `maesh check`."""

    @hookspec
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return checkers of the whole policy. `maesh check`; once; raising ends the command."""


# --- status ----------------------------------------------------------------------------------------------------------


CONTROLLER_NAME: Final = "maesh.containo.us/mesh"
"""The value of `controllerName` in the entries of statuses that are the mesh's."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The mesh's entries in a list of an object's `status`; those of other controllers are kept.

    Each entry has `controllerName`, which is `CONTROLLER_NAME`, and `conditions`, each with a `type` and a `status`.
    The controller adds `lastTransitionTime` to the conditions that it writes.
    """

    entries: tuple[Mapping[str, Any], ...]


class StatusBuilder(Protocol):
    """Builds the status of the objects of one kind, of which there can be only one builder."""

    page: str
    """The statuses are served under `/api/status/PAGE`; several builders may have the same page."""
    field: str
    """The list in `status` that has the entries, such as `parents`."""

    @property
    def condition_types(self) -> tuple[str, ...]:
        """The types of all conditions that it can set: one that it leaves out is removed, and other types are kept."""

    @property
    def type(self) -> type[Resource]:
        """The class of the objects."""

    def build_status(
        self, view: TopologyView, resource: Any, services: Mapping[ObjectKey, ServiceNode]
    ) -> Status | None:
        """Build the status of one object, which may have `faults`; pure. None means no status of the mesh.

        `services` are those whose `Addition.objects` contain the object. Called again when the object, something that
        it read, or one of these services changes. If it raises, the object keeps its last status.
        """


class StatusSpecs(Protocol):
    """Hooks that report on objects."""

    @hookspec
    def maesh_status_builders(self) -> Sequence[StatusBuilder]:
        """Return builders of objects' statuses. Controller; once, at start; raising stops the start."""


# --- pages -----------------------------------------------------------------------------------------------------------


class PageSpecs(Protocol):
    """Hooks that add to the controller's API."""

    @hookspec
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return pages of the controller's API. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_api_certifiers(self, controller: ControllerNode) -> Sequence[ApiCertifier]:
        """Return what protects the controller's API. Controller; once, at start; raising stops the start."""


# --- controller services ---------------------------------------------------------------------------------------------


class ServiceSpecs(Protocol):
    """Hooks for tasks that run in the controller."""

    @hookspec
    def maesh_controller_services(self, controller: ControllerNode) -> Sequence[ControllerService]:
        """Return tasks that run as long as the controller. Controller; once, at start; raising stops the start."""


# --- protocol --------------------------------------------------------------------------------------------------------


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
    SHAPE = 4
    """For middlewares that change, redirect or copy requests and responses."""
    DELIVER = 5
    OBSERVE = 6


class MiddlewareBuilder(Protocol):
    """The controller's half of a middleware: converts annotations to settings.

    It may be a `ClosingBuilder`, an `ExplainingBuilder`, a `DescribingBuilder`, a `FilteringBuilder` and a
    `SourcedBuilder`.
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


class StreamBuilder(MiddlewareBuilder, Protocol):
    """A builder of stage ADMISSION whose annotations also have an effect on traffic types without other middlewares."""

    has_stream_annotations: bool


class ClosingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that sets the status of responses for closed services."""

    closed_status: int
    """The status of such responses, instead of 404."""


class ExplainingBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that `maesh explain` can call."""

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Return whether the middleware would admit a client, and why; `settings` are those it built, as sent.

        In a controller, a thread calls it for `/api/explain`: use only the arguments.
        """


class FilterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A filter of a route's rule or backend, as a `FilteringBuilder` gets it."""

    name: str
    """As in the Gateway API: `URLRewrite`, or a field of a rule such as `timeouts`."""
    value: Mapping[str, Any]
    """In the shape of that API, which the route's plugin has checked; the builder checks the values."""
    matches: tuple[HttpMatch, ...]
    """The matches of the rule."""
    port: PortNode
    """The service port to which the route is attached."""
    side_services: Mapping[str, str] = {}
    """The keys of the services that get copies, by their names in `value`."""
    rule: str = ""
    """The key of the rule's service: settings that contain it are shared with no other rule."""
    client_namespace: str = ""
    """For a rule of a namespace that is not the service's: it applies to this namespace's clients only."""


class FilteringBuilder(MiddlewareBuilder, Protocol):
    """A middleware's builder that routes can use, too, through filters of their rules."""

    filters: tuple[str, ...]
    """The names of the filters that it builds, as in the Gateway API; two kinds cannot have the same one."""
    is_single: bool
    """Whether a filter replaces what the service's annotations set; otherwise both act, the service's outside."""

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> WireSettings | None:
        """Build the settings of one middleware from filters of one rule, in their order; pure.

        `service` is the one to which the route is attached. Return what `build_settings` returns; None if the filters
        need no middleware. Rules with equal settings share a middleware. Raising ConfigurationError makes the rule
        invalid: it answers every request with an error. A filter of a backend then only answers that backend's share.
        """


class MiddlewareFactory(Protocol):
    """The proxy's half of a middleware: builds a `Middleware` from settings. It may be a `CountingFactory`."""

    kind: str
    settings_type: type[Any]
    """The type as which settings are decoded; if decoding fails, the router is refused."""

    def build_middleware(self, settings: Any, service: str) -> Middleware:
        """Build the middleware of one service, shared by its ports; called again only if its settings change.

        `service` is `namespace/name`, or `namespace/name:port` if annotations of a port configure it for that port
        alone. In contrast, the label `service` of metrics is the key of a service port: for a
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

    @hookspec
    def maesh_source_kinds(self) -> Sequence[SourceKind]:
        """Return kinds of sources of requests. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_request_sources(self, node: Node) -> Sequence[RequestSource]:
        """Return the sources that the proxy's half reads. Proxy; once, at start; raising stops the start."""


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

        Settings that annotations of a port define for it alone are under `namespace/name:port` instead.

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


class OptionalSection(msgspec.Struct, frozen=True):
    """A section of the configuration that the controller builds and sends only if a plugin asks for it.

    `POD_NAMES` has the names of pods by address, which `Node.follow_pod_names` returns in proxies. `ACCOUNTS` has their
    service accounts, which the source `account` of `Node.build_source_reader` reads.
    """

    name: str
    """Its name in the document that proxies pull."""


POD_NAMES: Final = OptionalSection(PODS)

ACCOUNTS: Final = OptionalSection("accounts")
"""The clients of the section `transport`, for all pods, as with `--client-header`."""

OPTIONAL_SECTIONS: Sequence[OptionalSection] = (POD_NAMES, ACCOUNTS)
"""The sections that a plugin can ask for."""


class ObservationSpecs(Protocol):
    """Hooks for what observes traffic, such as logs."""

    @hookspec
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Return sections that the plugin's proxy half reads. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_traffic_observers(self, node: Node) -> Sequence[TrafficObserver]:
        """Return observers of traffic. Proxy; once, at start, in its event loop; raising stops the start."""


# --- transports ------------------------------------------------------------------------------------------------------


class TransportSpecs(Protocol):
    """Hooks for how proxies reach servers on other nodes, such as over encrypted connections."""

    @hookspec
    def maesh_transport_rules(self) -> Sequence[TransportRules]:
        """Return the controller's half of a transport. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_transports(self, node: Node) -> Sequence[Transport]:
        """Return the proxy's half of a transport. Proxy; once, at start, in its event loop; raising stops the start."""

    @hookspec
    def maesh_node_services(self, parent: ParentNode) -> Sequence[NodeService]:
        """Return tasks of the proxy's parent. Proxy; once, at start, in its event loop; raising stops the start."""


SPEC_FAMILIES: tuple[type, ...] = (
    DiscoverySpecs,
    TopologySpecs,
    PolicySpecs,
    StatusSpecs,
    PageSpecs,
    ServiceSpecs,
    ProtocolSpecs,
    BalancingSpecs,
    MiddlewareSpecs,
    ObservationSpecs,
    TransportSpecs,
)

OPTIONAL_INTERFACES: Mapping[type, tuple[type, ...]] = {
    TopologyBuilder: (LastTopologyBuilder,),
    ApiPage: (CountingPage, OpenPage, PostPage),
    ControllerService: (CountingService, PreparedService),
    ProtocolHandler: (CountingHandler,),
    MiddlewareBuilder: (
        ClosingBuilder,
        ExplainingBuilder,
        DescribingBuilder,
        FilteringBuilder,
        SourcedBuilder,
        StreamBuilder,
    ),
    Transport: (ListeningTransport, ReviewingTransport),
    TransportRules: (ReportingRules,),
    NodeService: (InformedService, NamesService),
    MiddlewareFactory: (CountingFactory,),
    TrafficObserver: (ConfiguredObserver, CountingObserver, ClosingObserver),
}
"""Optional members of objects that a hook returns; if an object has one, it must be as declared."""
