"""The traffic of one worker: the handlers of all protocols, their configuration, and their listeners.

Takes settings, loaded plugins, updates and sockets; returns the entrypoints to open, and metrics. It knows neither the
parent nor the source of an update. Create it in the event loop.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.messages import parse_update
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.names import NAME_ADDRESSES, decode_addresses
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.worker.listening import Listening, close_listening, listen_on
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.parts import Plugins, build_parts
from maesh_core.proxy.worker.resource_metrics import collect_worker_metrics
from maesh_core.settings import ProxySettings

_log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.02
"""The interval at which a drain checks whether the protocols are drained."""


class WorkerRuntime:
    """The traffic of one worker, from its first update to the end of its drain. The constructor raises PluginError."""

    __slots__ = ("_listening", "_parts", "_stack", "configuration")

    def __init__(self, settings: ProxySettings, plugins: Plugins, memory: WorkerMemory) -> None:
        self._stack = AsyncExitStack()
        self._parts = build_parts(settings, plugins, memory, self._stack)
        self.configuration = self._parts.configuration
        self._listening: dict[WantedEntrypoint, Listening] = {}
        self._stack.callback(self._close_listening)
        self._parts.loop_watch.start()

    def __repr__(self) -> str:
        """Show the current configuration."""
        return f"<WorkerRuntime {self.configuration!r}, {len(self._listening)} entrypoints>"

    @property
    def observers(self) -> Observers:
        """The observers of this worker's traffic."""
        return self._parts.node.observers

    def apply_update(self, body: bytes, since: str | None) -> None:
        """Apply an update; if it raises UpdateRejectedError, nothing has changed."""
        configuration = self.configuration
        update = parse_update(
            body,
            configuration.get_router_types(),
            node_type=configuration.node_type,
            reads_clients=self._parts.node.reads_accounts,
            reads_pods=configuration.reads_pods,
        )
        self.configuration.apply_update(update, since=since)
        self._parts.node.on_update()
        self._parts.observer_settings.apply(self.configuration.list_middlewares())
        self._parts.node.callers.keep_only(self.configuration.has_service)

    def receive(self, name: str, payload: bytes) -> None:
        """Pass on what a service of the parent has handed to the transport of this name; a failure is only logged.

        The addresses of names are for the configuration.
        """
        if name == NAME_ADDRESSES:
            self._use_addresses(payload)
            return
        transport = self._parts.node.paths.transport
        if transport is None or transport.name != name:
            _log.error("nothing receives what the node hands to transport %s", name)
            return
        try:
            self._parts.node.paths.receive(payload)
        except Exception:  # the transport is a plugin's
            _log.exception("transport %s failed to use what the node has handed to it", name)

    def _use_addresses(self, payload: bytes) -> None:
        try:
            self.configuration.apply_addresses(decode_addresses(payload))
        except (msgspec.DecodeError, UpdateRejectedError) as error:
            _log.error("the addresses of names cannot be used: %s", error)
            return
        self._parts.node.on_update()

    def settle(self) -> None:
        """Release shared memory that former workers of this slot used; called when all middlewares are built."""
        self._parts.memory.settle()

    async def listen(self, entrypoint: WantedEntrypoint, descriptors: Sequence[int]) -> None:
        """Serve an entrypoint on sockets, which this object then owns; raises OSError."""
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        handler = self._parts.serving.get(entrypoint.protocol)
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
        families = [family for handler in self._parts.serving.values() for family in handler.collect_metrics()]
        for factory in self._parts.factories.values():
            if collect := getattr(factory, "collect_metrics", None):
                families += collect()
        node = self._parts.node
        return [
            *families,
            node.failures.collect(),
            *node.callers.collect_metrics(),
            *node.observers.collect_metrics(),
            *node.paths.collect_metrics(),
            *self._parts.loop_watch.collect_metrics(),
            *collect_worker_metrics(node.slot),
        ]

    def build_report(self, name: str) -> bytes | None:
        """Return the report of this name as JSON; None if no plugin makes it."""
        factory = self._parts.reporting.get(name)
        return None if factory is None else bytes(factory.build_report())

    async def drain(self, on_waiting: Callable[[Mapping[str, int]], None]) -> None:
        """Accept all waiting clients, then stop accepting, and wait until all connections have ended.

        If this takes any time, `on_waiting` is called once with the number of connections by protocol.
        """
        opened = list(self._listening.values())
        self._listening.clear()
        await close_listening(opened)
        for handler in self._parts.serving.values():
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
            for name, handler in self._parts.serving.items()
            if not handler.is_drained()
        }

    async def abort(self) -> None:
        """Abort all connections, and close everything."""
        await self._stack.aclose()
        await asyncio.sleep(0)  # aborted transports close in the next turn of the loop

    def _close_listening(self) -> None:
        for opened in self._listening.values():
            opened.close()
        self._listening.clear()


def close_descriptors(descriptors: Iterable[int]) -> None:
    """Close received descriptors that are not used."""
    for descriptor in descriptors:
        os.close(descriptor)
