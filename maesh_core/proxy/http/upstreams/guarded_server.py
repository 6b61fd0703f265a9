"""A server on another node whose services have guards: its connections are divided by service and client.

The server's node decides about a connection by the service and the client for which it is opened, so no other traffic
may use it later. An attempt sees one server; each of its pools holds the connections of one client. The pools share
the server's health and counters.
"""

from typing import Final, final

from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver

POOL_LIMIT: Final = 1024
"""Pools of one server. At the limit, the one that was used longest ago is removed."""


@final
class GuardedServer(HttpServer):
    """A server without connections of its own: `idle` and `multiplexed` stay empty, so attempts call `connect`."""

    __slots__ = ("_pools",)

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        super().__init__(environment, key)
        self.is_divided = True
        self._pools: dict[tuple[str, str], ClientPool] = {}

    def __repr__(self) -> str:
        return f"<GuardedServer {self.key} pools={len(self._pools)} {self.aside!r}>"

    @property
    def under_way(self) -> int:
        """The number of attempts that use or wait for a connection of any pool."""
        return sum([pool.under_way for pool in self._pools.values()])

    def connect(self, receiver: ResponseReceiver, *, is_upgrade: bool = False, is_fresh: bool = False) -> None:
        """Pass a receiver a connection of its client, from the pool unless it must be fresh."""
        pool = self._get_pool(receiver.describe_delivery())
        if not is_fresh:
            if pool.idle:
                receiver.on_connected(pool.take_idle())
                return
            stream = pool.open_stream(is_upgrade=is_upgrade) if pool.multiplexed else None
            if stream is not None:
                receiver.on_connected(stream)
                return
        pool.connect(receiver, is_upgrade=is_upgrade)

    def forget(self, receiver: ResponseReceiver) -> None:
        """Cancel the pending connect for a receiver."""
        pool = self._pools.get(receiver.describe_delivery())
        if pool is not None:
            pool.forget(receiver)

    def _get_pool(self, key: tuple[str, str]) -> "ClientPool":
        """Return the pool of a service and a client; the dict is in the order of use."""
        pool = self._pools.pop(key, None)
        if pool is None:
            if len(self._pools) >= POOL_LIMIT:
                self._pools.pop(next(iter(self._pools))).remove()
            pool = ClientPool(self)
        self._pools[key] = pool
        return pool

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside, for all clients."""
        super().note_failure(receiver)
        self._share_health()

    def note_success(self) -> None:
        """Return the server to full use, for all clients."""
        super().note_success()
        self._share_health()

    def _share_health(self) -> None:
        for pool in self._pools.values():
            pool.aside = self.aside

    def retire_connections(self) -> None:
        """Retire the connections of all pools."""
        for pool in self._pools.values():
            pool.retire_connections()

    def remove(self) -> None:
        """Remove all pools."""
        super().remove()
        for pool in self._pools.values():
            pool.remove()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long, and drop pools without any."""
        for key, pool in list(self._pools.items()):
            pool.sweep(now)
            if not pool.opened:
                del self._pools[key]


@final
class ClientPool(HttpServer):
    """The connections of one client to a guarded server, for one service."""

    __slots__ = ("_owner",)

    def __init__(self, owner: GuardedServer) -> None:
        super().__init__(owner.environment, owner.key)
        self._owner = owner
        self.aside = owner.aside
        self.is_removed = owner.is_removed

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside for all clients."""
        self._owner.note_failure(receiver)

    def note_success(self) -> None:
        """Return the server to full use for all clients."""
        self._owner.note_success()
