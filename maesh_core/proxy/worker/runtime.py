"""The traffic of one worker: the handlers of all protocols, their configuration, and their listeners.

Takes settings, loaded plugins, updates and sockets; returns the entrypoints to open, and metrics. It knows neither the
parent nor the source of an update. Create it in the event loop.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import msgspec

from maesh_core.errors import PluginError, UpdateRejectedError
from maesh_core.model.messages import parse_update
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.names import NAME_ADDRESSES, decode_addresses
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.protocols import ProtocolHandler
from maesh_core.plugin_system.transports import ListeningTransport, Transport
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.routing.observer_settings import ObserverSettings
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.transport.deliveries import Deliveries
from maesh_core.proxy.transport.paths import Paths
from maesh_core.proxy.worker.listening import Listening, close_listening, listen_on
from maesh_core.proxy.worker.loop_watch import LoopWatch
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.node_view import NodeView
from maesh_core.proxy.worker.resource_metrics import collect_worker_metrics
from maesh_core.settings import ProxySettings

_log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.02
"""The interval at which a drain checks whether the protocols are drained."""


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


class WorkerRuntime:
    """The traffic of one worker, from its first update to the end of its drain. The constructor raises PluginError."""

    __slots__ = (
        "_clock",
        "_counting",
        "_handlers",
        "_listening",
        "_memory",
        "_node",
        "_observer_settings",
        "_reporting",
        "_serving",
        "configuration",
        "loop_watch",
        "paths",
    )

    def __init__(self, settings: ProxySettings, plugins: Plugins, memory: WorkerMemory) -> None:
        self._memory = memory
        self._clock = Clock(asyncio.get_running_loop())
        self.loop_watch = LoopWatch(asyncio.get_running_loop())
        self._node = node = NodeView(settings, self._clock, memory)
        factories: Mapping[str, MiddlewareFactory] = _index(
            "middleware kind",
            [(each.kind, each) for each in plugins.collect("maesh_middleware_factories", node=node)],
            plugins.describe,
        )
        node.request_sources.plugin_sources = _index(
            "source of requests",
            [(each.name, each) for each in plugins.collect("maesh_request_sources", node=node)],
            plugins.describe,
        )
        guard_kinds = frozenset(kind for kind, factory in factories.items() if plugins.is_guard(factory))
        transport = _find_transport(node, plugins)
        self.paths = node.paths = Paths(
            settings.node,
            self._clock,
            transport,
            guard_kinds=guard_kinds,
            names_clients=settings.client_header,
        )
        self.paths.callers = node.callers
        balancers = BalancerKinds(
            _index(
                "load balancer",
                [(each.name, each) for each in plugins.collect("maesh_balancer_factories", node=node)],
                plugins.describe,
            )
        )
        self._handlers = _build_handlers(node, plugins, balancers)
        observers = _index(
            "traffic observer",
            [(each.name, each) for each in plugins.collect("maesh_traffic_observers", node=node)],
            plugins.describe,
        ).values()
        for observer in observers:
            node.observers.add(observer)
        self._observer_settings = ObserverSettings(observers)
        self._counting: list[Any] = [each for each in factories.values() if getattr(each, "collect_metrics", None)]
        named = [(getattr(each, "report_name", ""), each) for each in factories.values()]
        reporting = [(name, each) for name, each in named if name]
        self._reporting: Mapping[str, Any] = _index("report", reporting, plugins.describe)
        self._serving: Mapping[str, Any] = self._handlers
        self.configuration = RoutingConfiguration(
            self._handlers,
            factories,
            guards=plugins.guards,
            balancers=balancers,
            transport=self.paths if transport is not None or node.reads_accounts else None,
            encryption=transport.name if transport is not None else None,
            own_entrypoints=_list_own_entrypoints(transport),
            pod_names=node.pod_names,
        )
        if transport is not None:
            if hasattr(transport, "open_listener"):
                self._serving = _index(
                    "protocol", [*self._handlers.items(), (transport.name, transport)], plugins.describe
                )
            node.deliveries = Deliveries(
                settings.node,
                self.configuration.get_section,
                guard_kinds=guard_kinds,
                failures=node.failures,
                names_clients=settings.client_header,
            )
        self._listening: dict[WantedEntrypoint, Listening] = {}

    def __repr__(self) -> str:
        """Show the current configuration."""
        return f"<WorkerRuntime {self.configuration!r}, {len(self._listening)} entrypoints>"

    @property
    def observers(self) -> Observers:
        """The observers of this worker's traffic."""
        return self._node.observers

    def apply_update(self, body: bytes, since: str | None) -> None:
        """Apply an update; if it raises UpdateRejectedError, nothing has changed."""
        configuration = self.configuration
        update = parse_update(
            body,
            configuration.get_router_types(),
            node_type=configuration.node_type,
            reads_clients=self._node.reads_accounts,
            reads_pods=configuration.reads_pods,
        )
        self.configuration.apply_update(update, since=since)
        self._node.on_update()
        self._observer_settings.apply(self.configuration.list_middlewares())
        self._node.callers.keep_only(self.configuration.has_service)

    def receive(self, name: str, payload: bytes) -> None:
        """Pass on what a service of the parent has handed to the transport of this name; a failure is only logged.

        The addresses of names are for the configuration.
        """
        if name == NAME_ADDRESSES:
            self._use_addresses(payload)
            return
        transport = self.paths.transport
        if transport is None or transport.name != name:
            _log.error("nothing receives what the node hands to transport %s", name)
            return
        try:
            self.paths.receive(payload)
        except Exception:  # the transport is a plugin's
            _log.exception("transport %s failed to use what the node has handed to it", name)

    def _use_addresses(self, payload: bytes) -> None:
        try:
            self.configuration.apply_addresses(decode_addresses(payload))
        except (msgspec.DecodeError, UpdateRejectedError) as error:
            _log.error("the addresses of names cannot be used: %s", error)
            return
        self._node.on_update()

    def settle(self) -> None:
        """Release shared memory that former workers of this slot used; called when all middlewares are built."""
        self._memory.settle()

    async def listen(self, entrypoint: WantedEntrypoint, descriptors: Sequence[int]) -> None:
        """Serve an entrypoint on sockets, which this object then owns; raises OSError."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        handler = self._serving.get(entrypoint.protocol)
        if handler is None or entrypoint in self._listening:
            for sock in sockets:
                sock.close()
            raise OSError(f"protocol {entrypoint.protocol} cannot listen on {entrypoint.port}")
        self._listening[entrypoint] = await listen_on(handler, sockets, entrypoint.port)

    async def unlisten(self, entrypoint: WantedEntrypoint) -> None:
        """Accept all waiting clients of an entrypoint, then close it."""
        opened = self._listening.pop(entrypoint, None)
        if opened is not None:
            await close_listening([opened])

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics of all protocols and middlewares."""
        families = [family for handler in self._serving.values() for family in handler.collect_metrics()]
        families += [family for factory in self._counting for family in factory.collect_metrics()]
        node = self._node
        return [
            *families,
            node.failures.collect(),
            *node.callers.collect_metrics(),
            *node.observers.collect_metrics(),
            *self.paths.collect_metrics(),
            *self.loop_watch.collect_metrics(),
            *collect_worker_metrics(node.slot),
        ]

    def build_report(self, name: str) -> bytes | None:
        """Return the report of this name as JSON; None if no plugin makes it."""
        factory = self._reporting.get(name)
        return None if factory is None else bytes(factory.build_report())

    async def drain(self, on_waiting: Callable[[Mapping[str, int]], None]) -> None:
        """Accept all waiting clients, then stop accepting, and wait until all connections have ended.

        If this takes any time, `on_waiting` is called once with the number of connections by protocol.
        """
        opened = list(self._listening.values())
        self._listening.clear()
        await close_listening(opened)
        for handler in self._serving.values():
            handler.start_draining()
        if self._count_under_way():
            await asyncio.sleep(DRAIN_POLL_S)  # idle connections close in the next turns of the loop
        if waiting := self._count_under_way():
            on_waiting(waiting)
        while self._count_under_way():  # noqa: ASYNC110 - handlers only offer a check
            await asyncio.sleep(DRAIN_POLL_S)

    def _count_under_way(self) -> dict[str, int]:
        """Count connections by protocol; a protocol that does not count them, but is not drained, counts as 1."""
        return {
            name: max(1, getattr(handler, "count_under_way", lambda: 1)())
            for name, handler in self._serving.items()
            if not handler.is_drained()
        }

    async def abort(self) -> None:
        """Abort all connections, and close everything."""
        for opened in self._listening.values():
            opened.close()
        self._listening.clear()
        for handler in self._serving.values():
            handler.abort()
        await asyncio.sleep(0)  # tunnels end, and are reported, in the next turn of the loop
        self._node.observers.close()
        self._node.close()
        self._clock.close()
        self._memory.close()
        await asyncio.sleep(0)  # aborted transports close in the next turn of the loop


def close_descriptors(descriptors: Iterable[int]) -> None:
    """Close received descriptors that are not used."""
    for descriptor in descriptors:
        os.close(descriptor)


def _find_transport(node: NodeView, plugins: Plugins) -> Transport | None:
    """Return the enabled transport, if there is one. Raises PluginError if there are two."""
    found: list[Transport] = plugins.collect("maesh_transports", node=node)
    if len(found) > 1:
        claimants = " and ".join(plugins.describe(each) for each in found[:2])
        raise PluginError(f"both {claimants} provide a transport, but at most one can be enabled")
    return found[0] if found else None


def _build_handlers(node: NodeView, plugins: Plugins, balancers: BalancerKinds) -> Mapping[str, ProtocolHandler]:
    given: Mapping[str, ProtocolHandler] = _index(
        "protocol",
        [(each.name, each) for each in plugins.collect("maesh_protocol_handlers", node=node)],
        plugins.describe,
    )
    node.http = HttpHandler(
        node.settings,
        node.clock,
        balancers=balancers,
        failures=node.failures,
        callers=node.callers,
        observers=node.observers,
        paths=node.paths,
    )
    core: tuple[ProtocolHandler, ...] = (node.http, TcpHandler(node, node.paths))
    for handler in core:
        if handler.name in given:
            claimant = plugins.describe(given[handler.name])
            raise PluginError(f"protocol {handler.name} belongs to the core, but {claimant} claims it too")
    return {**{handler.name: handler for handler in core}, **given}


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
