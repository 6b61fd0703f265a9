"""Chooses how a connection to a server is opened: in clear, or over a path of the enabled transport.

Takes the server, the name of its node and the mode of its service; returns a choice, or raises if the mode allows no
connection. A node that could not be reached is set aside: meanwhile, permissive services use connections in
clear, and strict ones fail at once, so that no further request waits for a connect time-out. Opens nothing itself.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from maesh_core.errors import ServerNotTriedError
from maesh_core.model.addresses import IPV4_MAPPED_PREFIX
from maesh_core.model.keys import cut_port_key
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.transport import CLEAR, ENCRYPTED, LOCAL
from maesh_core.plugin_system.transports import (
    OFF,
    PERMISSIVE,
    STRICT,
    ClientEntry,
    OpenFailure,
    Path,
    PathRefusedError,
    RemoteServer,
    Transport,
)
from maesh_core.proxy.balancing.balancer import begin_due_trial
from maesh_core.proxy.balancing.health import Aside, PassiveHealth, Time
from maesh_core.proxy.callers import CallerCounts
from maesh_core.proxy.transport.path_counts import PathCounts

MODES: Final = frozenset({OFF, PERMISSIVE, STRICT})
FIRST_PAUSE_S: Final = 1.0
PAUSE_LIMIT_S: Final = 30.0
"""How long a node is set aside after its first failure, and at most; each failed trial doubles the pause."""

PATH_SHARE: Final = 0.5
"""The share of the connect time-out in which a path must have a connection to the server's node."""

NO_TRANSPORT: Final = "no transport"
NO_NODE: Final = "unknown node"
NOT_OFFERED: Final = "not offered"
UNREACHABLE: Final = "unreachable"
UDP: Final = "udp"
"""The values of the label `reason` for `clear`: the proxy has no transport, the server's node is not known, the
transport has no path to the node, the node could not be reached, or it is UDP, which no transport carries."""

REQUIRED: Final = "encryption is required: "
EXPOSED: Final = f"{REQUIRED}the connection was opened in clear"
EXPOSED_LIMIT_S: Final = 30.0
"""How long connections in clear may finish what is under way after their service has become strict."""
_logger = logging.getLogger(__name__)


class Choice(NamedTuple):
    """How a connection is opened. Without a path it is in clear; `reason` says why, unless the server is local."""

    kind: str
    path: Path | None = None
    reason: str = ""


class _RemoteNode:
    """A node that could not be reached, from the first failure to the next success."""

    __slots__ = ("aside", "name", "reason")

    def __init__(self, name: str) -> None:
        self.name = name
        self.aside: Aside | None = None
        self.reason = ""

    def __repr__(self) -> str:
        return f"<_RemoteNode {self.name} {self.aside!r}>"

    def describe(self) -> str:
        """Name the node in the log."""
        return f"node {self.name} (its transport)"


class Paths:
    """The paths of one worker. Without a transport, it only refuses what strict services would send in clear.

    `guard_kinds` are the kinds of guards, which are middlewares that decide about access. `remote_guard_kinds` are the
    same, or empty without a transport: a connection over a path to a service that has such a guard carries only the
    traffic of one client. With `names_clients`, this also applies to other services, because servers get the account of
    each client.
    """

    __slots__ = (
        "_health",
        "_listeners",
        "_nodes",
        "callers",
        "clients",
        "counts",
        "guard_kinds",
        "names_clients",
        "node",
        "remote_guard_kinds",
        "transport",
    )

    def __init__(
        self,
        node: str,
        clock: Time,
        transport: Transport | None = None,
        *,
        guard_kinds: Collection[str] = (),
        names_clients: bool = False,
        random_share: Callable[[], float] | None = None,
    ) -> None:
        self.node = node
        self.transport = transport
        self.names_clients = names_clients and transport is not None
        self.guard_kinds = frozenset(guard_kinds)
        self.remote_guard_kinds = self.guard_kinds if transport is not None else frozenset()
        options = {"random_share": random_share} if random_share is not None else {}
        self._health = PassiveHealth(clock, first_pause_s=FIRST_PAUSE_S, pause_limit_s=PAUSE_LIMIT_S, **options)
        self._nodes: dict[str, _RemoteNode] = {}
        self.counts = PathCounts()
        self.clients: Mapping[str, ClientEntry] = {}
        """The clients by address, as the configuration has them."""
        self.callers: CallerCounts | None = None
        """Who calls whom in this worker; set at start if a transport is enabled."""
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Paths of {self.node or 'an unnamed node'}, {len(self._nodes)} nodes set aside>"

    @property
    def node_type(self) -> type[Any] | None:
        """The struct in which the controller describes a node to the transport; None without a transport."""
        return self.transport.node_type if self.transport is not None else None

    def find_client(self, address: str) -> ClientEntry | None:
        """Return a client's node and account; None if its address is not that of pods of one account."""
        return self.clients.get(address.removeprefix(IPV4_MAPPED_PREFIX))

    def name_client(self, address: str) -> str:
        """Return the address by which a client is named to another node; empty if it is no known pod of this node.

        The other node would refuse a client that is not on this one. Without a name, its guards decide: they deny,
        unless they let everybody pass, as in audit mode.
        """
        entry = self.find_client(address)
        return address if entry is not None and entry.node == self.node else ""

    def is_local(self, node: str) -> bool:
        """Whether a server's node is known to be this proxy's own."""
        return bool(node) and node == self.node

    # --- choosing

    def choose(self, server: RemoteServer, mode: str) -> Choice:
        """Choose how a server is reached. Raises ServerNotTriedError if the mode allows no connection."""
        if self.is_local(server.node):
            return Choice(LOCAL)
        if self.transport is None:
            return self._use_clear(mode, NO_TRANSPORT, "this proxy has no transport")
        if not server.node:
            return self._use_clear(mode, NO_NODE, "the server is on no known node")
        try:
            path = self.transport.find_path(server, mode)
        except PathRefusedError as refusal:
            raise ServerNotTriedError(f"{REQUIRED}{refusal}") from refusal
        except Exception as error:  # a plugin's error is a path that cannot be opened
            _logger.error("a transport failed to find a path: %r", error)
            return self._use_clear(mode, UNREACHABLE, "the transport failed")
        if path is None:
            return Choice(CLEAR, None, NOT_OFFERED)
        found = self._nodes.get(server.node)
        if found is None or found.aside is None or begin_due_trial(found.aside):
            return Choice(ENCRYPTED, path)
        return self.replace_failed(server, mode, found.reason)

    def replace_failed(self, server: RemoteServer, mode: str, reason: str) -> Choice:
        """Choose what follows a path that could not be opened. Raises ServerNotTriedError in strict mode."""
        return self._use_clear(mode, UNREACHABLE, f"no tunnel to node {server.node} ({reason})")

    def _use_clear(self, mode: str, reason: str, text: str) -> Choice:
        if mode != PERMISSIVE:
            raise ServerNotTriedError(f"{REQUIRED}{text}")
        return Choice(CLEAR, None, reason)

    def may_try(self, node: str) -> bool:
        """Whether the next connection to a node may try a path."""
        found = self._nodes.get(node)
        return found is None or found.aside is None or found.aside.is_due

    # --- what became of a path

    def note_failure(self, server: RemoteServer, reason: str) -> None:
        """Set the server's node aside."""
        found = self._nodes.get(server.node)
        if found is None:
            found = self._nodes[server.node] = _RemoteNode(server.node)
        found.reason = reason
        if self._health.on_failure(found):
            _logger.warning("no tunnel to node %s: %s", server.node, reason)

    def note_success(self, server: RemoteServer) -> None:
        """Use paths to the server's node again: it has answered."""
        if self._nodes and (found := self._nodes.pop(server.node, None)) is not None:
            self._health.on_success(found)

    def count_connection(self, service: str, choice: Choice) -> None:
        """Count a connection that was opened for a service, given by the key of its port, a branch or a part."""
        self.counts.find(service, choice.kind, choice.reason).connections += 1

    def count_caller(self, address: str, service: str, choice: Choice) -> None:
        """Count a TCP connection of a client by its path."""
        if self.callers is not None:
            self.callers.find(address, cut_port_key(service)).count_path(choice.kind)

    def count_bytes(self, service: str, choice: Choice, size: int) -> None:
        """Count bytes of TCP connections, in both directions."""
        self.counts.find(service, choice.kind, choice.reason).bytes += size

    # --- changes

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener()` whenever other nodes may take part than before."""
        self._listeners.append(listener)

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, ClientEntry]) -> None:
        """Pass the nodes that take part, and clients, to the transport."""
        self.clients = clients
        if self.transport is not None:
            self.transport.apply_nodes(nodes, clients)
            for name in [name for name in self._nodes if name not in nodes]:
                del self._nodes[name]
            self._report_change()

    def receive(self, payload: bytes) -> None:
        """Pass what the transport's service in the parent has handed over to the transport."""
        if self.transport is not None:
            self.transport.receive(payload)
            self._report_change()

    def review(self) -> None:
        """Let the transport judge the open connections of other nodes again, if it has an engine of its own."""
        review = getattr(self.transport, "review", None)
        if review is None:
            return
        try:
            review()
        except Exception:  # the transport is a plugin's; a configuration that was applied stays in force
            _logger.exception("the transport failed to judge open connections")

    def _report_change(self) -> None:
        for listener in self._listeners:
            listener()

    def offers_path(self, server: RemoteServer, mode: str) -> bool:
        """Whether new connections to a server are opened over a path, also while its node is set aside."""
        if self.transport is None or not server.node or self.is_local(server.node):
            return False
        try:
            return self.transport.find_path(server, mode) is not None
        except Exception:  # refused, or a plugin's error: connections in clear must not be used
            return True

    # --- metrics

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; none without a transport."""
        return () if self.transport is None else self.counts.collect_metrics()


def is_about_server(failure: OpenFailure) -> bool:
    """Whether a failed path says that the server itself did not accept the connection."""
    return failure.is_servers_fault or failure.status in (502, 504)


def is_about_path(failure: OpenFailure) -> bool:
    """Whether a failed path says nothing about the server: the node was not reached, or can do nothing now.

    Any status that is not expected counts as such.
    """
    return not is_about_server(failure) and failure.status not in (403, 404)
