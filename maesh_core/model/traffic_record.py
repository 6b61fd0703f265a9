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
ROUTE_REMOVED: Final = "the route was removed"
SERVER_REMOVED: Final = "the server was removed"
ENTRYPOINT_CLOSED: Final = "the entrypoint was closed"
EVICTED: Final = "the session was evicted for another one"
PROXY_ENDED: Final = "the proxy ended"
"""Reasons of ends that are not HTTP answers of the mesh."""

LISTED: Final = (
    "started_at",
    "duration_s",
    "upstream_s",
    "client",
    "target",
    "received_bytes",
    "sent_bytes",
    "service",
    "destination",
    "server",
    "server_path",
    "server_node",
    "host",
    "entrypoint",
    "kind",
    "protocol",
    "method",
    "attempts",
    "status",
    "grpc_status",
    "reason",
    "would_deny",
)
"""The fields that `TrafficRecord.list_values` returns. What changes with each request comes first, then what depends on
where it went, and last its outcome, so that slices are keys of caches."""


@final
class TrafficRecord:
    """One ended request, tunnel, TCP connection, UDP session or refusal.

    Sizes are in bytes, without heads and framing. Durations are in seconds, times are Unix times.
    """

    __slots__ = (
        "_head",
        "_headers",
        "attempts",
        "client",
        "destination",
        "duration_s",
        "entrypoint",
        "grpc_status",
        "host",
        "kind",
        "method",
        "protocol",
        "reason",
        "received_bytes",
        "sent_bytes",
        "server",
        "server_node",
        "server_path",
        "service",
        "started_at",
        "status",
        "target",
        "upstream_s",
        "would_deny",
    )

    def __init__(
        self,
        kind: str,
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
        head: Any = None,
        server_path: str = "",
        server_node: str = "",
        would_deny: str = "",
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
        self.server_path = server_path
        """`local`, `encrypted` or `clear`, if the service has encryption; else empty."""
        self.server_node = server_node
        """The server's node, if the service has encryption."""
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
        self.would_deny = would_deny
        """Why access control would have denied it if it were not in audit mode; empty if it was allowed, or denied."""
        self._headers = headers
        self._head = head
        """What has the headers as `client_headers`, unless they were passed."""

    def __repr__(self) -> str:
        return f"<TrafficRecord {self.kind} {self.service} status={self.status} {self.reason!r}>"

    @property
    def headers(self) -> Any:
        """The request's fields (`interfaces.ReadableHeaders`); None without a request. Created when they are read."""
        if self._headers is None and self._head is not None:
            self._headers = self._head.client_headers
        return self._headers

    def list_values(self) -> tuple[Any, ...]:
        """Return all values but the headers, in the order of LISTED: faster than reading many of them one by one."""
        return (
            self.started_at,
            self.duration_s,
            self.upstream_s,
            self.client,
            self.target,
            self.received_bytes,
            self.sent_bytes,
            self.service,
            self.destination,
            self.server,
            self.server_path,
            self.server_node,
            self.host,
            self.entrypoint,
            self.kind,
            self.protocol,
            self.method,
            self.attempts,
            self.status,
            self.grpc_status,
            self.reason,
            self.would_deny,
        )
