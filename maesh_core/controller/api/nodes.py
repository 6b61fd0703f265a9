"""The registry of proxies that pull from this controller: it records each pull, and reports `/api/status/nodes`.

What a proxy reports is untrusted: names and revisions are checked, and their number is limited. Nothing here connects
to a proxy.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from maesh_core.model.messages import NodeReport, TransportReport

READY_S = 90.0
"""A proxy that pulled within this time counts as ready: a pull is held for at most 60 s, and a failed one is followed
by a pause."""
FORGOTTEN_S = 3600.0
"""A proxy that has not pulled for an hour is forgotten."""
SHARED_S = 2 * READY_S
"""How long a name and address count as shared after two proxies have pulled with them in turns. A pull is held for
60 s, so each of them pulls again within this time."""
PORTS_LIMIT = 16
"""Limit of the admin ports that are remembered for one name and address."""
NODE_LIMIT = 10_000
"""Limit of remembered proxies; at the limit, the one that was seen least recently is dropped. Protects memory against
invented names."""
ADDRESS_LIMIT = 1_000
"""Limit of remembered proxies with one address, so that one client with invented names cannot displace the others."""
NAME_LIMIT = 253
"""Characters of a Kubernetes name."""
REVISION_LIMIT = 128
"""Characters of a revision; ours have far fewer."""


class AdminAddress(msgspec.Struct, frozen=True):
    """The address of a proxy's admin port: the address that it pulled from, and the port that it reported, or None.

    `node` is the node whose certificate the port shows; empty if the proxy did not report that it uses TLS.
    """

    ip: str
    port: int | None
    node: str = ""


class FactReader(Protocol):
    """What a transport makes of the facts that proxies report."""

    def accept_facts(self, facts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the facts that are valid. Raises ValueError if they are not those of this transport."""

    def describe_facts(self, facts: Mapping[str, str]) -> TransportReport:
        """Describe accepted facts now."""


class _Node:
    """A proxy with its address; `held` counts its waiting pulls.

    `pulled_at` and `seen_at` are monotonic times: of the last pull that was answered, and of the last pull.
    """

    __slots__ = (
        "_ports",
        "_shared_at",
        "admin",
        "facts",
        "held",
        "name",
        "pulled_at",
        "revision",
        "seen_at",
        "sent_facts",
    )

    def __init__(self, name: str, admin: AdminAddress) -> None:
        self.name = name
        self.admin = admin
        self.revision: str | None = None
        self.sent_facts: Mapping[str, str] = {}
        self.facts: Mapping[str, str] = {}
        """Those of `sent_facts` that the transport accepts."""
        self.held = 0
        self.pulled_at: float | None = None
        self.seen_at = 0.0
        self._ports: dict[int, float] = {}
        """When each of the latest admin ports was last reported, the latest one last."""
        self._shared_at: float | None = None

    @property
    def key(self) -> "_Key":
        return (self.name, self.admin.ip)

    def note_port(self, port: int, now: float) -> None:
        """Note the admin port of a pull.

        A proxy that was restarted with another port leaves its former one. If a former one returns, two proxies have
        this name and address.
        """
        latest = next(reversed(self._ports), port)
        seen_at = self._ports.pop(port, None)
        if latest != port and seen_at is not None and now - seen_at <= SHARED_S:
            self._shared_at = now
        self._ports[port] = now
        if len(self._ports) > PORTS_LIMIT:
            del self._ports[next(iter(self._ports))]

    def list_shared_ports(self, now: float) -> tuple[int, ...]:
        """List the admin ports of the proxies that share this name and address; empty if there is only one."""
        if self._shared_at is None or now - self._shared_at > SHARED_S:
            return ()
        return tuple(sorted(port for port, seen_at in self._ports.items() if now - seen_at <= SHARED_S))


_NO_FACTS: Mapping[str, str] = {}
_Key = tuple[str, str]
"""The name of a proxy, and its address."""


def is_valid_name(name: str) -> bool:
    """Whether a name is valid for a proxy: printable, and no longer than a Kubernetes name."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable()


def _is_near(moment: float | None, now: float) -> bool:
    return moment is not None and now - moment <= READY_S


class NodeRegistry:
    """The proxies that pulled within the last hour.

    A proxy that pulls from another address than before is remembered with the new one only. But while a pull is held,
    no pull from elsewhere with the same name displaces it. Proxies with one name and address are remembered as one, and
    reported as such (`shared_ports`). `reader` reads the facts of the transport, if there is one.
    """

    __slots__ = (
        "_address_limit",
        "_by_address",
        "_by_name",
        "_clock",
        "_limit",
        "_nodes",
        "_reader",
        "_wall_clock",
        "refused_facts",
    )

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        reader: FactReader | None = None,
        limit: int = NODE_LIMIT,
        address_limit: int = ADDRESS_LIMIT,
    ) -> None:
        self._nodes: dict[_Key, _Node] = {}  # in the order they were last seen, as in both indexes
        self._by_name: dict[str, dict[_Key, _Node]] = {}
        self._by_address: dict[str, dict[_Key, _Node]] = {}
        self._clock = clock
        self._wall_clock = wall_clock
        self._limit = limit
        self._reader = reader
        self.refused_facts = 0
        """How often a proxy reported facts that the transport does not accept, or cannot describe."""
        self._address_limit = address_limit

    def __repr__(self) -> str:
        return f"<NodeRegistry nodes={len(self._nodes)}>"

    @contextmanager
    def hold_pull(
        self,
        name: str,
        ip: str,
        revision: str | None,
        *,
        admin_port: int | None = None,
        has_tls: bool = False,
        facts: Mapping[str, str] = _NO_FACTS,
    ) -> Iterator[None]:
        """Record a proxy as pulling while the context lasts; an invalid `revision` counts as none."""
        node = self._update(name, AdminAddress(ip, admin_port, name if has_tls else ""), revision, facts)
        node.held += 1
        self._touch(node, is_answered=True)
        try:
            yield
        finally:
            node.held -= 1
            if self._nodes.get(node.key) is node:
                self._touch(node, is_answered=True)

    def note_refused_pull(
        self,
        name: str,
        ip: str,
        revision: str | None,
        *,
        admin_port: int | None = None,
        has_tls: bool = False,
        facts: Mapping[str, str] = _NO_FACTS,
    ) -> None:
        """Record a pull that could not be answered: the proxy runs, and keeps its configuration."""
        admin = AdminAddress(ip, admin_port, name if has_tls else "")
        self._touch(self._update(name, admin, revision, facts), is_answered=False)

    def _update(self, name: str, admin: AdminAddress, revision: str | None, facts: Mapping[str, str]) -> _Node:
        """Update a proxy from one pull: a port never goes with the address of another pull."""
        node = self._nodes.get((name, admin.ip))
        if node is None:
            node = _Node(name, admin)
            for other in list(self._by_name.get(name, {}).values()):
                if not other.held:
                    self._drop(other)
        node.admin = admin
        if admin.port is not None:
            node.note_port(admin.port, self._clock())
        node.revision = revision if revision and len(revision) <= REVISION_LIMIT and revision.isprintable() else None
        if facts != node.sent_facts:
            node.sent_facts, node.facts = facts, self._accept(facts)
        return node

    def _accept(self, facts: Mapping[str, str]) -> Mapping[str, str]:
        """Return the facts that the transport accepts; wrong ones do not affect the pull."""
        if self._reader is None or not facts:
            return _NO_FACTS
        try:
            return self._reader.accept_facts(facts)
        except Exception:  # the reader is a plugin's, and the facts may be anything
            self.refused_facts += 1
            return _NO_FACTS

    def find_admin(self, name: str) -> AdminAddress | None:
        """Find a proxy's admin port; None if the proxy did not pull within the last hour."""
        self._forget_old()
        nodes = list(self._by_name.get(name, {}).values())
        return max(nodes, key=lambda node: (node.held > 0, node.seen_at)).admin if nodes else None

    def list_reports(self) -> list[NodeReport]:
        """Report every remembered proxy, sorted by name and address."""
        self._forget_old()
        now, wall_now = self._clock(), self._wall_clock()
        return [self._report(self._nodes[key], now, wall_now) for key in sorted(self._nodes)]

    def _report(self, node: _Node, now: float, wall_now: float) -> NodeReport:
        is_near = node.held > 0 or _is_near(node.pulled_at, now)
        seen = datetime.fromtimestamp(wall_now - (now - node.seen_at), UTC)
        return NodeReport(
            name=node.name,
            ip=node.admin.ip,
            ready=is_near and node.revision is not None,
            revision=node.revision,
            last_seen=seen.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            admin_port=node.admin.port,
            admin_tls=bool(node.admin.node),
            refused=not is_near and _is_near(node.seen_at, now),
            shared_ports=node.list_shared_ports(now) or msgspec.UNSET,
            transport=self._describe(node.facts),
        )

    def _describe(self, facts: Mapping[str, str]) -> TransportReport | msgspec.UnsetType:
        """Describe accepted facts; those that cannot be described do not affect the report."""
        if self._reader is None:
            return msgspec.UNSET
        try:
            return self._reader.describe_facts(facts)
        except Exception:  # the reader is a plugin's
            self.refused_facts += 1
            return msgspec.UNSET

    def _touch(self, node: _Node, *, is_answered: bool) -> None:
        node.seen_at = self._clock()
        if is_answered:
            node.pulled_at = node.seen_at
        self._drop(node)
        for index, value in ((self._by_name, node.name), (self._by_address, node.admin.ip)):
            index.setdefault(value, {})[node.key] = node
        self._nodes[node.key] = node
        self._forget_old()
        same = self._by_address[node.admin.ip]
        if len(same) > self._address_limit:
            self._drop(next(iter(same.values())))
        while len(self._nodes) > self._limit:
            self._drop(next(iter(self._nodes.values())))

    def _drop(self, node: _Node) -> None:
        if self._nodes.pop(node.key, None) is None:
            return
        for index, value in ((self._by_name, node.name), (self._by_address, node.admin.ip)):
            del index[value][node.key]
            if not index[value]:
                del index[value]

    def _forget_old(self) -> None:
        horizon = self._clock() - FORGOTTEN_S
        while self._nodes:
            oldest = next(iter(self._nodes.values()))
            if oldest.seen_at >= horizon:
                return
            self._drop(oldest)
