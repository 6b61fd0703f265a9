"""Builds the parts of a worker from settings and plugins, and says how they are closed: the worker's composition root.

Takes settings, loaded plugins, shared memory and an exit stack; returns the parts. They are built in the order of their
dependencies, and the stack closes them in the reverse order. Raises PluginError if plugins contradict each other. Call
it in the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Protocol, cast

from maesh_core.errors import PluginError
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.protocols import ProtocolHandler
from maesh_core.plugin_system.transports import ListeningTransport, Transport
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.routing.observer_settings import ObserverSettings
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.transport.deliveries import Deliveries
from maesh_core.proxy.transport.paths import Paths
from maesh_core.proxy.worker.loop_watch import LoopWatch
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.node_view import NodeView
from maesh_core.settings import ProxySettings


class Plugins(Protocol):
    """The enabled plugins, loaded."""

    guards: tuple[str, ...]
    """The names of plugins that decide about access."""

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Call all implementations of a hook, and return their results in one list."""

    def describe(self, provided: object) -> str:
        """Return the name of the plugin that provided an object."""

    def is_guard(self, provided: object) -> bool:
        """Return whether the plugin that provided an object decides about access."""


class WorkerParts(NamedTuple):
    """The parts of a worker. `serving` are the handlers of protocols, and the transport if it accepts connections."""

    node: NodeView
    loop_watch: LoopWatch
    memory: WorkerMemory
    factories: Mapping[str, MiddlewareFactory]
    reporting: Mapping[str, Any]
    observer_settings: ObserverSettings
    configuration: RoutingConfiguration
    serving: Mapping[str, ProtocolHandler]


def build_parts(settings: ProxySettings, plugins: Plugins, memory: WorkerMemory, stack: AsyncExitStack) -> WorkerParts:
    """Build the parts of a worker; `stack` closes them. Raises PluginError."""
    loop_watch, node = _open_node(settings, memory, stack)
    factories: dict[str, MiddlewareFactory] = _collect(plugins, node, "maesh_middleware_factories", "middleware kind")
    node.request_sources.plugin_sources = _collect(plugins, node, "maesh_request_sources", "source of requests")
    guard_kinds = frozenset(kind for kind, factory in factories.items() if plugins.is_guard(factory))
    names_clients = settings.client_header
    transport = _find_transport(node, plugins)
    node.paths = Paths(settings.node, node.clock, transport, guard_kinds=guard_kinds, names_clients=names_clients)
    node.paths.callers = node.callers
    balancers = BalancerKinds(_collect(plugins, node, "maesh_balancer_factories", "load balancer"))
    handlers = _build_handlers(node, plugins, balancers)
    serving = handlers if transport is None else _add_transport(handlers, transport, plugins)
    for handler in serving.values():
        stack.callback(handler.abort)
    observers = _collect(plugins, node, "maesh_traffic_observers", "traffic observer").values()
    for observer in observers:
        node.observers.add(observer)
    configuration = RoutingConfiguration(
        handlers,
        factories,
        guards=plugins.guards,
        balancers=balancers,
        transport=node.paths if transport is not None or node.reads_accounts else None,
        encryption=transport.name if transport is not None else None,
        own_entrypoints=_list_own_entrypoints(transport),
        pod_names=node.pod_names,
    )
    if transport is not None:
        find = configuration.get_section
        node.deliveries = Deliveries(
            settings.node, find, guard_kinds=guard_kinds, failures=node.failures, names_clients=names_clients
        )
    return WorkerParts(
        node=node,
        loop_watch=loop_watch,
        memory=memory,
        factories=factories,
        reporting=_index_reports(factories, plugins),
        observer_settings=ObserverSettings(observers),
        configuration=configuration,
        serving=serving,
    )


def _open_node(settings: ProxySettings, memory: WorkerMemory, stack: AsyncExitStack) -> tuple[LoopWatch, NodeView]:
    """Create what all other parts use."""
    loop = asyncio.get_running_loop()
    stack.callback(memory.close)
    clock = Clock(loop)
    stack.callback(clock.close)
    loop_watch = LoopWatch(loop)
    stack.callback(loop_watch.close)
    node = NodeView(settings, clock, memory)
    stack.callback(node.close)
    stack.callback(node.observers.close)
    stack.push_async_callback(asyncio.sleep, 0)  # tunnels end, and are reported, in the turn after they are aborted
    return loop_watch, node


def _collect(plugins: Plugins, node: NodeView, hook_name: str, noun: str) -> dict[str, Any]:
    """Collect what plugins provide, by `kind` for middlewares, and by `name` for all else. Raises PluginError."""
    attribute = "kind" if hook_name == "maesh_middleware_factories" else "name"
    found = plugins.collect(hook_name, node=node)
    return _index(noun, [(getattr(each, attribute), each) for each in found], plugins.describe)


def _index_reports(factories: Mapping[str, MiddlewareFactory], plugins: Plugins) -> dict[str, Any]:
    """Return the factories that make a report, by its name."""
    named = [(getattr(each, "report_name", ""), each) for each in factories.values()]
    return _index("report", [(name, each) for name, each in named if name], plugins.describe)


def _find_transport(node: NodeView, plugins: Plugins) -> Transport | None:
    """Return the enabled transport, if there is one. Raises PluginError if there are two."""
    found: list[Transport] = plugins.collect("maesh_transports", node=node)
    if len(found) > 1:
        claimants = " and ".join(plugins.describe(each) for each in found[:2])
        raise PluginError(f"both {claimants} provide a transport, but at most one can be enabled")
    return found[0] if found else None


def _build_handlers(node: NodeView, plugins: Plugins, balancers: BalancerKinds) -> dict[str, ProtocolHandler]:
    """Build the handlers of the core, and add those of plugins, by protocol."""
    given: dict[str, ProtocolHandler] = _collect(plugins, node, "maesh_protocol_handlers", "protocol")
    node.http = HttpHandler(
        node.settings,
        node.clock,
        balancers=balancers,
        failures=node.failures,
        callers=node.callers,
        observers=node.observers,
        paths=node.paths,
    )
    core: tuple[ProtocolHandler, ...] = (node.http, TcpHandler(node, node.paths, node.http.environment.tls))
    for handler in core:
        if handler.name in given:
            claimant = plugins.describe(given[handler.name])
            raise PluginError(f"protocol {handler.name} belongs to the core, but {claimant} claims it too")
    return {**{handler.name: handler for handler in core}, **given}


def _add_transport(
    handlers: Mapping[str, ProtocolHandler], transport: Transport, plugins: Plugins
) -> Mapping[str, ProtocolHandler]:
    """Add a transport that accepts connections of other nodes to what serves entrypoints."""
    if not hasattr(transport, "open_listener"):
        return handlers
    return _index("protocol", [*handlers.items(), (transport.name, transport)], plugins.describe)


def _list_own_entrypoints(transport: Transport | None) -> frozenset[WantedEntrypoint]:
    """List the port on which a transport accepts connections of other nodes, if it does."""
    if transport is None or not hasattr(transport, "open_listener"):
        return frozenset()
    return frozenset({WantedEntrypoint("TCP", cast("ListeningTransport", transport).port, transport.name)})


def _index(noun: str, named: Iterable[tuple[str, Any]], describe: Callable[[object], str]) -> dict[str, Any]:
    """Return the plugins' objects by name. Raises PluginError if two have the same name."""
    found: dict[str, Any] = {}
    for name, value in sorted(named, key=lambda pair: pair[0]):
        if name in found:
            raise PluginError(f"{noun} {name} is claimed by both {describe(found[name])} and {describe(value)}")
        found[name] = value
    return found
