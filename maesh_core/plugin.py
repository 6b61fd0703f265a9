"""The one module that a plugin imports: what it declares, the hooks, and the types that pass through them.

Nothing of a process (controller, proxy, command line) is imported from here, so that a plugin's half costs only the
process that needs it.
"""

import msgspec

from maesh_core.errors import (
    ConfigurationError,
    UpstreamNotReachedError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from maesh_core.model.annotations import build_annotation_error, read_annotation
from maesh_core.model.configuration import HttpRouter, Section, Server, Service, StreamRouter
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES
from maesh_core.model.keys import ObjectKey, build_port_key, cut_port_key
from maesh_core.model.matches import HeaderMatch, HttpMatch, combine_matches
from maesh_core.model.matching import compile_matches, find_match_problem, is_ambiguous
from maesh_core.model.messages import PodReport
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.resources import (
    REFERENCES,
    CheckedResource,
    ObjectMeta,
    Pod,
    Resource,
    ResourceKind,
    build_reference,
)
from maesh_core.model.topology import BackendNode, BranchNode, PodNode, PortNode, ServerNode, ServiceNode
from maesh_core.model.traffic_record import CLIENT_LEFT, DENIED, UDP, UPSTREAM_LOST, TrafficRecord
from maesh_core.plugin_system.hookspecs import (
    HOOK_API_VERSION,
    Addition,
    BalancerBuilder,
    BalancerFactory,
    Chooser,
    ClosingBuilder,
    ClosingObserver,
    ConfiguredObserver,
    CountingFactory,
    CountingHandler,
    CountingObserver,
    ExplainingBuilder,
    LastTopologyBuilder,
    Listener,
    MiddlewareBuilder,
    MiddlewareFactory,
    ObjectChecker,
    PortRange,
    ProtocolHandler,
    Source,
    Stage,
    TopologyBuilder,
    TrafficObserver,
    TrafficType,
    WireSettings,
    hookimpl,
)
from maesh_core.plugin_system.interfaces import (
    BalancedServer,
    Connection,
    Exchange,
    Headers,
    Node,
    Question,
    ReadableHeaders,
    Response,
    SocketWatcher,
    StreamRoute,
    Streams,
    StreamServer,
    Ticks,
    TopologyView,
    Verdict,
    View,
)
from maesh_core.plugin_system.middleware import Middleware, override
from maesh_core.plugin_system.pages import ApiPage, PageRequest, PageResponse
from maesh_core.plugin_system.shared import RecentCounts, SharedBytes
from maesh_core.plugin_system.stream_traffic import StreamTrafficType
from maesh_core.values.field_rules import find_header_problem
from maesh_core.values.parsing import Duration, PositiveDuration
from maesh_core.values.spelling import suggest
from maesh_core.values.strict_fields import decode_strictly


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry point of group `maesh.plugins` loads.

    `hook_api_version` is the HOOK_API_VERSION the plugin was written for. `settings` is a msgspec struct whose fields
    all have defaults; an instance, checked at start, is handed to each half. `controller` and `proxy` name the halves
    as `package.module:attribute`, a callable that takes the settings (nothing, when there are none) and returns an
    object with the hook implementations; each is imported only in its process, and None means there is no such half.

    `is_access_control` says that the plugin decides who may reach services. A proxy that has such a plugin enabled
    refuses every configuration that a controller made without it; the plugin needs both halves.
    """

    hook_api_version: int
    settings: type[msgspec.Struct] | None = None
    controller: str | None = None
    proxy: str | None = None
    is_access_control: bool = False


__all__ = [
    "CLIENT_LEFT",
    "DENIED",
    "GRPC_SERVER_ERRORS",
    "GRPC_STATUS_NAMES",
    "HOOK_API_VERSION",
    "REFERENCES",
    "UDP",
    "UPSTREAM_LOST",
    "Addition",
    "ApiPage",
    "Applied",
    "BackendNode",
    "BalancedServer",
    "BalancerBuilder",
    "BalancerFactory",
    "BranchNode",
    "CheckedResource",
    "Chooser",
    "ClosingBuilder",
    "ClosingObserver",
    "ConfigurationError",
    "ConfiguredObserver",
    "Connection",
    "CountingFactory",
    "CountingHandler",
    "CountingObserver",
    "Deleted",
    "Duration",
    "Event",
    "Exchange",
    "ExplainingBuilder",
    "Findings",
    "HeaderMatch",
    "Headers",
    "HttpMatch",
    "HttpRouter",
    "LastTopologyBuilder",
    "Listener",
    "MetricFamily",
    "Middleware",
    "MiddlewareBuilder",
    "MiddlewareFactory",
    "Node",
    "ObjectChecker",
    "ObjectFindings",
    "ObjectKey",
    "ObjectMeta",
    "PageRequest",
    "PageResponse",
    "Plugin",
    "Pod",
    "PodNode",
    "PodReport",
    "PortNode",
    "PortRange",
    "PositiveDuration",
    "Problem",
    "ProtocolHandler",
    "Question",
    "ReadableHeaders",
    "RecentCounts",
    "Replaced",
    "Resource",
    "ResourceKind",
    "Response",
    "Section",
    "Server",
    "ServerNode",
    "Service",
    "ServiceNode",
    "SharedBytes",
    "SocketWatcher",
    "Source",
    "Stage",
    "StreamRoute",
    "StreamRouter",
    "StreamServer",
    "StreamTrafficType",
    "Streams",
    "Ticks",
    "TopologyBuilder",
    "TopologyView",
    "TrafficObserver",
    "TrafficRecord",
    "TrafficType",
    "UpstreamNotReachedError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "Verdict",
    "View",
    "WireSettings",
    "build_annotation_error",
    "build_port_key",
    "build_reference",
    "combine_matches",
    "compile_matches",
    "cut_port_key",
    "decode_strictly",
    "find_header_problem",
    "find_match_problem",
    "hookimpl",
    "is_ambiguous",
    "override",
    "read_annotation",
    "suggest",
]
