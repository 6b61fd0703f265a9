"""One server of HTTP services: its pool of idle connections, and those that are being made (connecting.py).

Takes a receiver that wants a connection; passes it one, or the error that says why there is none. It does not know
what goes over a connection.
"""

from typing import Final

from maesh_core.proxy.balancing.health import Aside
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.upstreams.connecting import ConnectablePool, PendingConnection
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver

IDLE_LIMIT: Final = 1024
"""Idle connections kept to one server. Maesh 1.2 kept 200; with fewer than there are requests under way, each request
more pays a connect, and 2,000 clients of two servers waited four times as long for the slowest hundredth."""


class HttpServer(ConnectablePool):
    """One server's address and the connections to it.

    `uses` counts the services that have it; `opened` the connections that are open or being made, idle ones too. Each
    connection counts itself there, once, from when it is made to its end or its tunnel's (upstream_connection.py).
    """

    __slots__ = ("_connecting", "aside", "environment", "idle", "is_removed", "key", "uses")

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        self.environment = environment
        self.key = key
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        self.aside: Aside | None = None
        self.is_removed = False
        self.uses = 0
        self._connecting: dict[ResponseReceiver, PendingConnection] = {}

    def __repr__(self) -> str:
        return f"<HttpServer {self.key} idle={len(self.idle)} opened={self.opened} {self.aside!r}>"

    @property
    def address(self) -> str:
        """Its IP address."""
        return self.key.address

    @property
    def port(self) -> int:
        """Its port."""
        return self.key.port

    @property
    def has_room(self) -> bool:
        """Whether one more idle connection may be kept."""
        return len(self.idle) < IDLE_LIMIT and not self.is_removed

    @property
    def under_way(self) -> int:
        """How many attempts have a connection, or wait for one: counting these would cost every request."""
        return self.opened - len(self.idle)

    def take_idle(self) -> UpstreamConnection:
        """Take the connection that was used last out of the pool, which holds one."""
        upstream = self.idle.pop()
        upstream.is_reused = True
        upstream.has_sent_body = False
        return upstream

    def connect(self, receiver: ResponseReceiver) -> None:
        """Make a connection for a receiver and pass it on, or the error that says why there is none."""
        self._connecting[receiver] = PendingConnection(self, receiver)

    def forget(self, receiver: ResponseReceiver) -> None:
        """Give up the connection that is being made for a receiver."""
        pending = self._connecting.pop(receiver, None)
        if pending is not None:
            pending.cancel()

    def on_connect_ended(self, receiver: ResponseReceiver) -> None:
        """Note that the connection for a receiver is made, or cannot be made."""
        del self._connecting[receiver]

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside for requests to come: it took no connection, or broke one instead of answering."""
        if self.environment.health.on_failure(self):
            receiver.count_ejection()

    def remove(self) -> None:
        """Close what is idle, and what becomes so: no service has this server any more."""
        self.is_removed = True
        for upstream in list(self.idle):
            upstream.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; the oldest are first."""
        limit = now - self.environment.settings.upstream_idle_timeout
        while self.idle and self.idle[0].idle_since < limit:
            self.idle[0].close()
