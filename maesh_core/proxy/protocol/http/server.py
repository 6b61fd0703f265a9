"""One server of HTTP services: its pool of idle connections, and how another one is made.

Takes an exchange that wants a connection; gives it one, or says why there is none. What goes over a connection is
none of its business.
"""

import asyncio
import ssl
from typing import NamedTuple

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamNotReachedError
from maesh_core.proxy.protocol.http.environment import Environment
from maesh_core.proxy.protocol.http.owner import Owner
from maesh_core.proxy.protocol.http.upstream import UpstreamConnection
from maesh_core.proxy.upstream.health import Aside

IDLE_LIMIT = 1024
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

    `uses` counts the services that have it; `opened` the connections that are open or being made, idle ones too.
    """

    idle_limit = IDLE_LIMIT

    __slots__ = ("_connecting", "aside", "environment", "idle", "is_removed", "key", "opened", "uses")

    def __init__(self, environment: Environment, key: ServerKey) -> None:
        self.environment = environment
        self.key = key
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        self.aside: Aside | None = None
        self.is_removed = False
        self.uses = 0
        self._connecting: dict[Owner, asyncio.Task[None]] = {}

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
        return upstream

    def connect(self, exchange: Owner) -> None:
        """Make a connection for an exchange and hand it over, or tell it why not."""
        self.opened += 1
        self._connecting[exchange] = asyncio.get_running_loop().create_task(self._connect(exchange))

    def forget(self, exchange: Owner) -> None:
        """Give up a connection that is being made."""
        task = self._connecting.pop(exchange, None)
        if task is not None:
            self.opened -= 1
            task.cancel()

    def note_failure(self, exchange: Owner) -> None:
        """Set the server aside for requests to come: it took no connection, or broke one instead of answering."""
        if self.environment.health.on_failure(self):
            exchange.count_ejection()

    async def _connect(self, exchange: Owner) -> None:
        error: ExchangeError
        try:
            async with asyncio.timeout(self.environment.settings.connect_timeout):
                upstream = await self._open()
        except TimeoutError:
            error = ConnectTimeoutError("no connection to the upstream in time")
        except ssl.SSLCertVerificationError as failure:
            error = UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            error = UpstreamNotReachedError(f"no TLS with the upstream: {failure.reason}")
        except UpstreamNotReachedError as failure:
            error = failure
        except (OSError, ValueError, OverflowError):  # the latter two: an address or port that there cannot be
            error = UpstreamNotReachedError("no connection to the upstream")
        else:
            if self._connecting.pop(exchange, None) is not None:
                self.opened -= 1  # the connection counts itself
                exchange.on_connected(upstream)
            else:
                upstream.close()
            return
        if self._connecting.pop(exchange, None) is not None:
            self.opened -= 1
            self.note_failure(exchange)
            exchange.on_connect_failed(error)

    async def _open(self) -> UpstreamConnection:
        """Open a connection, and have TLS on it where the scheme says so. Raises OSError, UpstreamNotReachedError."""
        loop = asyncio.get_running_loop()
        _, address, port, name = self.key
        if self.key.scheme != "https":
            return (await loop.create_connection(lambda: UpstreamConnection(self), address, port))[1]
        transport, upstream = await loop.create_connection(
            lambda: UpstreamConnection(self),
            address,
            port,
            ssl=self.environment.tls.context,
            server_hostname=name or address,  # an address is not sent (RFC 6066 section 3)
        )
        if not self.environment.tls.is_for(transport.get_extra_info("ssl_object"), address=address, name=name):
            upstream.close()
            names = f"{address} nor for {name}" if name else address
            raise UpstreamNotReachedError(f"the upstream's certificate is not for {names}")
        return upstream

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
