"""One server of HTTP services: its pool of idle connections, and its pending connects (connecting.py).

Takes a receiver that needs a connection, and passes it one or an error. It does not depend on the protocol of the
connections.
"""

from typing import Final

from maesh_core.proxy.balancing.health import Aside
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.upstreams.connecting import ConnectablePool, PendingConnection
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver

IDLE_LIMIT: Final = 1024
"""Limit of idle connections to one server. Maesh 1.2 kept 200. If the limit is below the number of concurrent
requests, each further request needs a connect: with 2,000 clients of two servers, the slowest hundredth took four
times as long."""


class HttpServer(ConnectablePool):
    """One server's address and the connections to it.

    `uses` is the number of services that include it. `opened` is the number of open and pending connections, including
    idle ones. Each connection counts itself once, from its creation to its end or the end of its tunnel
    (upstream_connection.py).
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
        """The server's IP address."""
        return self.key.address

    @property
    def port(self) -> int:
        """The server's port."""
        return self.key.port

    @property
    def has_room(self) -> bool:
        """Whether the pool may keep one more idle connection."""
        return len(self.idle) < IDLE_LIMIT and not self.is_removed

    @property
    def under_way(self) -> int:
        """The number of attempts that use or wait for a connection; computed, as counting would cost every request."""
        return self.opened - len(self.idle)

    def take_idle(self) -> UpstreamConnection:
        """Remove and return the most recently used connection of the pool, which must not be empty."""
        upstream = self.idle.pop()
        upstream.is_reused = True
        upstream.has_sent_body = False
        return upstream

    def connect(self, receiver: ResponseReceiver) -> None:
        """Open a connection for a receiver, and pass it the connection or an error."""
        self._connecting[receiver] = PendingConnection(self, receiver)

    def forget(self, receiver: ResponseReceiver) -> None:
        """Cancel the pending connect for a receiver."""
        pending = self._connecting.pop(receiver, None)
        if pending is not None:
            pending.cancel()

    def on_connect_ended(self, receiver: ResponseReceiver) -> None:
        """Record that the connect for a receiver has ended, successfully or not."""
        del self._connecting[receiver]

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside: a connect failed, or a connection broke before a response."""
        if self.environment.health.on_failure(self):
            receiver.count_ejection()

    def remove(self) -> None:
        """Close idle connections now, and others when they become idle: no service includes this server any more."""
        self.is_removed = True
        for upstream in list(self.idle):
            upstream.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; the oldest are first in the pool."""
        limit = now - self.environment.settings.upstream_idle_timeout
        while self.idle and self.idle[0].idle_since < limit:
            self.idle[0].close()
