"""The state that all parts of one HTTP handler share: settings, clock, server health, clients and counters.

The handler creates it and passes it to all parts. It depends on them only through the protocols below, and makes no
decisions about exchanges.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from maesh_core.model.traffic_record import CUT, EXCESS_CLIENT, REFUSED, RecordOutcome, build_record
from maesh_core.proxy.balancing.health import build_passive_health
from maesh_core.proxy.callers import CallerCounts, EntrypointCounter
from maesh_core.proxy.http.collected import Collected
from maesh_core.proxy.http.copies import Copies
from maesh_core.proxy.http.idle_clients import EvictableClient, IdleClients
from maesh_core.proxy.http.messages.forwarding import AccountFields, ForwardedFields
from maesh_core.proxy.http.messages.request_parsing import HeadReaders
from maesh_core.proxy.http.peer_watch import EpollPeerWatch
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.network.slots import Slots
from maesh_core.proxy.network.time_limits import TimeLimits
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.transport.paths import Paths
from maesh_core.settings import CarryingSettings


class Expiring(Protocol):
    """What the sweep checks: a client connection or a tunnel."""

    @property
    def deadline(self) -> float:
        """The clock's time at which its current wait ends."""

    def on_deadline(self) -> None:
        """End a wait that took too long."""

    def abort(self) -> None:
        """Abort at once."""


class OpenTunnel(Expiring, Protocol):
    """An open tunnel."""

    find_revocation: Callable[[], str]
    """Called after another routing table was applied: why the tunnel is no longer allowed; empty if it is."""
    server_key: object
    is_in_clear: bool
    has_unread_end: bool
    """Whether an end may be unread: it has closed its side, or the other end is slower."""

    def abort(self, reason: str = CUT) -> None:
        """Abort at once; `reason` is the one in the record."""

    def check(self) -> None:
        """Abort the tunnel if an end that is not read was reset."""


class ExpiringClient(Expiring, EvictableClient, Protocol):
    """A client connection."""

    address: str
    entrypoint: int

    def list_exchanges(self) -> Sequence[object]:
        """Return the exchanges in progress."""

    def start_draining(self) -> None:
        """Accept no request after the current one."""

    def close(self) -> None:
        """Close once all written bytes are sent."""


class OpenUpstream(Protocol):
    """A connection to a server."""

    def close(self) -> None:
        """Close at once."""


class CheckedUpstream(Protocol):
    """A connection to a server whose waits end by themselves."""

    def check(self, now: float) -> None:
        """End the waits whose deadline has passed."""


class PeerWatch(Protocol):
    """Detects that a peer has left while its connection is not read (peer_watch.py)."""

    def watch(self, transport: asyncio.BaseTransport, on_peer_left: Callable[[bool], None]) -> None:
        """Call `on_peer_left(is_broken)` when the peer has left."""

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Stop watching a transport."""

    def close(self) -> None:
        """Stop watching all transports."""


class LimitedExchange(Protocol):
    """An exchange with a time-out."""

    def on_exchange_limit(self) -> None:
        """End because the time-out of the exchange is over."""


class LimitedAttempt(Protocol):
    """An attempt with time-outs: until the head of its response, and until its end."""

    def on_head_limit(self) -> None:
        """Fail because there is no response head in time."""

    def on_total_limit(self) -> None:
        """Fail or cut the response, because it is not complete in time."""


def _end_exchange(exchange: LimitedExchange) -> None:
    exchange.on_exchange_limit()


def _end_head(attempt: LimitedAttempt) -> None:
    attempt.on_head_limit()


def _end_total(attempt: LimitedAttempt) -> None:
    attempt.on_total_limit()


class Environment:
    """The shared state of one handler. Create it inside a running event loop."""

    __slots__ = (
        "_accepted",
        "_idle_clients",
        "body_timeout",
        "callers",
        "checked_upstreams",
        "clients",
        "clock",
        "clock_time",
        "collected",
        "copies",
        "entrypoint_counters",
        "exchange_limits",
        "failures",
        "head_limits",
        "head_readers",
        "health",
        "idle_timeout",
        "is_draining",
        "is_ending",
        "is_serving_half_closed",
        "last_outcome",
        "observers",
        "paths",
        "peer_watch",
        "refusals",
        "response_timeout",
        "server_name",
        "settings",
        "slots",
        "tls",
        "total_limits",
        "tunnels",
        "upstreams",
        "wall_offset_s",
    )

    def __init__(
        self,
        settings: CarryingSettings,
        clock: Clock,
        failures: MiddlewareFailures | None = None,
        *,
        callers: CallerCounts | None = None,
        observers: Observers | None = None,
        paths: Paths | None = None,
    ) -> None:
        self.settings = settings
        self.paths = paths or Paths(settings.node, clock)
        self.callers = callers or CallerCounts(
            settings.metrics_client_limit, lambda: clock.now, has_durations=settings.metrics_fine_durations
        )
        self.observers = observers or Observers()
        self.idle_timeout = settings.idle_timeout  # a copy, since reading it here is cheaper for each request
        self.body_timeout = settings.body_timeout
        self.response_timeout = settings.response_timeout
        self.failures = failures or MiddlewareFailures()
        self.clock = clock
        self.clock_time = time.monotonic  # uvloop's own time counts whole milliseconds
        self.wall_offset_s = time.time() - self.clock_time()
        """Seconds to add to the clock's time to get the Unix time."""
        self.last_outcome: RecordOutcome | None = None
        """That of the last record: most records have the same one."""
        self.exchange_limits = TimeLimits(_end_exchange, self.read_time)
        self.head_limits = TimeLimits(_end_head, self.read_time)
        self.total_limits = TimeLimits(_end_total, self.read_time)
        self.health = build_passive_health(settings, self.clock)
        self.tls = UpstreamTls(
            root_ca=settings.root_ca, is_verifying=not settings.insecure_skip_verify, offers_http2=settings.http2
        )
        self.head_readers = HeadReaders(settings)
        self.server_name = (settings.node or socket.gethostname()).encode("ascii", "replace")
        self.peer_watch: PeerWatch = EpollPeerWatch()
        self.is_draining = False
        self.is_ending = False
        """Whether all connections are being aborted, because the proxy ends."""
        self.is_serving_half_closed = settings.half_closed_clients == "serve"
        self.clients: set[ExpiringClient] = set()
        self.slots = Slots()
        self._idle_clients = IdleClients(self.clients, clock)
        self._accepted = 0
        self.upstreams: set[OpenUpstream] = set()
        self.checked_upstreams: set[CheckedUpstream] = set()
        self.tunnels: set[OpenTunnel] = set()
        self.collected = Collected()
        self.copies = Copies()
        self.refusals: dict[int, int] = {}
        self.entrypoint_counters: dict[int, EntrypointCounter] = {}

    def __repr__(self) -> str:
        return (
            f"<Environment clients={len(self.clients)} upstreams={len(self.upstreams)}"
            f" tunnels={len(self.tunnels)} draining={self.is_draining}>"
        )

    def read_time(self) -> float:
        """Read the time of the event loop, in seconds."""
        return self.clock_time()

    @property
    def requests(self) -> int:
        """The number of requests started so far, from all clients."""
        return sum([counter.requests for counter in self.entrypoint_counters.values()])

    def find_entrypoint_counter(self, entrypoint: int) -> EntrypointCounter:
        """Return the counter of an entrypoint, for its connections; create it if there is none."""
        counter = self.entrypoint_counters.get(entrypoint)
        if counter is None:
            counter = self.entrypoint_counters[entrypoint] = EntrypointCounter()
        return counter

    def add_account(self, fields: ForwardedFields, address: str) -> ForwardedFields:
        """Add the verified account of a client to its fields, with `--client-header`."""
        return AccountFields(fields, address, self.paths.find_client) if self.settings.client_header else fields

    def admit(self, client: ExpiringClient) -> bool:
        """Assign a slot to a new client, evicting an idle one if necessary; return False if no slot is free."""
        taken = len(self.clients) + len(self.tunnels)
        if not self.slots.acquire(client.address, self.settings, taken=taken, evict=self._evict):
            self._report_refusal(client.address, client.entrypoint, 0, EXCESS_CLIENT, "TCP")
            return False
        self._accepted += 1
        client.number = self._accepted
        self.clients.add(client)
        return True

    def replace(self, client: ExpiringClient, successor: ExpiringClient) -> None:
        """Pass a client's slot on to the object that continues its connection."""
        successor.number = client.number
        self.clients.discard(client)
        self.clients.add(successor)

    def forget(self, client: ExpiringClient) -> None:
        """Release the slot of a client that has left, unless it was evicted or had none."""
        if client in self.clients:
            self.clients.remove(client)
            self.slots.release(client.address)

    def _evict(self) -> bool:
        """Close the connection that has been idle longest; return False if none is idle."""
        client = self._idle_clients.pop()
        if client is None:
            return False
        self.forget(client)
        client.close()
        return True

    def count_refusal(self, status: int) -> None:
        """Count a refused request by the status of its answer."""
        self.refusals[status] = self.refusals.get(status, 0) + 1

    def refuse(self, address: str, entrypoint: int, status: int, reason: str, protocol: str) -> None:
        """Count a client's bytes that are not a request, and report them."""
        self.count_refusal(status)
        self._report_refusal(address, entrypoint, status, reason, protocol)

    def _report_refusal(self, address: str, entrypoint: int, status: int, reason: str, protocol: str) -> None:
        if self.observers.is_active:
            self.observers.observe(
                build_record(
                    REFUSED,
                    started_at=time.time(),
                    duration_s=0.0,
                    client=address,
                    entrypoint=entrypoint,
                    protocol=protocol,
                    status=status,
                    reason=reason,
                )
            )

    def sweep(self, now: float) -> None:
        """End the waits whose deadline has passed."""
        self.wall_offset_s = time.time() - self.clock_time()
        for client in list(self.clients):
            if client.deadline <= now:
                client.on_deadline()
        for upstream in list(self.checked_upstreams):
            upstream.check(now)
        if self.copies.open:
            self.copies.sweep(now)
        for tunnel in list(self.tunnels):
            if tunnel.has_unread_end:
                tunnel.check()
            if tunnel.deadline <= now:
                tunnel.on_deadline()
