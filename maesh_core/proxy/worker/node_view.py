"""The view of the process and its node for a plugin's half in the proxy.

Created once per worker, in its event loop. Implements `node.Node`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from maesh_core.model.keys import cut_port_key
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.model.transport import CLEAR, LOCAL
from maesh_core.plugin_system.node import StreamServer
from maesh_core.plugin_system.request_sources import SourceReader
from maesh_core.plugin_system.transports import (
    Delivery,
    DeliveryVerdict,
    OutgoingProtocol,
    Refusal,
    TunnelRules,
    Tunnels,
)
from maesh_core.proxy.balancing.health import build_passive_health
from maesh_core.proxy.callers import CallerCounts
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.network.edges import EdgePoller
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.proxy.routing.request_sources import RequestSources
from maesh_core.proxy.routing.streams import Streams
from maesh_core.proxy.transport.deliveries import Deliveries
from maesh_core.proxy.transport.paths import UDP, Paths
from maesh_core.proxy.worker.memory import SharedRegion, WorkerMemory
from maesh_core.proxy.worker.recent_counts import RecentCounts
from maesh_core.settings import ProxySettings

if TYPE_CHECKING:  # only a proxy with a transport loads the engine
    from maesh_core.proxy.http.handler import HttpHandler
    from maesh_core.proxy.tunnel.engine import TunnelEngine


class NodeView:
    """One worker's view of its node."""

    __slots__ = (
        "_engines",
        "_memory",
        "_sockets",
        "callers",
        "clock",
        "deliveries",
        "failures",
        "http",
        "observers",
        "paths",
        "pod_names",
        "reads_accounts",
        "request_sources",
        "settings",
    )

    def __init__(self, settings: ProxySettings, clock: Clock, memory: WorkerMemory | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.failures = MiddlewareFailures()
        self.callers = CallerCounts(
            settings.metrics_client_limit, lambda: clock.now, has_durations=settings.metrics_fine_durations
        )
        self.observers = Observers()
        self.paths = Paths(settings.node, clock)
        """Replaced at start if a transport is enabled."""
        self.deliveries: Deliveries | None = None
        """Set at start if a transport is enabled."""
        self.http: HttpHandler | None = None
        """Set at start."""
        self._engines: list[TunnelEngine] = []
        self.pod_names: CurrentPodNames | None = None
        """Set at start if a plugin uses the names of pods."""
        self.reads_accounts = settings.client_header
        """Whether the accounts of clients are read; plugins may ask for it at start."""
        self.request_sources = RequestSources(self._find_account)
        self._memory = memory or WorkerMemory()
        self._sockets: EdgePoller | None = None

    def __repr__(self) -> str:
        """Show the shared memory."""
        return f"<NodeView {self._memory!r}>"

    @property
    def workers(self) -> int:
        """The number of workers of the node."""
        return self.settings.workers

    @property
    def slot(self) -> int:
        """The number of this worker, from 0; the replacement of a dead worker gets the same number."""
        return self._memory.slot

    @property
    def sockets(self) -> EdgePoller:
        """The watcher of raw sockets, created on first use."""
        if self._sockets is None:
            self._sockets = EdgePoller(asyncio.get_running_loop())
        return self._sockets

    def share(self, name: str, size: int) -> SharedRegion:
        """Return bytes that every worker of the node shares under this name and size; they are zero at first."""
        return self._memory.share(name, size)

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Return counts of the last periods, summed over all workers of the node."""
        return RecentCounts(self, name, bounds=bounds, periods=periods, period_s=period_s)

    @property
    def is_observed(self) -> bool:
        """Whether anything observes traffic."""
        return self.observers.is_active

    def observe(self, record: TrafficRecord) -> None:
        """Pass a record on."""
        self.observers.observe(record)

    def count_connection(self, address: str, service: str) -> None:
        """Count a connection or session of a client address; of a split service, for its service port."""
        self.callers.find(address, cut_port_key(service)).connections += 1

    def count_denial(self, address: str, service: str) -> None:
        """Count that access control denied a connection or session of a client address."""
        self.callers.find(address, cut_port_key(service)).denied += 1

    def count_uncarried(
        self, address: str, service: str, server: StreamServer, *, sessions: int = 0, size_bytes: int = 0
    ) -> str:
        """Count sessions of a client, or their bytes, of a protocol that no transport carries; return the path."""
        if not server.mode:
            return ""
        kind = LOCAL if self.paths.is_local(server.node) else CLEAR
        counter = self.paths.counts.find(service, kind, "" if kind == LOCAL else UDP)
        counter.connections += sessions
        counter.bytes += size_bytes
        if sessions:
            self.callers.find(address, cut_port_key(service)).count_path(kind, sessions)
        return kind

    def follow_pod_names(self) -> CurrentPodNames:
        """Return the names of pods, which are read from now on."""
        if self.pod_names is None:
            self.pod_names = CurrentPodNames()
        return self.pod_names

    def follow_accounts(self) -> None:
        """Read the accounts of clients, if the configuration has them."""
        self.reads_accounts = True

    def build_source_reader(self, sources: Sequence[str]) -> SourceReader | None:
        """Build the function that identifies the client of a request; None for its address."""
        return self.request_sources.build_reader(sources)

    def _find_account(self, address: str) -> str:
        found = self.paths.find_client(address)
        return "" if found is None else found.account

    async def judge_delivery(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether another node may have a connection to a server of this node."""
        if self.deliveries is None:
            return Refusal(503, "this proxy has no transport")
        return await self.deliveries.judge(node, delivery)

    def judge_delivery_again(self, delivery: Delivery) -> DeliveryVerdict:
        """Decide by the current configuration about a connection of another node that is open."""
        if self.deliveries is None:
            return Refusal(503, "this proxy has no transport")
        return self.deliveries.find_verdict(delivery)

    def build_streams(self, build_counters: Callable[[], object]) -> Streams:
        """Build the routes of a stream protocol, with the proxy's settings for passive health."""
        health = build_passive_health(self.settings, self.clock)
        return Streams(health, self.failures, build_counters, guard_kinds=self.paths.remote_guard_kinds)

    def build_tunnels(self, rules: TunnelRules) -> Tunnels:
        """Build the engine of encrypted connections to and from other nodes."""
        from maesh_core.proxy.tunnel.engine import TunnelEngine

        engine = TunnelEngine(self, rules, self.open_delivery)
        self._engines.append(engine)
        return engine

    async def open_delivery(self, delivery: Delivery) -> OutgoingProtocol | Refusal:
        """Build the protocol that serves a connection of another node whose requests must be judged."""
        if self.http is None:
            return Refusal(503, "this proxy has no HTTP engine")
        return await self.http.open_delivery(delivery)

    def on_update(self) -> None:
        """Judge waiting and open connections of other nodes again: the configuration has changed."""
        if self.deliveries is not None:
            self.deliveries.on_update()
        for engine in self._engines:
            engine.review()
        self.paths.review()

    def close(self) -> None:
        """Stop watching sockets."""
        if self._sockets is not None:
            self._sockets.close()
