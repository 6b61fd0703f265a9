"""The registry of proxies that pull from this controller: it records each pull, and reports `/api/status/nodes`.

What a proxy reports is untrusted: names and revisions are checked, and their number is limited. Nothing here connects
to a proxy.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from maesh_core.model.messages import NodeReport

READY_S = 90.0
"""A proxy that pulled within this time counts as ready: a pull is held for at most 60 s, and a failed one is followed
by a pause."""
FORGOTTEN_S = 3600.0
"""A proxy that has not pulled for an hour is forgotten."""
NODE_LIMIT = 10_000
"""Limit of remembered proxies; at the limit, the one that was seen least recently is dropped. Protects memory against
invented names."""
NAME_LIMIT = 253
"""Characters of a Kubernetes name."""
REVISION_LIMIT = 128
"""Characters of a revision; ours have far fewer."""


class AdminAddress(msgspec.Struct, frozen=True):
    """The address of a proxy's admin port: the address that it pulled from, and the port that it reported, or None."""

    ip: str
    port: int | None


class _Node:
    """A proxy; `held` counts its waiting pulls, `seen_at` is monotonic time."""

    __slots__ = ("admin", "held", "name", "revision", "seen_at")

    def __init__(self, name: str) -> None:
        self.name = name
        self.admin = AdminAddress("", None)
        self.revision: str | None = None
        self.held = 0
        self.seen_at = 0.0


def is_valid_name(name: str) -> bool:
    """Whether a name is valid for a proxy: printable, and no longer than a Kubernetes name."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable()


class NodeRegistry:
    """The proxies that pulled within the last hour."""

    __slots__ = ("_clock", "_limit", "_nodes", "_wall_clock")

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        limit: int = NODE_LIMIT,
    ) -> None:
        self._nodes: dict[str, _Node] = {}  # in the order they were last seen
        self._clock = clock
        self._wall_clock = wall_clock
        self._limit = limit

    def __repr__(self) -> str:
        return f"<NodeRegistry nodes={len(self._nodes)}>"

    @contextmanager
    def hold_pull(self, name: str, ip: str, revision: str | None, *, admin_port: int | None = None) -> Iterator[None]:
        """Record a proxy as pulling while the context lasts; an invalid `revision` counts as none."""
        node = self._nodes.get(name) or _Node(name)
        node.admin = AdminAddress(
            ip, admin_port
        )  # both from the same pull: a port never goes with the address of another pull
        node.revision = revision if revision and len(revision) <= REVISION_LIMIT and revision.isprintable() else None
        node.held += 1
        self._touch(node)
        try:
            yield
        finally:
            node.held -= 1
            if self._nodes.get(name) is node:
                self._touch(node)

    def find_admin(self, name: str) -> AdminAddress | None:
        """Find a proxy's admin port; None if the proxy did not pull within the last hour."""
        self._forget_old()
        node = self._nodes.get(name)
        return None if node is None else node.admin

    def list_reports(self) -> list[NodeReport]:
        """Report every remembered proxy, sorted by name."""
        self._forget_old()
        now, wall_now = self._clock(), self._wall_clock()
        return [self._report(self._nodes[name], now, wall_now) for name in sorted(self._nodes)]

    def _report(self, node: _Node, now: float, wall_now: float) -> NodeReport:
        is_near = node.held > 0 or now - node.seen_at <= READY_S
        seen = datetime.fromtimestamp(wall_now - (now - node.seen_at), UTC)
        return NodeReport(
            name=node.name,
            ip=node.admin.ip,
            ready=is_near and node.revision is not None,
            revision=node.revision,
            last_seen=seen.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    def _touch(self, node: _Node) -> None:
        node.seen_at = self._clock()
        self._nodes.pop(node.name, None)
        self._nodes[node.name] = node
        self._forget_old()
        while len(self._nodes) > self._limit:
            del self._nodes[next(iter(self._nodes))]

    def _forget_old(self) -> None:
        horizon = self._clock() - FORGOTTEN_S
        while self._nodes:
            oldest = next(iter(self._nodes.values()))
            if oldest.seen_at >= horizon:
                return
            del self._nodes[oldest.name]
