"""What a middleware meets, without a mesh: an exchange whose state a test sets, a node whose clock it moves."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maesh_core.model.keys import cut_port_key
from maesh_core.model.messages import Update
from maesh_core.model.traffic_record import TrafficRecord
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
from maesh_core.proxy.balancing.health import PassiveHealth
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.edges import EdgePoller
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.proxy.routing.request_sources import RequestSources
from maesh_core.proxy.routing.streams import Streams
from maesh_core.proxy.worker.memory import SharedRegion, WorkerMemory
from maesh_core.proxy.worker.recent_counts import RecentCounts
from maesh_core.settings import ProxySettings


class FakeExchange:
    """Implements `interfaces.Exchange`; every attribute can be set. `headers` are those that the client sent.

    The headers are those of the proxy itself, so what it would refuse to send raises here too.
    """

    def __init__(
        self,
        method: bytes = b"GET",
        target: bytes = b"/",
        *,
        host: bytes = b"app.test.maesh",
        client_address: str = "127.0.0.1",
        headers: Mapping[bytes, bytes] | None = None,
        status: int = 0,
        attempts: int = 0,
        attempt_seconds: float = 0.0,
        can_repeat: bool = True,
        service: str = "test/app:80",
        destination: str = "",
        is_grpc: bool = False,
        grpc_status: int | None = None,
        protocol: str = "HTTP/1.1",
        reason: str = "",
        server: tuple[str, int] | None = None,
        part: str = "",
        has_body: bool = False,
        response_length: int | None = None,
    ) -> None:
        head = b"".join(b"%b: %b\r\n" % each for each in (headers or {}).items())
        self.method, self.target, self.host = method, target, host
        self.client_address, self.service = client_address, service
        self.client_headers = Headers(b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, head))
        self.request_headers = Headers(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, head))
        self.response_headers = Headers()
        self.status, self.attempts, self.attempt_seconds = status, attempts, attempt_seconds
        self.can_repeat = can_repeat
        self.is_grpc, self.grpc_status = is_grpc, grpc_status
        self.protocol, self.reason, self.server = protocol, reason, server
        self.server_path = ""
        self.has_body, self.response_length = has_body, response_length
        self.attempt_timeout_s = 0.0
        self.destination = destination or service
        self.part = part
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        self.would_deny, self.is_delivered = "", False
        self.exemplars: list[str] = []
        self.timeout_s = self.attempt_total_s = 0.0
        self.new_target = self.new_host = b""
        self.preferred_server: tuple[str, int] | None = None
        self.copies: list[tuple[str, bytes]] = []
        """What `send_copy` was called with."""
        self.sends_copies = True

    def add_exemplar(self, trace_id: str) -> None:
        """Remember the trace."""
        self.exemplars.append(trace_id)

    def send_copy(self, service: str, body: bytes) -> bool:
        """Remember the copy in `copies`; with `sends_copies` False, drop it."""
        if self.sends_copies:
            self.copies.append((service, body))
        return self.sends_copies

    def head_matches(self, search: Callable[[bytes], object]) -> bool:
        """Search the client's fields."""
        return search(b"".join(b"\r\n%b: %b" % field for field in self.client_headers.items())) is not None

    def __repr__(self) -> str:
        return f"<FakeExchange {self.method.decode()} {self.target!r} {self.status}>"


@dataclass
class FakeClock:
    """Implements `node.Ticks`: its time moves only by `FakeNode.pass_time`."""

    now: float = 1000.0
    sweeps: list[Callable[[float], None]] = field(default_factory=list)

    def add_sweep(self, sweep: Callable[[float], None]) -> None:
        """Call `sweep(now)` whenever time passes."""
        self.sweeps.append(sweep)


class FakeNode:
    """Implements `node.Node`: the first worker of a node; `get_worker` gives the others, in this same process."""

    def __init__(self, workers: int = 1, settings: ProxySettings | None = None) -> None:
        self.settings: Any = settings or ProxySettings()
        self.workers, self.slot = workers, 0
        self.clock = FakeClock()
        self._memory = WorkerMemory()
        self._failures = MiddlewareFailures()
        self._sockets: EdgePoller | None = None
        self.is_observed = True
        self.records: list[TrafficRecord] = []
        """What was observed, in order."""
        self.guard_kinds: Collection[str] = ()
        """The kinds of middlewares that decide about access; a proxy has some only with a transport."""
        self.refusals: dict[str, DeliveryVerdict] = {}
        """What `judge_delivery` answers, by service."""
        self.pod_names = CurrentPodNames(self.read_time)
        """The names of pods; `set_pod_names` sets them."""
        self.accounts: dict[str, str] = {}
        """The service accounts of clients, `name@namespace`, by address."""
        self.request_sources = RequestSources(lambda address: self.accounts.get(address, ""))
        """The sources that requests have; those of plugins can be set in `plugin_sources`."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """Connections and sessions by client address and service."""
        self.denials: Counter[tuple[str, str]] = Counter()
        """Those that were denied."""
        self.uncarried: Counter[tuple[str, str]] = Counter()
        """What `count_uncarried` has counted, by service: `sessions` and `bytes`."""

    def __repr__(self) -> str:
        return f"<FakeNode worker {self.slot} of {self.workers} at {self.clock.now:g}>"

    def get_worker(self, slot: int) -> "FakeNode":
        """Return the node as the worker of another slot sees it: the same clock, and the same shared bytes."""
        other = FakeNode(self.workers, self.settings)
        other.slot, other.clock, other._memory = slot, self.clock, self._memory
        return other

    def read_time(self) -> float:
        """Return the time, in place of `time.monotonic`."""
        return self.clock.now

    def pass_time(self, seconds: float) -> None:
        """Let time pass, at once."""
        self.clock.now += seconds
        for sweep in self.clock.sweeps:
            sweep(self.clock.now)

    def share(self, name: str, size: int) -> SharedRegion:
        """Return bytes that every worker of this node sees under this name and size, zeros again once nobody does."""
        return self._memory.share(name, size)

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Return counts of the last periods, of all workers of this node."""
        return RecentCounts(self, name, bounds=bounds, periods=periods, period_s=period_s)

    @property
    def sockets(self) -> EdgePoller:
        """Return what watches raw sockets in the running event loop; `close` ends it."""
        if self._sockets is None:
            self._sockets = EdgePoller(asyncio.get_running_loop())
        return self._sockets

    def observe(self, record: TrafficRecord) -> None:
        """Keep a record in `records`."""
        self.records.append(record)

    def count_connection(self, address: str, service: str) -> None:
        """Count in `calls`."""
        self.calls[address, cut_port_key(service)] += 1

    def follow_pod_names(self) -> CurrentPodNames:
        """Return the names of pods."""
        return self.pod_names

    def set_pod_names(self, names: Mapping[str, str]) -> None:
        """Replace the names of pods by these, by address; they change at the time of the clock."""
        self.pod_names.apply(Update(revision="", full=True, pods=names))

    def follow_accounts(self) -> None:
        """Do nothing: `accounts` has them."""

    def build_source_reader(self, sources: Sequence[str]) -> SourceReader | None:
        """Build the function that identifies the client of a request."""
        return self.request_sources.build_reader(sources)

    def count_denial(self, address: str, service: str) -> None:
        """Count in `denials`."""
        self.denials[address, cut_port_key(service)] += 1

    def count_uncarried(
        self, address: str, service: str, server: StreamServer, *, sessions: int = 0, size_bytes: int = 0
    ) -> str:
        """Count in `uncarried`, if the service has encryption."""
        if not server.mode:
            return ""
        self.uncarried[cut_port_key(service), "sessions"] += sessions
        self.uncarried[cut_port_key(service), "bytes"] += size_bytes
        return "clear"

    async def judge_delivery(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Allow what is not refused in `refusals`, by service."""
        return self.judge_delivery_again(delivery)

    def judge_delivery_again(self, delivery: Delivery) -> DeliveryVerdict:
        """Allow what is not refused in `refusals`, by service."""
        return self.refusals.get(delivery.service)

    async def open_delivery(self, delivery: Delivery) -> OutgoingProtocol | Refusal:
        """Refuse: a double has no HTTP engine."""
        return Refusal(503, "this proxy has no HTTP engine")

    def build_streams(self, build_counters: Callable[[], object]) -> Streams:
        """Build the routes of a stream protocol, as a proxy has them; a server is set aside for a second."""
        health = PassiveHealth(self.clock, first_pause_s=1.0, pause_limit_s=30.0)
        return Streams(health, self._failures, build_counters, guard_kinds=self.guard_kinds)

    def build_tunnels(self, rules: TunnelRules) -> Tunnels:
        """Build the engine of encrypted connections between nodes, as a proxy has it."""
        from maesh_core.proxy.tunnel.engine import TunnelEngine

        return TunnelEngine(self, rules)

    def close(self) -> None:
        """Watch no socket any more."""
        if self._sockets is not None:
            self._sockets.close()
