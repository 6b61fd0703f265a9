"""One server of HTTP services: its pool of idle connections, and those that are being made (connecting.py).

Takes an exchange that wants a connection; gives it one, or says why there is none. What goes over a connection is
none of its business.
"""

from typing import ClassVar, Final, NamedTuple

from maesh_core.proxy.balancing.health import Aside
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.owner import Owner
from maesh_core.proxy.http.upstreams.connecting import PendingConnection
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection

IDLE_LIMIT: Final = 1024
"""Idle connections kept to one server. Maesh 1.2 kept 200; with fewer than there are requests under way, each request
more pays a connect, and 2,000 clients of two servers waited four times as long for the slowest hundredth."""


class ServerKey(NamedTuple):
    """What makes two servers one, with one pool of connections and one health: how and where it is spoken to.

    A connection that was verified for one name is none for another, so the name is part of it.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"


class HttpServer:
    """One server's address and the connections to it.

    `uses` counts the services that have it; `opened` the connections that are open or being made, idle ones too. Each
    connection counts itself there, once, from when it is made to its end or its tunnel's (upstream_connection.py).
    """

    idle_limit: ClassVar[int] = IDLE_LIMIT

    __slots__ = ("_connecting", "aside", "environment", "idle", "is_removed", "key", "opened", "uses")

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        self.environment = environment
        self.key = key
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        self.aside: Aside | None = None
        self.is_removed = False
        self.uses = 0
        self._connecting: dict[Owner, PendingConnection] = {}

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
    def under_way(self) -> int:
        """How many exchanges have a connection, or wait for one: counting these would cost every request."""
        return self.opened - len(self.idle)

    def take_idle(self) -> UpstreamConnection:
        """Take the connection that was used last out of the pool, which holds one."""
        upstream = self.idle.pop()
        upstream.is_reused = True
        upstream.has_sent_body = False
        return upstream

    def connect(self, exchange: Owner) -> None:
        """Make a connection for an exchange and hand it over, or tell it why not."""
        self._connecting[exchange] = PendingConnection(self, exchange)

    def forget(self, exchange: Owner) -> None:
        """Give up the connection that is being made for an exchange."""
        pending = self._connecting.pop(exchange, None)
        if pending is not None:
            pending.cancel()

    def on_connect_ended(self, exchange: Owner) -> None:
        """Note that the connection for an exchange is made, or cannot be made."""
        del self._connecting[exchange]

    def note_failure(self, exchange: Owner) -> None:
        """Set the server aside for requests to come: it took no connection, or broke one instead of answering."""
        if self.environment.health.on_failure(self):
            exchange.count_ejection()

    def remove(self) -> None:
        """Close what is idle, and what becomes so: no service has this server any more."""
        self.is_removed = True
        for upstream in list(self.idle):
            upstream.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; the oldest stand first."""
        limit = now - self.environment.settings.upstream_idle_timeout
        while self.idle and self.idle[0].idle_since < limit:
            self.idle[0].close()
