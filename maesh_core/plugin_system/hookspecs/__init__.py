"""The one place where hooks are declared, in families: discovery, topology, protocol and others.

A hook runs once, when its process starts, and returns objects that the process then calls directly; no hook is called
while a request is processed. Each family has a module, which also declares the interfaces of these objects, unless they
are in a module of `plugin_system`, such as protocols.py, middleware.py and pages.py; the interfaces of their arguments
are in interfaces/ and node.py. Plugins import all of them from `maesh_core.plugin`. The order in which hooks are called
is not promised and does not matter: their results are sorted by name, and the start fails if two results claim the same
name.
"""

from collections.abc import Mapping

from maesh_core.plugin_system.controllers import ControllerService, CountingService, PreparedService
from maesh_core.plugin_system.describing import DescribingBuilder
from maesh_core.plugin_system.hookspecs.balancing import BalancerBuilder, BalancerFactory, BalancingSpecs, Chooser
from maesh_core.plugin_system.hookspecs.controller import ConditionSpecs, PageSpecs, PolicySpecs, ServiceSpecs
from maesh_core.plugin_system.hookspecs.discovery import DiscoverySpecs, Source
from maesh_core.plugin_system.hookspecs.markers import HOOK_API_VERSION, PROJECT_NAME, WireSettings, hookimpl, hookspec
from maesh_core.plugin_system.hookspecs.middleware import (
    ClosingBuilder,
    CountingFactory,
    ExplainingBuilder,
    FilteringBuilder,
    FilterRequest,
    MiddlewareBuilder,
    MiddlewareFactory,
    MiddlewareSpecs,
    Stage,
    StreamBuilder,
)
from maesh_core.plugin_system.hookspecs.observation import (
    ACCOUNTS,
    CLIENT_NAMESPACES,
    OPTIONAL_SECTIONS,
    POD_NAMES,
    ClosingObserver,
    ConfiguredObserver,
    CountingObserver,
    ObservationSpecs,
    OptionalSection,
    TrafficObserver,
)
from maesh_core.plugin_system.hookspecs.protocol import ProtocolSpecs
from maesh_core.plugin_system.hookspecs.status import CONTROLLER_NAME, Status, StatusBuilder, StatusSpecs
from maesh_core.plugin_system.hookspecs.topology import (
    Addition,
    LastTopologyBuilder,
    ObjectChecker,
    TopologyBuilder,
    TopologySpecs,
)
from maesh_core.plugin_system.hookspecs.transports import TransportSpecs
from maesh_core.plugin_system.outside import NamesService
from maesh_core.plugin_system.pages import ApiPage, CountingPage, OpenPage, PostPage
from maesh_core.plugin_system.protocols import CountingHandler, NamespacesHandler, ProtocolHandler
from maesh_core.plugin_system.request_sources import SourcedBuilder
from maesh_core.plugin_system.transports import (
    InformedService,
    ListeningTransport,
    NodeService,
    ReportingRules,
    ReviewingTransport,
    Transport,
    TransportRules,
)

__all__ = [
    "ACCOUNTS",
    "CLIENT_NAMESPACES",
    "CONTROLLER_NAME",
    "HOOK_API_VERSION",
    "OPTIONAL_INTERFACES",
    "OPTIONAL_SECTIONS",
    "POD_NAMES",
    "PROJECT_NAME",
    "SPEC_FAMILIES",
    "Addition",
    "BalancerBuilder",
    "BalancerFactory",
    "BalancingSpecs",
    "Chooser",
    "ClosingBuilder",
    "ClosingObserver",
    "ConditionSpecs",
    "ConfiguredObserver",
    "CountingFactory",
    "CountingObserver",
    "DiscoverySpecs",
    "ExplainingBuilder",
    "FilterRequest",
    "FilteringBuilder",
    "LastTopologyBuilder",
    "MiddlewareBuilder",
    "MiddlewareFactory",
    "MiddlewareSpecs",
    "ObjectChecker",
    "ObservationSpecs",
    "OptionalSection",
    "PageSpecs",
    "PolicySpecs",
    "ProtocolSpecs",
    "ServiceSpecs",
    "Source",
    "Stage",
    "Status",
    "StatusBuilder",
    "StatusSpecs",
    "StreamBuilder",
    "TopologyBuilder",
    "TopologySpecs",
    "TrafficObserver",
    "TransportSpecs",
    "WireSettings",
    "hookimpl",
    "hookspec",
]

SPEC_FAMILIES: tuple[type, ...] = (
    DiscoverySpecs,
    TopologySpecs,
    PolicySpecs,
    StatusSpecs,
    PageSpecs,
    ConditionSpecs,
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
    ProtocolHandler: (NamespacesHandler, CountingHandler),
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
