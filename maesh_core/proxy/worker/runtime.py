"""What carries the traffic in one worker: the handlers of all protocols, their configuration, their listeners.

Takes settings, loaded plugins, updates and sockets; gives what there should be to listen on, and counters. Knows
neither the parent nor where an update came from. Made in the event loop.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.errors import PluginError
from maesh_core.model.messages import parse_update
from maesh_core.model.metrics import MetricFamily
from maesh_core.plugin_system.hookspecs import MiddlewareFactory, ProtocolHandler
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.proxy.worker.listening import Listening, close_listening, listen_on
from maesh_core.proxy.worker.loop_watch import LoopWatch
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.node_view import NodeView
from maesh_core.settings import ProxySettings

DRAIN_POLL_S = 0.02
"""How often the protocols are asked whether they are drained."""


class Plugins(Protocol):
    """The enabled plugins, loaded."""

    guards: tuple[str, ...]
    """Names of those that decide who may reach services."""

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Give what every implementation of a hook returned."""

    def describe(self, provided: object) -> str:
        """Name the plugin that returned an object from a hook."""


class WorkerRuntime:
    """The traffic of one worker, from its first update to the end of its drain. Raises PluginError when made."""

    __slots__ = ("_clock", "_counting", "_handlers", "_listening", "_memory", "_node", "configuration", "loop_watch")

    def __init__(self, settings: ProxySettings, plugins: Plugins, memory: WorkerMemory) -> None:
        self._memory = memory
        self._clock = Clock(asyncio.get_running_loop())
        self.loop_watch = LoopWatch(asyncio.get_running_loop())
        self._node = node = NodeView(settings, self._clock, memory)
        balancers = BalancerKinds(
            _index(
                "load balancer",
                [(each.name, each) for each in plugins.collect("maesh_balancer_factories", node=node)],
                plugins.describe,
            )
        )
        self._handlers = _build_handlers(node, plugins, balancers)
        factories: Mapping[str, MiddlewareFactory] = _index(
            "middleware kind",
            [(each.kind, each) for each in plugins.collect("maesh_middleware_factories", node=node)],
            plugins.describe,
        )
        self._counting: list[Any] = [each for each in factories.values() if getattr(each, "collect_metrics", None)]
        self.configuration = RoutingConfiguration(self._handlers, factories, guards=plugins.guards, balancers=balancers)
        self._listening: dict[WantedEntrypoint, Listening] = {}

    def __repr__(self) -> str:
        """Show what is in force."""
        return f"<WorkerRuntime {self.configuration!r}, {len(self._listening)} entrypoints>"

    def apply_update(self, body: bytes, since: str | None) -> None:
        """Put an update in force, as it was pulled; raises UpdateRejectedError and changes nothing."""
        update = parse_update(body, self.configuration.get_router_types())
        self.configuration.apply_update(update, since=since)

    def settle(self) -> None:
        """Let go of what former workers of this slot shared, and this one does not: all middlewares are built."""
        self._memory.settle()

    async def listen(self, entrypoint: WantedEntrypoint, descriptors: Sequence[int]) -> None:
        """Serve an entrypoint on sockets, which this now owns; raises OSError."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        handler = self._handlers.get(entrypoint.protocol)
        if handler is None or entrypoint in self._listening:
            for sock in sockets:
                sock.close()
            raise OSError(f"protocol {entrypoint.protocol} cannot listen on {entrypoint.port}")
        self._listening[entrypoint] = await listen_on(handler, sockets, entrypoint.port)

    async def unlisten(self, entrypoint: WantedEntrypoint) -> None:
        """Accept what waits on an entrypoint, and close it."""
        opened = self._listening.pop(entrypoint, None)
        if opened is not None:
            await close_listening([opened])

    def collect_metrics(self) -> list[MetricFamily]:
        """Read the counters of every protocol."""
        families = [family for handler in self._handlers.values() for family in handler.collect_metrics()]
        families += [family for factory in self._counting for family in factory.collect_metrics()]
        return [*families, self._node.failures.collect(), *self.loop_watch.collect_metrics()]

    async def drain(self, on_waiting: Callable[[Mapping[str, int]], None]) -> None:
        """Accept what waits, then nothing more, and wait until all that is under way has ended.

        If that takes any time, `on_waiting` is told once what is under way still, by protocol.
        """
        opened = list(self._listening.values())
        self._listening.clear()
        await close_listening(opened)
        for handler in self._handlers.values():
            handler.start_draining()
        if self._count_under_way():
            await asyncio.sleep(DRAIN_POLL_S)  # what was idle closes in the next rounds of the loop
        if waiting := self._count_under_way():
            on_waiting(waiting)
        while self._count_under_way():  # noqa: ASYNC110 - it is the hook
            await asyncio.sleep(DRAIN_POLL_S)

    def _count_under_way(self) -> dict[str, int]:
        """Count what is not drained, by protocol; what does not count its connections has one."""
        return {
            name: max(1, getattr(handler, "count_under_way", lambda: 1)())
            for name, handler in self._handlers.items()
            if not handler.is_drained()
        }

    async def abort(self) -> None:
        """Cut everything."""
        for opened in self._listening.values():
            opened.close()
        self._listening.clear()
        for handler in self._handlers.values():
            handler.abort()
        self._node.close()
        self._clock.close()
        self._memory.close()
        await asyncio.sleep(0)  # transports that were aborted close in the next round of the loop


def close_descriptors(descriptors: Iterable[int]) -> None:
    """Close what came along and is not used."""
    for descriptor in descriptors:
        os.close(descriptor)


def _build_handlers(node: NodeView, plugins: Plugins, balancers: BalancerKinds) -> Mapping[str, ProtocolHandler]:
    given: Mapping[str, ProtocolHandler] = _index(
        "protocol",
        [(each.name, each) for each in plugins.collect("maesh_protocol_handlers", node=node)],
        plugins.describe,
    )
    core: tuple[ProtocolHandler, ...] = (
        HttpHandler(node.settings, node.clock, balancers=balancers, failures=node.failures),
        TcpHandler(node),
    )
    for handler in core:
        if handler.name in given:
            claimant = plugins.describe(given[handler.name])
            raise PluginError(f"protocol {handler.name} is the core's, and {claimant} claims it too")
    return {**{handler.name: handler for handler in core}, **given}


def _index(noun: str, named: Iterable[tuple[str, Any]], describe: Callable[[object], str]) -> dict[str, Any]:
    """Sort by name what plugins gave; two of one name are an error."""
    found: dict[str, Any] = {}
    for name, value in sorted(named, key=lambda pair: pair[0]):
        if name in found:
            raise PluginError(f"{noun} {name} is claimed by both {describe(found[name])} and {describe(value)}")
        found[name] = value
    return found
