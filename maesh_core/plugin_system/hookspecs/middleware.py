"""The hooks for middlewares, and the interfaces of their builders and factories."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol

import msgspec

from maesh_core.model.matches import HttpMatch
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.hookspecs.markers import WireSettings, hookspec
from maesh_core.plugin_system.interfaces.explaining import Question, Verdict
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.request_sources import RequestSource, SourceKind

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
