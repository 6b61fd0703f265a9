"""The servers and the route of an entrypoint of a stream protocol, such as TCP.

A route picks a server for each connection, asks the middlewares who may connect, and counts by server, branch and rule.
It sends no traffic itself. Failing servers are set aside, and tried after all others. Implements `node.StreamRoute`.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from maesh_core.model.addresses import join_port
from maesh_core.model.configuration import Server as ConfiguredServer
from maesh_core.model.configuration import Service
from maesh_core.model.schemes import TLS
from maesh_core.plugin_system.interfaces import Connection
from maesh_core.plugin_system.node import StreamServer
from maesh_core.plugin_system.transports import STRICT
from maesh_core.proxy.balancing.balancer import AnyBalancer
from maesh_core.proxy.balancing.division import Division
from maesh_core.proxy.balancing.health import Aside, PassiveHealth
from maesh_core.proxy.middleware.chain import Judge, collect_judges, read_verdict
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.routing.stream_counts import StreamCounts

NO_BRANCHES: Final[Mapping[str, StreamCounts]] = {}
"""The counters of the branches of a service that is not split."""


class ServerKey(NamedTuple):
    """What distinguishes the servers of a protocol; services with the same key share a server, with its health.

    `mode` is that of the service's encryption, and empty for `off`; the node is only set with a mode. With `uses_tls`,
    connections use TLS, and the certificate must be for `tls_name`. `name` is the DNS name of a server outside of the
    mesh, which was resolved to the address.
    """

    address: str
    port: int
    node: str = ""
    mode: str = ""
    uses_tls: bool = False
    tls_name: str = ""
    name: str = ""


class Server:
    """One server: its address, its load, its counters, whether it is set aside, and how it is reached."""

    __slots__ = (
        "_health",
        "aside",
        "counts",
        "family",
        "label",
        "mode",
        "name",
        "node",
        "socket_address",
        "tls_name",
        "under_way",
        "uses_tls",
    )

    def __init__(self, key: ServerKey, health: PassiveHealth) -> None:
        self.socket_address = (key.address, key.port)
        self.node, self.mode = key.node, key.mode
        self.uses_tls, self.tls_name = key.uses_tls, key.tls_name
        self.name = key.name
        self.label = join_port(key.name or key.address, key.port)
        self.family = socket.AF_INET6 if ":" in key.address else socket.AF_INET
        self.under_way = 0
        self.counts = StreamCounts()
        self.aside: Aside | None = None
        self._health = health

    def __repr__(self) -> str:
        return f"<Server {self.socket_address} under_way={self.under_way} {self.aside!r}>"

    @property
    def is_set_aside(self) -> bool:
        """Whether it has failed and not succeeded since."""
        return self.aside is not None

    def describe(self) -> str:
        """Name the server in the log."""
        return self.label

    def note_failure(self) -> None:
        """Set it aside for a while, so that others are tried first."""
        self._health.on_failure(self)

    def note_success(self) -> None:
        """Return it to full use."""
        if self.aside is not None:
            self._health.on_success(self)


AnyStreamBalancer = AnyBalancer[Server] | Division[Server]


def is_encrypted_outside(service: Service, server: ConfiguredServer) -> bool:
    """Whether a server is outside of the mesh and gets TLS: it has no node, and the TLS is its encryption."""
    return bool(server.name) and service.scheme == TLS


class StrictServers:
    """Which servers of a route are reached only over paths: those of its strict services."""

    __slots__ = ("_nodes", "_others")

    def __init__(self, services: Iterable[Service]) -> None:
        self._nodes: dict[tuple[str, int], str] = {}
        self._others: set[tuple[str, int]] = set()
        for service in services:
            for server in service.servers:
                if service.encryption == STRICT and not is_encrypted_outside(service, server):
                    self._nodes[server.address, server.port] = server.node
                else:
                    self._others.add((server.address, server.port))

    def __repr__(self) -> str:
        return f"<StrictServers {len(self._nodes)}>"

    def find_node(self, address: tuple[str, int], *, is_of_route: bool) -> str | None:
        """Return the node of a server that must be reached over a path, empty if it is not known; else None.

        A server that has left the route must be, too.
        """
        node = self._nodes.get(address)
        if node is not None:
            return node
        return "" if is_of_route and address not in self._others else None


class Route:
    """The route of an entrypoint. Without judges, all clients are allowed.

    `strict` is None if no service of the route is strict. `branches` has the counters of the parts of a split, and
    `rule` is that of the rule that chose this route.
    `consumers` has the routes for clients of a namespace, which have none themselves.
    """

    __slots__ = (
        "_admitting",
        "_counts",
        "_failures",
        "_rule",
        "_servers",
        "_staying",
        "balancer",
        "consumers",
        "counters",
        "has_guard",
        "key",
        "service",
        "strict",
    )

    def __init__(
        self,
        key: str,
        service: str,
        servers: Iterable[Server],
        counters: Any,
        *,
        balancer: AnyStreamBalancer,
        middlewares: Sequence[object],
        failures: MiddlewareFailures,
        has_guard: bool = False,
        strict: StrictServers | None = None,
        branches: Mapping[str, StreamCounts] = NO_BRANCHES,
        rule: StreamCounts | None = None,
        consumers: Mapping[str, "Route"] | None = None,
    ) -> None:
        self.key, self.service = key, service
        self.consumers: Mapping[str, Route] = consumers or {}
        self.counters = counters
        self.has_guard = has_guard
        self._servers = tuple(servers)
        self.strict = strict
        self.balancer = balancer
        self._rule = rule
        self._counts = _find_counts(self._servers, balancer, branches, rule)
        self._failures = failures
        self._admitting = collect_judges(middlewares, "on_connect")
        self._staying = collect_judges(middlewares, "is_still_allowed")

    def __repr__(self) -> str:
        return f"<Route to {self.service}>"

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers."""
        return self._servers

    @property
    def is_guarded(self) -> bool:
        """Whether any middleware decides about access."""
        return bool(self._admitting or self._staying)

    def admits(self, connection: Connection) -> bool:
        """Return whether the middlewares allow a connection to start; one that raises denies it."""
        return not self._admitting or all(self._judge(judge, connection, default=True) for judge in self._admitting)

    def keeps(self, connection: Connection) -> bool:
        """Return whether the middlewares allow a connection to continue; one that raises denies it."""
        return all(self._judge(judge, connection, default=False) for judge in self._staying)

    def has_server(self, server: StreamServer) -> bool:
        """Return whether the route still has a server."""
        return server in self._servers

    def list_servers(self) -> Iterator[Server]:
        """Yield each server once, in the order to try them for one connection; servers set aside are last.

        Yield none if the connection belongs to the share of a part that has no server.
        """
        tried: list[Server] = []
        while len(tried) < len(self._servers):
            server = self.balancer.pick(tried)
            if server is None or server in tried:
                break
            tried.append(server)
            yield server
        if not tried and isinstance(self.balancer, Division):
            return
        for server in self._servers:
            if server not in tried:
                yield server

    def find_destination(self, server: StreamServer | None) -> str:
        """Return the key of the service that a server belongs to: the first such part of a split, else the service."""
        for part in self.balancer.parts if isinstance(self.balancer, Division) else ():
            if server in part.servers:
                return part.key
        return self.service

    def count_opened(self, server: StreamServer) -> None:
        """Count a connection to a server, also for its branch and rule."""
        for counts in self._counts.get(server, ()):
            counts.opened += 1

    def count_failure(self, server: StreamServer) -> None:
        """Count a failure of a server, also for its branch and rule."""
        for counts in self._counts.get(server, ()):
            counts.failures += 1

    def count_bytes(self, server: StreamServer, *, received: int, sent: int) -> None:
        """Count the bytes of a connection to a server, also for its branch and rule."""
        for counts in self._counts.get(server, ()):
            counts.received_bytes += received
            counts.sent_bytes += sent

    def count_refused(self) -> None:
        """Count for the rule that no server accepted a connection."""
        if self._rule is not None:
            self._rule.refused += 1

    def _judge(self, judge: Judge, connection: Connection, *, default: bool) -> bool:
        try:
            return read_verdict(judge(connection), default=default)
        except Exception as error:  # fail closed: a judge that raises denies access
            self._failures.note(judge, error, "a connection is denied")
            return False


def _find_counts(
    servers: Iterable[Server],
    balancer: AnyStreamBalancer,
    branches: Mapping[str, StreamCounts],
    rule: StreamCounts | None,
) -> Mapping[StreamServer, Sequence[StreamCounts]]:
    """List the counters of each server: its own, those of the first branch that has it, and those of the rule."""
    ruled = () if rule is None else (rule,)
    found: dict[StreamServer, Sequence[StreamCounts]] = {server: (server.counts, *ruled) for server in servers}
    for part in reversed(balancer.parts) if isinstance(balancer, Division) else ():
        for server in part.servers:
            found[server] = (server.counts, branches[part.key], *ruled)
    return found
