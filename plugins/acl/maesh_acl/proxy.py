"""The proxy's half: allows or denies requests, connections, sessions and tunnels by the client's address.

Headers do not identify a client. Everything without a grant is denied, unless the mode of the service that it would
reach is `audit`: then it passes. Both are counted by service and reason, and recorded for the report (denials/log.py).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from msgspec import UnsetType

from maesh_acl import AclSettings, LeafGrants
from maesh_acl.denials.log import DenialLog
from maesh_acl.denials.report import REASONS, REPORT_NAME, TARGETS_LIMIT, Reason
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


class Denial(NamedTuple):
    """What enforced rules do not allow, at which leaves; if it `passes`, they are in audit mode.

    `servers` are then the only ones that may be chosen; None means all. `traffic_targets`
    are those in audit mode by which it passes, or else those that allow the client other requests.
    """

    reason: Reason
    services: tuple[str, ...]
    passes: bool
    servers: Servers | None = None
    traffic_targets: tuple[str, ...] = ()


class CompiledGrant(NamedTuple):
    """A grant with conditions: `holds` checks a request, and None in `servers` means all servers.

    If it `is_audited`, requests for which it does not hold pass, too.
    """

    target: str
    sources: frozenset[str]
    holds: Callable[[Request], bool] | None
    has_paths: bool
    servers: frozenset[tuple[str, int]] | None
    is_audited: bool


class DeliveryGrants(NamedTuple):
    """The servers of a leaf that a client may reach, for every request (`certain`) or for some (`possible`).

    None means all servers.
    """

    certain: frozenset[tuple[str, int]] | None
    possible: frozenset[tuple[str, int]] | None


class Leaf:
    """One service at the end of a route. `free` are clients that may send any request to any of its servers."""

    __slots__ = ("_clients", "_grants", "free", "is_audited", "servers", "service")

    def __init__(self, found: LeafGrants) -> None:
        grants = found.grants
        self.service = found.service
        self.is_audited = found.is_audited
        self.servers = frozenset(found.servers)
        self.free = frozenset(
            source for grant in grants if not grant.matches and grant.servers is None for source in grant.sources
        )
        self._grants = [
            CompiledGrant(
                grant.target,
                frozenset(grant.sources),
                compile_matches(grant.matches) if grant.matches else None,
                any(match.paths for match in grant.matches),
                None if grant.servers is None else frozenset(grant.servers),
                grant.is_audited,
            )
            for grant in grants
            if grant.matches or grant.servers is not None
        ]
        self._clients = self.free.union(*(grant.sources for grant in self._grants))

    def __repr__(self) -> str:
        return f"<Leaf {len(self.free)} free clients, {len(self._grants)} other grants>"

    def find_servers(self, client: str, request: Request | None) -> Servers | Reason | None:
        """Find the servers that a client may reach: None for all, or a text with the reason for a denial.

        In audit mode, a client that may reach some servers may reach all of them.
        """
        if client in self.free:
            return None
        if client not in self._clients:
            return NOT_THIS_CLIENT
        found: set[tuple[str, int]] = set()
        is_granted = is_blurred = False
        for _, sources, holds, has_paths, servers, _ in self._grants:
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
            if servers is None or self.is_audited:
                return None
            is_granted = True
            found |= servers
        if is_granted:
            return frozenset(found)
        return NOT_THIS_PATH if is_blurred else NOT_THIS_REQUEST

    def find_audited_servers(self, client: str, request: Request | None) -> Servers | None:
        """Find the servers that a client reaches although no grant allows it: None for all, empty for none."""
        if self.is_audited:
            return None
        found: set[tuple[str, int]] = set()
        for _, sources, _, _, servers, is_audited in self._grants:
            if is_audited and request is not None and client in sources:
                if servers is None:
                    return None
                found |= servers
        return frozenset(found)

    def list_targets(self, client: str, *, only_audited: bool) -> list[str]:
        """List the targets that name the client: all, or only those in audit mode."""
        return [
            grant.target for grant in self._grants if client in grant.sources and (grant.is_audited or not only_audited)
        ]

    def find_delivery_grants(self, client: str, *, is_http: bool) -> DeliveryGrants:
        """Find what a client may reach, without a request; grants with conditions only apply to HTTP."""
        if client in self.free or self.is_audited:
            return DeliveryGrants(None, None)
        certain: set[tuple[str, int]] = set()
        possible: set[tuple[str, int]] = set()
        is_possible_everywhere = False
        for _, sources, holds, _, servers, is_audited in self._grants:
            if client not in sources or (holds is not None and not is_http):
                continue
            if servers is None:
                if is_audited:
                    return DeliveryGrants(None, None)
                is_possible_everywhere = True
            else:
                possible |= servers
                if holds is None or is_audited:
                    certain |= servers
        return DeliveryGrants(frozenset(certain), None if is_possible_everywhere else frozenset(possible))


class Tally:
    """What the access control of all services of a worker counts: denials, and passes in audit mode."""

    __slots__ = ("denied", "log", "would_deny")

    def __init__(self, log: DenialLog) -> None:
        self.log = log
        self.denied: dict[tuple[str, str], int] = {}
        self.would_deny: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<Tally {self.log!r}>"


class Acl(Middleware):
    """The access control of one service."""

    __slots__ = ("_leaves", "_service", "_tally", "_traffic_type", "reads_changed_headers")

    reads_changed_headers: bool

    def __init__(self, settings: AclSettings, service: str, tally: Tally) -> None:
        self._leaves = {key: tuple(map(Leaf, leaves)) for key, leaves in settings.destinations.items()}
        self._service, self._tally = service, tally
        self._traffic_type = "http" if isinstance(settings.traffic_type, UnsetType) else settings.traffic_type
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
        if isinstance(judgement, Denial):
            if not (judgement.passes and exchange.is_delivered):  # the client's node has recorded it
                self._note(judgement, exchange.service, exchange.destination, client, exchange)
            if not judgement.passes:
                return _DENIED[judgement.reason]
            exchange.would_deny = REASONS[judgement.reason]
            judgement = judgement.servers
        exchange.allowed_servers = judgement
        return None

    def on_connect(self, connection: Connection) -> bool:
        """Allow or deny a connection or a session, possibly only to some servers."""
        destination, client = connection.service, connection.client_address
        judgement = _judge(self._leaves.get(destination, ()), client, None)
        if isinstance(judgement, Denial):
            self._note(judgement, destination, destination, client, None)
            if not judgement.passes:
                return False
            connection.would_deny = REASONS[judgement.reason]
            judgement = judgement.servers
        connection.allowed_servers = judgement
        return True

    def is_still_allowed(self, connection: Connection) -> bool:
        """Check a connection, session, tunnel or exchange again; later attempts use the servers allowed now.

        In audit mode, what was allowed when it began is recorded once when it no longer is.
        """
        exchange, client = connection.exchange, connection.client_address
        destination = exchange.destination if exchange is not None else connection.service
        judgement = _judge(self._leaves.get(destination, ()), client, exchange)
        if isinstance(judgement, Denial):
            if not (judgement.passes and connection.would_deny):
                self._note(judgement, connection.service, destination, client, exchange)
            if not judgement.passes:
                return False
            connection.would_deny = REASONS[judgement.reason]
            judgement = judgement.servers
        connection.allowed_servers = judgement
        return judgement is None or connection.server is None or connection.server in judgement

    def judge_delivery(self, delivery: Delivery) -> bool | None:
        """Decide about a connection from another node, whose proxy checks and records each request.

        None if the client's grants have conditions, which only that proxy can check. The service of a delivery is a
        service port, or for a split one backend of a branch.
        """
        destination = delivery.service
        leaves = self._leaves.get(destination) or self._leaves.get(destination.rpartition("/")[0], ())
        verdict = _judge_delivery(leaves, delivery)
        if verdict is False:
            _count(self._tally.denied, destination, NOT_THIS_CLIENT)
        return verdict

    def judge_changed(self, exchange: Exchange, sent: ClientHead) -> bool:
        """Check a request again as it is sent, with the path, Host and header fields that others have set."""
        judgement = _judge(self._leaves.get(exchange.destination, ()), exchange.client_address, sent)
        if isinstance(judgement, Denial):
            if not (judgement.passes and exchange.would_deny):
                self._note(judgement, exchange.service, exchange.destination, exchange.client_address, sent)
            if not judgement.passes:
                return False
            exchange.would_deny = REASONS[judgement.reason]
            judgement = judgement.servers
        if judgement is not None:
            allowed = exchange.allowed_servers
            exchange.allowed_servers = judgement if allowed is None else frozenset(judgement).intersection(allowed)
        return True

    def judge_copy(self, exchange: Exchange, service: str, sent: ClientHead) -> bool | Servers:
        """Check a copy as if the client had sent it to the side service. The proxy counts copies that are denied."""
        judgement = _judge(self._leaves.get(service, ()), exchange.client_address, sent)
        if isinstance(judgement, Denial):
            if not judgement.passes:
                return False
            self._note(judgement, exchange.service, service, exchange.client_address, sent)
            judgement = judgement.servers
        return True if judgement is None else judgement

    def _note(self, denial: Denial, service: str, destination: str, client: str, request: Request | None) -> None:
        """Count and record a denial."""
        tally, label = self._tally, cut_port_key(service)
        _count(tally.would_deny if denial.passes else tally.denied, service, denial.reason)
        namespace = label.partition("/")[0]
        tally.log.note(
            "audit" if denial.passes else "enforce",
            denial.reason,
            service=label,
            route=destination,
            destinations=[each if "@" in each else f"{each}@{namespace}" for each in denial.services],
            traffic_targets=denial.traffic_targets,
            client=client,
            traffic_type=self._traffic_type,
            method=b"" if request is None else request.method,
            target=b"" if request is None else request.target,
        )


def _count(counts: dict[tuple[str, str], int], service: str, reason: str) -> None:
    key = (cut_port_key(service), reason)
    counts[key] = counts.get(key, 0) + 1


def _judge(leaves: Sequence[Leaf], client: str, request: Request | None) -> Servers | Denial | None:
    """Allow the client if every leaf allows it; without leaves, deny it."""
    if len(leaves) == 1:
        leaf = leaves[0]
        servers = leaf.find_servers(client, request)
        return _deny(leaves, client, request) if isinstance(servers, str) else servers
    if not leaves:
        return Denial(NOT_THIS_CLIENT, (), passes=False)
    allowed: set[tuple[str, int]] = set()
    is_limited = False
    for leaf in leaves:
        servers = leaf.find_servers(client, request)
        if isinstance(servers, str):
            return _deny(leaves, client, request)
        is_limited = is_limited or servers is not None
        allowed.update(leaf.servers if servers is None else servers)
    return frozenset(allowed) if is_limited else None


def _deny(leaves: Sequence[Leaf], client: str, request: Request | None) -> Denial:
    """Build the denial by the leaves that do not allow the client; it passes if all of them are audited."""
    reasons: list[Reason] = []
    services: list[str] = []
    allowed: set[tuple[str, int]] = set()
    targets: list[str] = []
    is_limited, passes = False, True
    for leaf in leaves:
        servers = leaf.find_servers(client, request)
        if isinstance(servers, str):
            reasons.append(servers)
            services.append(leaf.service)
            servers = leaf.find_audited_servers(client, request)
            leaf_passes = servers is None or bool(servers)
            passes = passes and leaf_passes
            targets += leaf.list_targets(client, only_audited=leaf_passes and not leaf.is_audited)
        is_limited = is_limited or servers is not None
        allowed.update(leaf.servers if servers is None else servers)
    return Denial(
        reasons[0],
        tuple(dict.fromkeys(services)),
        passes,
        frozenset(allowed) if is_limited else None,
        tuple(dict.fromkeys(targets))[:TARGETS_LIMIT],
    )


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
    """Builds the access control of services, counts their denials, and reports them."""

    kind = "acl"
    settings_type = AclSettings
    report_name = REPORT_NAME

    def __init__(self, node: Node) -> None:
        self._tally = Tally(DenialLog(node.workers))

    def build_middleware(self, settings: AclSettings, service: str) -> Acl:
        """Build one."""
        return Acl(settings, service, self._tally)

    def build_report(self) -> bytes:
        """Report what was denied, and what would be without audit mode."""
        return self._tally.log.build_report()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        tally = self._tally
        audited = "Requests, connections and sessions that pass only in audit mode, by service and reason."
        return [
            _build_family("denied", "Denied requests, connections and sessions, by service and reason.", tally.denied),
            _build_family("would_deny", audited, tally.would_deny),
        ]


def _build_family(noun: str, text: str, counts: dict[tuple[str, str], int]) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_acl_{noun}",
        type="counter",
        help=text,
        labels=("service", "reason"),
        samples=[(key, float(count)) for key, count in sorted(counts.items())],
    )
