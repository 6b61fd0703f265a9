"""What every part of one HTTP handler's engine shares: settings, time, rules for servers, who is there, counts.

Made by the handler, and known to all parts; knows none of them but by what it may ask of them. Decides nothing.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from maesh_core.proxy.balancing.health import PassiveHealth
from maesh_core.proxy.http.departures import Departures
from maesh_core.proxy.http.idle_clients import IdleClients, MaybeIdle
from maesh_core.proxy.http.messages.request_head import HeadReaders
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.network.slots import Slots
from maesh_core.settings import CarryingSettings


class Waiting(Protocol):
    """What the sweep looks at: a client's connection, or a tunnel."""

    @property
    def deadline(self) -> float:
        """When its wait is over, by the clock."""

    def on_deadline(self) -> None:
        """End a wait that was too long."""

    def cut(self) -> None:
        """End at once."""


class OpenTunnel(Waiting, Protocol):
    """A tunnel."""

    may_go_on: Callable[[], bool]
    """Asked when another table is in force."""
    has_unread_end: bool
    """Whether an end of it may not be read: it has ended its side, or the other takes nothing."""

    def check(self) -> None:
        """Cut it if an end that is not read was reset."""


class WaitingClient(Waiting, MaybeIdle, Protocol):
    """A client's connection."""

    address: str

    @property
    def exchange(self) -> object:
        """What is under way, or None."""

    def start_draining(self) -> None:
        """Take no request after the current one."""

    def close(self) -> None:
        """Close once everything written has gone out."""


class OpenUpstream(Protocol):
    """A connection to a server."""

    def close(self) -> None:
        """Close at once."""


class PeerWatch(Protocol):
    """Notices that a peer has left while its connection is not read (departures.py)."""

    def watch(self, transport: asyncio.BaseTransport, on_departure: Callable[[bool], None]) -> None:
        """Call `on_departure(is_broken)` when the peer has left."""

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Watch a transport no more."""

    def close(self) -> None:
        """Watch nothing any more."""


class Environment:
    """One engine's surroundings. To be made inside a running event loop."""

    __slots__ = (
        "_accepted",
        "_idle_clients",
        "body_timeout",
        "clients",
        "clock",
        "clock_time",
        "departures",
        "failures",
        "head_readers",
        "health",
        "idle_timeout",
        "is_draining",
        "is_serving_half_closed",
        "refusals",
        "requests",
        "response_timeout",
        "server_name",
        "settings",
        "slots",
        "tls",
        "tunnels",
        "upstreams",
    )

    def __init__(self, settings: CarryingSettings, clock: Clock, failures: MiddlewareFailures | None = None) -> None:
        self.settings = settings
        self.idle_timeout = settings.idle_timeout  # read for every request, which costs less here
        self.body_timeout = settings.body_timeout
        self.response_timeout = settings.response_timeout
        self.failures = failures or MiddlewareFailures()
        self.clock = clock
        self.clock_time = asyncio.get_running_loop().time
        self.health = PassiveHealth(
            self.clock,
            first_pause_s=settings.server_pause if settings.passive_health else 0.0,
            pause_limit_s=settings.server_pause_limit,
        )
        self.tls = UpstreamTls(root_ca=settings.root_ca, is_verifying=not settings.insecure_skip_verify)
        self.head_readers = HeadReaders(settings)
        self.server_name = (settings.node or socket.gethostname()).encode("ascii", "replace")
        self.departures: PeerWatch = Departures()
        self.is_draining = False
        self.is_serving_half_closed = settings.half_closed_clients == "serve"
        self.clients: set[WaitingClient] = set()
        self.slots = Slots()
        self._idle_clients = IdleClients(self.clients, clock)
        self._accepted = 0
        self.upstreams: set[OpenUpstream] = set()
        self.tunnels: set[OpenTunnel] = set()
        self.refusals: dict[int, int] = {}
        self.requests = 0
        """Begun so far, from all clients."""

    def __repr__(self) -> str:
        return (
            f"<Environment clients={len(self.clients)} upstreams={len(self.upstreams)}"
            f" tunnels={len(self.tunnels)} draining={self.is_draining}>"
        )

    def admit(self, client: WaitingClient) -> bool:
        """Give a client that has connected a slot, at the price of an idle one's connection; False if there is none."""
        taken = len(self.clients) + len(self.tunnels)
        if not self.slots.take(client.address, self.settings, taken=taken, evict=self._evict):
            return False
        self._accepted += 1
        client.number = self._accepted
        self.clients.add(client)
        return True

    def forget(self, client: WaitingClient) -> None:
        """Take back the slot of a client that has left; one that was evicted, or never had any, has none."""
        if client in self.clients:
            self.clients.remove(client)
            self.slots.give_back(client.address)

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest; False where none is idle."""
        client = self._idle_clients.pop()
        if client is None:
            return False
        self.forget(client)
        client.close()
        return True

    def count_refusal(self, status: int) -> None:
        """Count bytes that were no request, by the status they were answered with."""
        self.refusals[status] = self.refusals.get(status, 0) + 1

    def sweep(self, now: float) -> None:
        """End the waits that are over."""
        for client in list(self.clients):
            if client.deadline <= now:
                client.on_deadline()
        for tunnel in list(self.tunnels):
            if tunnel.has_unread_end:
                tunnel.check()
            if tunnel.deadline <= now:
                tunnel.on_deadline()
