"""The one module that a plugin imports: what it declares, the hooks, and the types that pass through them.

Nothing of a process (controller, proxy, command line) is imported from here, so that a plugin's half costs only the
process that needs it.
"""

import msgspec

from maesh_core.errors import (
    ConfigurationError,
    ControllerUnreachableError,
    KubernetesError,
    UpstreamNotReachedError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from maesh_core.model.addresses import join_port
from maesh_core.model.annotations import (
    build_annotation_error,
    find_chosen_traffic_type,
    read_annotation,
    select_annotations,
)
from maesh_core.model.configuration import Answer, HttpRouter, NamedServer, Section, Server, Service, StreamRouter
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES
from maesh_core.model.keys import ObjectKey, build_port_key, cut_port_key, find_owner, is_label, is_subdomain
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch, combine_matches
from maesh_core.model.matching import compile_matches, find_match_problem, is_ambiguous
from maesh_core.model.messages import PodReport
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.path_changes import (
    PathChange,
    PathChanger,
    PathModifier,
    build_path_change,
    read_path_change,
)
from maesh_core.model.patterns import weigh_pattern
from maesh_core.model.request_sources import describe_sources, parse_sources
from maesh_core.model.resources import (
    REFERENCES,
    CheckedResource,
    ObjectMeta,
    Pod,
    Resource,
    ResourceKind,
    build_reference,
)
from maesh_core.model.schemes import find_scheme
from maesh_core.model.token_identity import TokenIdentity
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PodNode,
    PortNode,
    PortRules,
    RuleProblem,
    RuleTable,
    ServerNode,
    ServiceNode,
)
from maesh_core.model.traffic_record import (
    CLIENT_LEFT,
    DENIED,
    ENTRYPOINT_CLOSED,
    EVICTED,
    PROXY_ENDED,
    SERVER_REMOVED,
    UDP,
    UPSTREAM_LOST,
    TrafficRecord,
)
from maesh_core.plain_http.refusals import RefusalLog
from maesh_core.plugin_system.certifiers import ApiCertifier
from maesh_core.plugin_system.commands import (
    Command,
    CommandApi,
    CommandArgument,
    CommandResult,
    CommandSwitch,
)
from maesh_core.plugin_system.controllers import (
    ClusterApi,
    ControllerNode,
    ControllerService,
    CountingService,
    NodeReport,
    PreparedService,
)
from maesh_core.plugin_system.converters import Conversion, ConvertedObject, Converter
from maesh_core.plugin_system.describing import DescribingBuilder
from maesh_core.plugin_system.filter_values import read_filter, read_filter_duration
from maesh_core.plugin_system.hookspecs import (
    ACCOUNTS,
    CONTROLLER_NAME,
    HOOK_API_VERSION,
    POD_NAMES,
    Addition,
    BalancerBuilder,
    BalancerFactory,
    Chooser,
    ClosingBuilder,
    ClosingObserver,
    ConfiguredObserver,
    CountingFactory,
    CountingObserver,
    ExplainingBuilder,
    FilteringBuilder,
    FilterRequest,
    LastTopologyBuilder,
    MiddlewareBuilder,
    MiddlewareFactory,
    ObjectChecker,
    OptionalSection,
    Source,
    Stage,
    Status,
    StatusBuilder,
    TopologyBuilder,
    TrafficObserver,
    WireSettings,
    hookimpl,
)
from maesh_core.plugin_system.interfaces import (
    BackendChoice,
    BalancedServer,
    BodyTap,
    BodyTransform,
    BodyUse,
    ClientHead,
    Connection,
    Exchange,
    Headers,
    Question,
    ReadableHeaders,
    Response,
    TopologyView,
    Verdict,
    View,
    WholeBody,
)
from maesh_core.plugin_system.middleware import Middleware, override
from maesh_core.plugin_system.node import (
    Node,
    PodNames,
    RecentCounts,
    SharedBytes,
    SocketWatcher,
    StreamRoute,
    Streams,
    StreamServer,
    Ticks,
)
from maesh_core.plugin_system.outside import NamesService, OutsideRules
from maesh_core.plugin_system.pages import (
    ApiPage,
    CountingPage,
    OpenPage,
    PageRequest,
    PageResponse,
    PostPage,
    PostRequest,
)
from maesh_core.plugin_system.policy_checks import FindingKind, PolicyChecker, PolicyFinding, PolicyView
from maesh_core.plugin_system.protocols import CountingHandler, Listener, PortRange, ProtocolHandler, TrafficType
from maesh_core.plugin_system.request_sources import RequestSource, SourcedBuilder, SourceKind, SourceReader
from maesh_core.plugin_system.rules import PlannedPart, PlannedRule, RulePlan, plan_rules
from maesh_core.plugin_system.stream_traffic import StreamTrafficType
from maesh_core.plugin_system.transports import (
    ByRequest,
    ClientEntry,
    Delivery,
    DeliveryVerdict,
    InformedService,
    ListeningTransport,
    MeshNode,
    NameAddresses,
    NodeService,
    OpenFailure,
    Opening,
    OutgoingProtocol,
    ParentNode,
    Path,
    PathRefusedError,
    Peer,
    Refusal,
    RemoteServer,
    ReportingRules,
    Transport,
    TransportReport,
    TransportRules,
    TunnelRules,
    Tunnels,
)
from maesh_core.process.tls_credentials import TlsCredentials
from maesh_core.values.field_rules import find_header_problem
from maesh_core.values.parsing import Duration, PositiveDuration, parse_value
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
    "ACCOUNTS",
    "CLIENT_LEFT",
    "CONTROLLER_NAME",
    "DENIED",
    "ENTRYPOINT_CLOSED",
    "EVICTED",
    "GRPC_SERVER_ERRORS",
    "GRPC_STATUS_NAMES",
    "HOOK_API_VERSION",
    "POD_NAMES",
    "PROXY_ENDED",
    "REFERENCES",
    "SERVER_REMOVED",
    "UDP",
    "UPSTREAM_LOST",
    "Addition",
    "Answer",
    "AnswerNode",
    "ApiCertifier",
    "ApiPage",
    "Applied",
    "BackendChoice",
    "BackendNode",
    "BalancedServer",
    "BalancerBuilder",
    "BalancerFactory",
    "BodyTap",
    "BodyTransform",
    "BodyUse",
    "BranchNode",
    "ByRequest",
    "CheckedResource",
    "Chooser",
    "ClientEntry",
    "ClientHead",
    "ClosingBuilder",
    "ClosingObserver",
    "ClusterApi",
    "Command",
    "CommandApi",
    "CommandArgument",
    "CommandResult",
    "CommandSwitch",
    "ConfigurationError",
    "ConfiguredObserver",
    "Connection",
    "ControllerNode",
    "ControllerService",
    "ControllerUnreachableError",
    "Conversion",
    "ConvertedObject",
    "Converter",
    "CountingFactory",
    "CountingHandler",
    "CountingObserver",
    "CountingPage",
    "CountingService",
    "Deleted",
    "Delivery",
    "DeliveryVerdict",
    "DescribingBuilder",
    "Duration",
    "Event",
    "Exchange",
    "ExplainingBuilder",
    "FilterNode",
    "FilterRequest",
    "FilteringBuilder",
    "FindingKind",
    "Findings",
    "HeaderMatch",
    "Headers",
    "HttpMatch",
    "HttpRouter",
    "InformedService",
    "KubernetesError",
    "LastTopologyBuilder",
    "Listener",
    "ListeningTransport",
    "MeshNode",
    "MetricFamily",
    "Middleware",
    "MiddlewareBuilder",
    "MiddlewareFactory",
    "NameAddresses",
    "NamedServer",
    "NamesService",
    "Node",
    "NodeReport",
    "NodeService",
    "ObjectChecker",
    "ObjectFindings",
    "ObjectKey",
    "ObjectMeta",
    "OpenFailure",
    "OpenPage",
    "Opening",
    "OptionalSection",
    "OrderedMatch",
    "OutgoingProtocol",
    "OutsideRules",
    "PageRequest",
    "PageResponse",
    "ParentNode",
    "Path",
    "PathChange",
    "PathChanger",
    "PathModifier",
    "PathRefusedError",
    "Peer",
    "PlannedPart",
    "PlannedRule",
    "Plugin",
    "Pod",
    "PodNames",
    "PodNode",
    "PodReport",
    "PolicyChecker",
    "PolicyFinding",
    "PolicyView",
    "PortNode",
    "PortRange",
    "PortRules",
    "PositiveDuration",
    "PostPage",
    "PostRequest",
    "PreparedService",
    "Problem",
    "ProtocolHandler",
    "QueryMatch",
    "Question",
    "ReadableHeaders",
    "RecentCounts",
    "Refusal",
    "RefusalLog",
    "RemoteServer",
    "Replaced",
    "ReportingRules",
    "RequestSource",
    "Resource",
    "ResourceKind",
    "Response",
    "RulePlan",
    "RuleProblem",
    "RuleTable",
    "Section",
    "Server",
    "ServerNode",
    "Service",
    "ServiceNode",
    "SharedBytes",
    "SocketWatcher",
    "Source",
    "SourceKind",
    "SourceReader",
    "SourcedBuilder",
    "Stage",
    "Status",
    "StatusBuilder",
    "StreamRoute",
    "StreamRouter",
    "StreamServer",
    "StreamTrafficType",
    "Streams",
    "Ticks",
    "TlsCredentials",
    "TokenIdentity",
    "TopologyBuilder",
    "TopologyView",
    "TrafficObserver",
    "TrafficRecord",
    "TrafficType",
    "Transport",
    "TransportReport",
    "TransportRules",
    "TunnelRules",
    "Tunnels",
    "UpstreamNotReachedError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "Verdict",
    "View",
    "WholeBody",
    "WireSettings",
    "build_annotation_error",
    "build_path_change",
    "build_port_key",
    "build_reference",
    "combine_matches",
    "compile_matches",
    "cut_port_key",
    "decode_strictly",
    "describe_sources",
    "find_chosen_traffic_type",
    "find_header_problem",
    "find_match_problem",
    "find_owner",
    "find_scheme",
    "hookimpl",
    "is_ambiguous",
    "is_label",
    "is_subdomain",
    "join_port",
    "override",
    "parse_sources",
    "parse_value",
    "plan_rules",
    "read_annotation",
    "read_filter",
    "read_filter_duration",
    "read_path_change",
    "select_annotations",
    "suggest",
    "weigh_pattern",
]
