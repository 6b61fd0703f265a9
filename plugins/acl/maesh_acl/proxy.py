"""The proxy's half: allows or denies requests, connections, sessions and tunnels by the client's address.

Headers do not identify a client. Everything without a grant is denied. Denials are counted by service and reason.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from maesh_acl import AclSettings, LeafGrants
from maesh_core.plugin import (
    ClientHead,
    Connection,
    Delivery,
    Exchange,
    MetricFamily,
    Middleware,
    Node,
    Response,
    compile_matches,
    cut_port_key,
    is_ambiguous,
)

Servers = Collection[tuple[str, int]]
Request = Exchange | ClientHead
"""A request as its client sent it, or as it is sent."""

NOT_THIS_CLIENT: Final = "client"
NOT_THIS_REQUEST: Final = "request"
NOT_THIS_PATH: Final = "path"
_DENIED: Final = {
    NOT_THIS_CLIENT: Response(status=403, reason="access denied: no rule allows this client"),
    NOT_THIS_REQUEST: Response(status=403, reason="access denied: no rule allows this request of the client"),
    NOT_THIS_PATH: Response(status=403, reason="access denied: the path is ambiguous"),
}


class CompiledGrant(NamedTuple):
    """A grant with conditions: `holds` checks a request, and None in `servers` means all servers."""

    sources: frozenset[str]
    holds: Callable[[Request], bool] | None
    has_paths: bool
    servers: frozenset[tuple[str, int]] | None


class DeliveryGrants(NamedTuple):
    """The servers of a leaf that a client may reach, for every request (`certain`) or for some (`possible`).

    None means all servers.
    """

    certain: frozenset[tuple[str, int]] | None
    possible: frozenset[tuple[str, int]] | None


class Leaf:
    """One service at the end of a route. `free` are clients that may send any request to any of its servers."""

    __slots__ = ("_clients", "_grants", "free", "servers")

    def __init__(self, found: LeafGrants) -> None:
        grants = found.grants
        self.servers = frozenset(found.servers)
        self.free = frozenset(
            source for grant in grants if not grant.matches and grant.servers is None for source in grant.sources
        )
        self._grants = [
            CompiledGrant(
                frozenset(grant.sources),
                compile_matches(grant.matches) if grant.matches else None,
                any(match.paths for match in grant.matches),
                None if grant.servers is None else frozenset(grant.servers),
            )
            for grant in grants
            if grant.matches or grant.servers is not None
        ]
        self._clients = self.free.union(*(grant.sources for grant in self._grants))

    def __repr__(self) -> str:
        return f"<Leaf {len(self.free)} free clients, {len(self._grants)} other grants>"

    def find_servers(self, client: str, request: Request | None) -> Servers | str | None:
        """Find the servers that a client may reach: None for all, or a text with the reason for a denial."""
        if client in self.free:
            return None
        if client not in self._clients:
            return NOT_THIS_CLIENT
        found: set[tuple[str, int]] = set()
        is_granted = is_blurred = False
        for sources, holds, has_paths, servers in self._grants:
            if client not in sources:
                continue
            if holds is not None:
                if request is None:
                    continue
                if has_paths and is_ambiguous(request.target):
                    is_blurred = True
                    continue
                if not holds(request):
                    continue
            if servers is None:
                return None
            is_granted = True
            found |= servers
        if is_granted:
            return frozenset(found)
        return NOT_THIS_PATH if is_blurred else NOT_THIS_REQUEST

    def find_delivery_grants(self, client: str, *, is_http: bool) -> DeliveryGrants:
        """Find what a client may reach, without a request; grants with conditions only apply to HTTP."""
        if client in self.free:
            return DeliveryGrants(None, None)
        certain: set[tuple[str, int]] = set()
        possible: set[tuple[str, int]] = set()
        is_possible_everywhere = False
        for sources, holds, _, servers in self._grants:
            if client not in sources or (holds is not None and not is_http):
                continue
            if servers is None:
                is_possible_everywhere = True
            else:
                possible |= servers
                if holds is None:
                    certain |= servers
        return DeliveryGrants(frozenset(certain), None if is_possible_everywhere else frozenset(possible))


class Acl(Middleware):
    """The access control of one service."""

    __slots__ = ("_counts", "_leaves", "_service", "reads_changed_headers")

    reads_changed_headers: bool

    def __init__(self, settings: AclSettings, service: str, counts: dict[tuple[str, str], int]) -> None:
        self._leaves = {key: tuple(map(Leaf, leaves)) for key, leaves in settings.destinations.items()}
        self._service, self._counts = service, counts
        found = (grant for leaves in settings.destinations.values() for leaf in leaves for grant in leaf.grants)
        self.reads_changed_headers = any(match.headers for grant in found for match in grant.matches)

    def __repr__(self) -> str:
        return f"<Acl of {self._service}, {len(self._leaves)} destinations>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Allow a request, possibly only to some servers, or answer 403."""
        leaves, client = self._leaves.get(exchange.destination, ()), exchange.client_address
        if len(leaves) == 1 and client in leaves[0].free:  # the common case of an allowed request
            return None
        judgement = _judge(leaves, client, exchange)
        if judgement is None:
            return None
        if isinstance(judgement, str):
            self._count(exchange.service, judgement)
            return _DENIED[judgement]
        exchange.allowed_servers = judgement
        return None

    def on_connect(self, connection: Connection) -> bool:
        """Allow or deny a connection or a session, possibly only to some servers."""
        judgement = _judge(self._leaves.get(connection.service, ()), connection.client_address, None)
        if isinstance(judgement, str):
            self._count(connection.service, judgement)
            return False
        connection.allowed_servers = judgement
        return True

    def is_still_allowed(self, connection: Connection) -> bool:
        """Check a connection, session, tunnel or exchange again; later attempts use the servers allowed now."""
        exchange = connection.exchange
        destination = exchange.destination if exchange is not None else connection.service
        judgement = _judge(self._leaves.get(destination, ()), connection.client_address, exchange)
        if isinstance(judgement, str):
            self._count(connection.service, judgement)
            return False
        connection.allowed_servers = judgement
        return judgement is None or connection.server is None or connection.server in judgement

    def judge_delivery(self, delivery: Delivery) -> bool | None:
        """Decide about a connection from another node, whose proxy checks each request.

        None if the client's grants have conditions, which only that proxy can check. The service of a delivery is a
        service port, or for a split one backend of a branch.
        """
        destination = delivery.service
        leaves = self._leaves.get(destination) or self._leaves.get(destination.rpartition("/")[0], ())
        verdict = _judge_delivery(leaves, delivery)
        if verdict is False:
            self._count(destination, NOT_THIS_CLIENT)
        return verdict

    def judge_changed(self, exchange: Exchange, sent: ClientHead) -> bool:
        """Check a request again as it is sent, with the path, Host and header fields that others have set."""
        judgement = _judge(self._leaves.get(exchange.destination, ()), exchange.client_address, sent)
        if isinstance(judgement, str):
            self._count(exchange.service, judgement)
            return False
        if judgement is not None:
            allowed = exchange.allowed_servers
            exchange.allowed_servers = judgement if allowed is None else frozenset(judgement).intersection(allowed)
        return True

    def judge_copy(self, exchange: Exchange, service: str, sent: ClientHead) -> bool | Servers:
        """Check a copy as if the client had sent it to the side service."""
        judgement = _judge(self._leaves.get(service, ()), exchange.client_address, sent)
        if isinstance(judgement, str):
            return False
        return True if judgement is None else judgement

    def _count(self, service: str, reason: str) -> None:
        key = (cut_port_key(service), reason)
        self._counts[key] = self._counts.get(key, 0) + 1


def _judge(leaves: Sequence[Leaf], client: str, request: Request | None) -> Servers | str | None:
    """Allow the client if every leaf allows it; without leaves, deny it."""
    if len(leaves) == 1:
        return leaves[0].find_servers(client, request)
    if not leaves:
        return NOT_THIS_CLIENT
    allowed: set[tuple[str, int]] = set()
    is_limited = False
    for leaf in leaves:
        servers = leaf.find_servers(client, request)
        if isinstance(servers, str):
            return servers
        is_limited = is_limited or servers is not None
        allowed.update(leaf.servers if servers is None else servers)
    return frozenset(allowed) if is_limited else None


def _judge_delivery(leaves: Sequence[Leaf], delivery: Delivery) -> bool | None:
    """Allow the client if every leaf allows it and one of them allows the server; without leaves, deny it."""
    server = (delivery.address, delivery.port)
    is_certain, is_allowed = True, False
    for leaf in leaves:
        certain, possible = leaf.find_delivery_grants(delivery.client, is_http=delivery.protocol == "http")
        if possible is not None and not possible:
            return False
        has_server = len(leaves) == 1 or not leaf.servers or server in leaf.servers
        is_allowed = is_allowed or (has_server and (possible is None or server in possible))
        is_certain = is_certain and (certain is None or (server in certain if has_server else bool(certain)))
    if not is_allowed:
        return False
    return True if is_certain else None


class AclFactory:
    """Builds the access control of services, and counts their denials."""

    kind = "acl"
    settings_type = AclSettings

    def __init__(self, node: Node) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def build_middleware(self, settings: AclSettings, service: str) -> Acl:
        """Build one."""
        return Acl(settings, service, self._counts)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        return [
            MetricFamily(
                name="maesh_acl_denied",
                type="counter",
                help="Denied requests, connections and sessions, by service and reason.",
                labels=("service", "reason"),
                samples=[(key, float(count)) for key, count in sorted(self._counts.items())],
            )
        ]
