"""The counters of a service, and the names and descriptions of their metrics. docs/udp-services.md lists them."""

from typing import Final, final

METRICS: Final = {
    "opened": ("sessions", "Sessions that began."),
    "closed": ("closed_sessions", "Sessions that ended."),
    "denied": ("denied_sessions", "Sessions that a middleware refused or ended."),
    "refused": ("refused_sessions", "Datagrams of new clients for which there was no server."),
    "evicted": ("evicted_sessions", "Longest-idle sessions that were evicted at the session limit."),
    "failed": ("failed_sessions", "Sessions that ended because of an ICMP error."),
    "received": ("received_datagrams", "Datagrams from clients that were forwarded to servers."),
    "received_bytes": ("received_bytes", "Bytes of these."),
    "sent": ("sent_datagrams", "Datagrams from servers that were forwarded to clients."),
    "sent_bytes": ("sent_bytes", "Bytes of these."),
    "dropped": ("dropped_datagrams", "Datagrams of either side that could not be forwarded."),
}
"""By attribute of `Counters`: the metric's name without `maesh_udp_`, and its description."""


@final
class Counters:
    """Counters of the sessions and datagrams of one service."""

    __slots__ = (
        "closed",
        "denied",
        "dropped",
        "evicted",
        "failed",
        "opened",
        "received",
        "received_bytes",
        "refused",
        "sent",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.opened = self.closed = self.denied = self.refused = self.evicted = self.failed = 0
        self.received = self.received_bytes = self.sent = self.sent_bytes = self.dropped = 0

    def __repr__(self) -> str:
        return f"<Counters {', '.join(f'{name}={getattr(self, name)}' for name in METRICS)}>"
