"""One server of HTTP services: its pool of connections, and its pending connects (connecting.py).

Takes a receiver that needs a connection, and passes it one or an error. An HTTP/1.1 connection serves one attempt at a
time and is idle in between; an HTTP/2 connection, in `multiplexed`, serves many at once.
"""

from typing import Final

from maesh_core.model.addresses import join_port
from maesh_core.model.traffic_record import RecordPlace
from maesh_core.plugin_system.transports import RemoteServer
from maesh_core.proxy.balancing.health import Aside
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.multiplexed_upstream import MultiplexedUpstream
from maesh_core.proxy.http.server_counters import ServerCounters
from maesh_core.proxy.http.upstreams.connecting import ConnectablePool, PendingConnection
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver, UpstreamStream

IDLE_LIMIT: Final = 1024
"""Limit of idle connections to one server. Maesh 1.2 kept 200. If the limit is below the number of concurrent
requests, each further request needs a connect: with 2,000 clients of two servers, the slowest hundredth took four
times as long."""


class HttpServer(ConnectablePool):
    """One server's address and the connections to it.

    `counters` are those of its attempts. `uses` is the number of services that include it. `opened` is the number of
    open and pending connections, including idle ones. Each HTTP/1.1 connection counts itself once, from its creation to
    its end or the end of its tunnel (upstream_connection.py). Of HTTP/2, each stream counts, and each receiver that
    waits for a connection.

    `authority` is the Host to send if a middleware does not choose another; empty for the client's. With
    `hides_client`, the server gets no fields that identify the client.

    `is_divided` means that it has other pools (guarded_server.py), and no connections itself. `is_fallen_back` means
    that there may be connections in clear, because its node could not be reached.
    """

    __slots__ = (
        "_connecting",
        "_is_on_path",
        "_is_sharing",
        "_latest",
        "aside",
        "authority",
        "counters",
        "environment",
        "hides_client",
        "idle",
        "is_divided",
        "is_fallen_back",
        "is_removed",
        "key",
        "label",
        "multiplexed",
        "place",
        "scheme",
        "uses",
    )

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        self.environment = environment
        self.key = key
        self.label = join_port(key.name or key.address, key.port)
        self.authority = key.authority.encode()
        self.hides_client = key.hides_client
        self.counters = ServerCounters()
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        self.aside: Aside | None = None
        self.is_removed = False
        self.is_divided = False
        self.is_fallen_back = False
        self.uses = 0
        self.place: RecordPlace | None = None
        """That of its last record: most records of a server have the same one."""
        self.scheme = b"https" if key.scheme == "https" else b"http"
        self.multiplexed: list[MultiplexedUpstream] = []
        self._connecting: dict[ResponseReceiver, PendingConnection] = {}
        self._latest: PendingConnection | None = None
        self._is_on_path = self._offers_path()
        self._is_sharing = key.scheme == "h2c" or (key.scheme == "https" and environment.settings.http2)

    def __repr__(self) -> str:
        return f"<HttpServer {self.key} idle={len(self.idle)} opened={self.opened} {self.aside!r}>"

    def describe(self) -> str:
        """Name the server in the log."""
        return str(self.key)

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

    def open_stream(self, *, is_upgrade: bool) -> UpstreamStream | None:
        """Open a stream on a connection that has room for it; return None if no connection has.

        An https server gets requests that offer an upgrade over HTTP/1.1, because HTTP/2 has none.
        """
        if is_upgrade and self.key.scheme == "https":
            return None
        for connection in self.multiplexed:
            if connection.has_room:
                return connection.open_stream()
        return None

    def connect(self, receiver: ResponseReceiver, *, is_upgrade: bool = False, is_fresh: bool = False) -> None:
        """Open a connection for a receiver, and pass it the connection or an error.

        `is_fresh` is for servers that may also pass a pooled connection (guarded_server.py): it must not be one.

        A receiver waits for a connection that is being opened for others, if it may become a multiplexed one. One whose
        request offers an upgrade gets a connection of its own.
        """
        pending = self._latest
        if is_upgrade and self.key.scheme == "https":
            pending = PendingConnection(self, receiver, offers_http2=False)
        elif pending is not None and pending.has_room:
            pending.join(receiver)
        else:
            pending = PendingConnection(self, receiver, offers_http2=True)
            self._latest = pending if self._is_sharing else None
        self._connecting[receiver] = pending

    def forget(self, receiver: ResponseReceiver) -> None:
        """Cancel the pending connect for a receiver."""
        pending = self._connecting.pop(receiver, None)
        if pending is not None:
            pending.cancel(receiver)
            if pending is self._latest and not pending.is_wanted:
                self._latest = None

    def on_connect_ended(self, pending: PendingConnection, receivers: list[ResponseReceiver]) -> None:
        """Record that a connect has ended, successfully or not."""
        for receiver in receivers:
            del self._connecting[receiver]
        if pending is self._latest:
            self._latest = None

    def note_fallback(self) -> None:
        """Record that a connection is in clear because the server's node was not reached."""
        self.is_fallen_back = True

    def note_protocol(self, *, is_multiplexing: bool) -> None:
        """Record whether the server has chosen HTTP/2."""
        self._is_sharing = is_multiplexing

    def remove_multiplexed(self, connection: MultiplexedUpstream) -> None:
        """Open no more streams on a connection."""
        if connection in self.multiplexed:
            self.multiplexed.remove(connection)

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside: a connect failed, or a connection broke before a response."""
        if self.environment.health.on_failure(self):
            receiver.count_ejection()

    def note_success(self) -> None:
        """Return the server to full use: it has answered."""
        self.environment.health.on_success(self)

    def follow_path(self) -> None:
        """Replace connections of the other kind when the server's node starts or stops taking part."""
        offers_path = self._offers_path()
        if offers_path != self._is_on_path:
            self._is_on_path = offers_path
            self.retire_connections()

    def _offers_path(self) -> bool:
        key = self.key
        target = RemoteServer(key.address, key.port, key.node)
        return bool(key.mode) and self.environment.paths.offers_path(target, key.mode)

    def retire_connections(self) -> None:
        """Close idle connections now, and others when they become idle: new ones are opened in another way."""
        self.is_fallen_back = False
        for connection in list(self.multiplexed):
            connection.retire()
        for upstream in list(self.environment.upstreams):
            if isinstance(upstream, UpstreamConnection) and upstream.server is self:
                self.retire(upstream)

    def retire(self, upstream: UpstreamConnection) -> None:
        """Close a connection of HTTP/1.1 now if it is idle, or when it becomes idle."""
        if upstream in self.idle:
            upstream.close()
            return
        retired = HttpServer(self.environment, self.key)  # a pool that the connection cannot return to
        retired.is_removed = True
        retired.aside = self.aside
        upstream.server = retired
        self.opened -= 1
        retired.opened += 1

    def remove(self) -> None:
        """Close idle connections now, and others when they become idle: no service includes this server any more."""
        self.is_removed = True
        for upstream in list(self.idle):
            upstream.close()
        for connection in list(self.multiplexed):
            if not connection.streams:
                connection.close()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; the oldest are first in the pool."""
        limit = now - self.environment.settings.upstream_idle_timeout
        while self.idle and self.idle[0].idle_since < limit:
            self.idle[0].close()
        for connection in list(self.multiplexed):
            if not connection.streams and connection.idle_since < limit:
                connection.close()
        if self.is_fallen_back and self.environment.paths.may_try(self.key.node):
            self.retire_connections()
