"""What happened to one request, connection or session, once it has ended. Access logs, taps and edges are made of it.

A proxy creates a record only if something observes its traffic. The fields refer to objects that exist anyway: texts of
a message stay the bytes that were received, so they are untrusted: escape them before you print them.
"""

from typing import Any, Final, final

HTTP: Final = "http"
TUNNEL: Final = "tunnel"
TCP: Final = "tcp"
UDP: Final = "udp"
REFUSED: Final = "refused"
"""The kinds of records. `refused` is something that was not routed: bytes that are not a request, an unknown host, or a
client above a connection limit."""

CLIENT_LEFT: Final = "the client left"
UPSTREAM_LOST: Final = "the upstream closed the connection during the response"
EXCESS_CLIENT: Final = "the client exceeds a connection limit"
UNROUTED: Final = "no service has this entrypoint"
DENIED: Final = "access denied"
NO_SERVER_ACCEPTED: Final = "no server accepted the connection"
IDLE: Final = "no byte was sent for too long"
CUT: Final = "the connection was reset"
PROXY_ENDED: Final = "the proxy ended"
"""Reasons of ends that are not HTTP answers of the mesh."""


@final
class TrafficRecord:
    """One ended request, tunnel, TCP connection, UDP session or refusal.

    Sizes are in bytes, without heads and framing. Durations are in seconds, times are Unix times.
    """

    __slots__ = (
        "attempts",
        "client",
        "destination",
        "duration_s",
        "entrypoint",
        "grpc_status",
        "headers",
        "host",
        "kind",
        "method",
        "protocol",
        "reason",
        "received_bytes",
        "sent_bytes",
        "server",
        "service",
        "started_at",
        "status",
        "target",
        "upstream_s",
    )

    def __init__(
        self,
        kind: str,
        *,
        started_at: float,
        duration_s: float,
        client: str,
        entrypoint: int,
        protocol: str,
        service: str = "",
        destination: str = "",
        server: str = "",
        attempts: int = 0,
        status: int = 0,
        grpc_status: int | None = None,
        reason: str = "",
        received_bytes: int = 0,
        sent_bytes: int = 0,
        upstream_s: float | None = None,
        method: bytes = b"",
        host: bytes = b"",
        target: bytes = b"",
        headers: Any = None,
    ) -> None:
        self.kind = kind
        self.started_at = started_at
        self.duration_s = duration_s
        self.client = client
        """The client's IP address."""
        self.entrypoint = entrypoint
        self.protocol = protocol
        """`HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `TCP` or `UDP`."""
        self.service = service
        """The key of the service port; empty if nothing was routed."""
        self.destination = destination
        """The key of the service port that received it: the service itself, or the chosen branch."""
        self.server = server
        """`address:port` of the last attempt's server; empty if there was no attempt."""
        self.attempts = attempts
        self.status = status
        """0 without HTTP; 499 if the client left before the response was complete."""
        self.grpc_status = grpc_status
        """The status of a gRPC call; otherwise None."""
        self.reason = reason
        """Why the mesh itself answered or ended it; empty for responses of servers and ordinary ends."""
        self.received_bytes = received_bytes
        self.sent_bytes = sent_bytes
        self.upstream_s = upstream_s
        """From the start of the last attempt to the response's head; None if there was none."""
        self.method = method
        self.host = host
        self.target = target
        self.headers = headers
        """The request's fields (`interfaces.ReadableHeaders`); None without a request."""

    def __repr__(self) -> str:
        return f"<TrafficRecord {self.kind} {self.service} status={self.status} {self.reason!r}>"
