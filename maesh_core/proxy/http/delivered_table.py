"""Routes the requests of other nodes' streams: through the guards of their service, to the one server of the delivery.

Takes the current routing table, and a delivery that was allowed; a stream of it then uses this table in place of the
node's own. A route is compiled again when the node's table has changed. Requests are not counted for the service: the
node that sends has done so. What is not routed any more is refused.
"""

import asyncio
import errno
from typing import Final, cast, final

from maesh_core.model.configuration import HttpRouter, chooses_by_rules, list_targets
from maesh_core.model.keys import cut_port_key
from maesh_core.model.matching import Predicate
from maesh_core.plugin_system.transports import Delivery, Refusal
from maesh_core.proxy.balancing.balancer import RoundRobin
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.multiplexed_upstream import MultiplexedUpstream
from maesh_core.proxy.http.request_counters import RouteCounters
from maesh_core.proxy.http.routes import NO_ROUTER, Route
from maesh_core.proxy.http.routing_table import CurrentTable, HttpTable
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain

UNKNOWN: Final = Refusal(404, "the server's node does not know the server")
REFUSED: Final = Refusal(502, "the server refused the connection")
TOO_SLOW: Final = Refusal(504, "the server did not accept the connection in time")
NO_RESOURCES: Final = Refusal(503, "the node has no resources for a connection")
_LOCAL_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})


@final
class DeliveredTable(HttpTable):
    """The route of one server of one service, with connections to the server that only deliveries use."""

    __slots__ = ("_counters", "_current", "_made_from", "_route", "server", "service")

    def __init__(self, environment: Environment, current: CurrentTable, service: str, key: ServerKey) -> None:
        super().__init__()
        self._current = current
        self._made_from: HttpTable | None = None
        self._route: Route | None = None
        self._counters = RouteCounters()
        self.service = service
        self.server = HttpServer(environment, key)

    def __repr__(self) -> str:
        return f"<DeliveredTable of {self.service} to {self.server!r}>"

    @property
    def label(self) -> str:
        """The service that requests belong to."""
        return cut_port_key(self.service)

    @property
    def is_current(self) -> bool:
        """Whether the node's table still has this server for the service."""
        key = self.server.key
        return find_server_key(self._current.table, self.service, key.address, key.port) == key

    def find(self, entrypoint: int, host: bytes) -> Route | None:
        """Return the route, whatever the host: the delivery says where its requests go."""
        table = self._current.table
        if self._made_from is not table:
            self._made_from = table
            self._route = self._build(table)
        return self._route

    def _build(self, table: HttpTable) -> Route:
        found = table.routes.get(self.label)
        if found is None or not found.service or not self.is_current:
            return self._build_route()
        router, chain = found.router, table.delivery_guards.get(self.label, EMPTY_CHAIN)
        targets = [
            target
            for target in list_targets(router)
            if target == self.service or self.service in (part.service for part in table.services[target].parts)
        ]
        if not targets:
            return self._build_route()
        if chooses_by_rules(router):  # rules share it, and their filters may have changed the request
            return self._build_route(chain, self.service)
        branches = tuple(
            (predicate, self._build_route(chain, branch.destination))
            for predicate, branch in found.branches
            if branch.destination in targets
        )
        destination = router.service if router.service in targets else targets[0]
        return self._build_route(chain, destination, branches=branches if len(targets) > 1 else (), router=router)

    def _build_route(
        self,
        chain: Chain = EMPTY_CHAIN,
        destination: str = "",
        *,
        branches: tuple[tuple[Predicate, Route], ...] = (),
        router: HttpRouter = NO_ROUTER,
    ) -> Route:
        """Build a route to the server; without a destination, a closed one. The router is that of the branches."""
        return Route(
            self.label,
            balancer=RoundRobin((self.server,)) if destination else None,
            counters=self._counters,
            chain=chain,
            key=self.label,
            router=router if branches else NO_ROUTER,
            branches=branches,
            destination=destination,
            is_delivered=True,
        )

    async def reach(self) -> Refusal | None:
        """Connect to the server, unless there is a connection that can be used. The node that sends tries another one.

        Servers of https are connected to by the first request. A server that was removed during the connect is unknown:
        no sweep would close its connection.
        """
        server = self.server
        if server.idle or server.multiplexed or server.key.scheme == "https":
            return None
        protocol = MultiplexedUpstream(server) if server.key.scheme == "h2c" else UpstreamConnection(server)
        try:
            async with asyncio.timeout(server.environment.settings.connect_timeout):
                await self._connect(protocol)
        except TimeoutError:
            return TOO_SLOW
        except OSError as error:
            return NO_RESOURCES if error.errno in _LOCAL_ERRORS else REFUSED
        if server.is_removed:
            protocol.discard()
            return UNKNOWN
        if isinstance(protocol, MultiplexedUpstream):
            server.multiplexed.append(protocol)
        else:
            protocol.idle_since = server.environment.clock.now
            server.idle.append(protocol)
        return None

    async def _connect(self, protocol: MultiplexedUpstream | UpstreamConnection) -> None:
        key, loop = self.server.key, asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: cast("asyncio.BaseProtocol", protocol), key.address, key.port)
        except BaseException:
            protocol.discard()
            raise
        if protocol.transport is None:  # it has ended in the meantime
            raise ConnectionResetError


def find_server_key(table: HttpTable, service: str, address: str, port: int) -> ServerKey | None:
    """Return the key of a server for deliveries, which reach it in clear; None if the service has no such server."""
    found = table.services.get(service)
    for server, _ in found.servers if found is not None else ():
        key = server.key
        if key.address == address and key.port == port:
            return ServerKey(key.scheme, address, port, key.tls_name)
    return None


def build_delivered_table(environment: Environment, current: CurrentTable, delivery: Delivery) -> DeliveredTable | None:
    """Build the table of a delivery; None if the node's table has no such server."""
    key = find_server_key(current.table, delivery.service, delivery.address, delivery.port)
    return None if key is None else DeliveredTable(environment, current, delivery.service, key)
