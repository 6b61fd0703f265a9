"""Counts what went in clear, encrypted or to a server on the same node: connections, requests and bytes of services.

Takes the path of each connection when it is opened, and each finished request. The counters exist only for services
with encryption. A counter is never removed while the process lives: the service may return.
"""

from collections.abc import Sequence
from typing import final

from maesh_core.model.keys import cut_port_key
from maesh_core.model.metrics import MetricFamily


@final
class PathCounter:
    """What one service has sent over one kind of path. `reason` says why it was in clear."""

    __slots__ = ("bytes", "connections", "kind", "reason", "requests", "service")

    def __init__(self, service: str, kind: str, reason: str) -> None:
        self.service = service
        self.kind = kind
        self.reason = reason
        self.connections = 0
        self.requests = 0
        self.bytes = 0

    def __repr__(self) -> str:
        return f"<PathCounter {self.service} {self.kind} requests={self.requests} bytes={self.bytes}>"


@final
class ConnectionPath:
    """How a connection to a server was opened, and the counter of the service that used it last."""

    __slots__ = ("_counter", "kind", "node", "reason")

    def __init__(self, kind: str, reason: str, node: str) -> None:
        self.kind = kind
        self.reason = reason
        self.node = node
        """The server's node; empty if it is not known."""
        self._counter: PathCounter | None = None

    def __repr__(self) -> str:
        return f"<ConnectionPath {self.kind} to {self.node or 'an unknown node'}>"

    def find_counter(self, counts: "PathCounts", service: str) -> PathCounter:
        """Return the counter of a service, given by the key of its port."""
        counter = self._counter
        if counter is None or counter.service != service:
            counter = self._counter = counts.find(service, self.kind, self.reason)
        return counter


@final
class PathCounts:
    """The counters of a worker."""

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, str], PathCounter] = {}

    def __repr__(self) -> str:
        return f"<PathCounts {len(self._counters)}>"

    def find(self, service: str, kind: str, reason: str) -> PathCounter:
        """Return the counter of a service, given by the key of its port, a branch or a part."""
        key = (cut_port_key(service), kind, reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = PathCounter(*key)
        return counter

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics."""
        counted = sorted(self._counters.items())
        return [
            MetricFamily(
                name=f"maesh_transport_{noun}",
                type="counter",
                help=f"{text} of services with encryption, by path, and why in clear.",
                labels=("service", "path", "reason"),
                samples=[(key, float(getattr(counter, noun))) for key, counter in counted if getattr(counter, noun)],
            )
            for noun, text in (
                ("connections", "Connections opened to servers, and UDP sessions,"),
                ("requests", "Requests that were sent to servers, by the connection of the last attempt,"),
                ("bytes", "Bytes of bodies, TCP connections and datagrams"),
            )
        ]
