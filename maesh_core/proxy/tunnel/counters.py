"""What a worker's tunnels count, and the metrics of it. Plain integers; nothing here runs for a byte or a frame."""

from collections.abc import Mapping, Sequence
from typing import Literal

from maesh_core.model.metrics import MetricFamily

OUTGOING = "outgoing"
INCOMING = "incoming"
"""The roles: this node has opened the connection, or the other node has."""


class TunnelCounters:
    """The counters of one worker's tunnels, by role."""

    __slots__ = ("ends", "failures", "handshakes", "opens", "refusals", "streams", "tunnels")

    def __init__(self) -> None:
        self.handshakes: dict[tuple[str, str], int] = {}
        """Completed handshakes, by role and kind: full or resumed."""
        self.failures: dict[tuple[str, str], int] = {}
        """Connections that failed, by role and reason."""
        self.refusals: dict[tuple[str, str], int] = {}
        """Streams that were refused, by role and status."""
        self.ends: dict[str, int] = {}
        """Open streams of other nodes that this node has ended after a change of the configuration, by reason."""
        self.opens = {OUTGOING: 0, INCOMING: 0}
        self.tunnels = {OUTGOING: 0, INCOMING: 0}
        self.streams = {OUTGOING: 0, INCOMING: 0}

    def __repr__(self) -> str:
        return f"<TunnelCounters tunnels={self.tunnels} streams={self.streams}>"

    def count_handshake(self, role: str, *, is_resumed: bool) -> None:
        """Count a completed handshake."""
        key = role, "resumed" if is_resumed else "full"
        self.handshakes[key] = self.handshakes.get(key, 0) + 1

    def count_failure(self, role: str, reason: str) -> None:
        """Count a connection that could not be opened or has failed."""
        self.failures[role, reason] = self.failures.get((role, reason), 0) + 1

    def count_refusal(self, role: str, status: int) -> None:
        """Count a stream that was not opened."""
        key = role, str(status)
        self.refusals[key] = self.refusals.get(key, 0) + 1

    def count_end(self, reason: str) -> None:
        """Count an open stream that was ended after a change of the configuration."""
        self.ends[reason] = self.ends.get(reason, 0) + 1

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of the engine."""
        return [
            _build_role_family(
                "gauge", "maesh_tunnels", "Open TLS connections between nodes, by role of this node.", self.tunnels
            ),
            _build_role_family(
                "gauge",
                "maesh_tunnel_streams",
                "Open streams: connections to servers inside of TLS connections between nodes, by role.",
                self.streams,
            ),
            _build_role_family("counter", "maesh_tunnel_opens", "Streams that were opened, by role.", self.opens),
            MetricFamily(
                name="maesh_tunnel_refusals",
                type="counter",
                help="Streams that the receiving node refused, by role and status.",
                labels=("role", "status"),
                samples=sorted(self.refusals.items()),
            ),
            MetricFamily(
                name="maesh_tunnel_ended_streams",
                type="counter",
                help="Open streams of other nodes that were ended after a change of the configuration, by reason.",
                labels=("reason",),
                samples=[((reason,), count) for reason, count in sorted(self.ends.items())],
            ),
            MetricFamily(
                name="maesh_tunnel_handshakes",
                type="counter",
                help="Completed TLS handshakes between nodes, by role and kind.",
                labels=("role", "kind"),
                samples=sorted(self.handshakes.items()),
            ),
            MetricFamily(
                name="maesh_tunnel_failures",
                type="counter",
                help="TLS connections between nodes that could not be opened or have failed, by role and reason.",
                labels=("role", "reason"),
                samples=sorted(self.failures.items()),
            ),
        ]


def _build_role_family(
    type_: Literal["counter", "gauge"], name: str, text: str, counts: Mapping[str, int]
) -> MetricFamily:
    """Build the family of a metric that has one sample for each role."""
    samples = [((role,), count) for role, count in counts.items()]
    return MetricFamily(name=name, type=type_, help=text, labels=("role",), samples=samples)
