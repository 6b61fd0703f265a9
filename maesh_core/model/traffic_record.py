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


@final
class RecordPlace:
    """Where traffic came in, and where it went. Records with the same one share it, so it is a key of caches.

    `service` is the key of the service port; empty if nothing was routed. `destination` is the key of the service port
    that received it: the service itself, or the chosen branch. `server` is the last attempt's server, by its address or
    DNS name, with the port; empty if there was no attempt. If the service has encryption, `server_path` is `local`,
    `encrypted` or `clear`, and `server_node` is the server's node; else they are empty.
    """

    __slots__ = ("destination", "entrypoint", "host", "server", "server_node", "server_path", "service")

    def __init__(
        self,
        service: str,
        destination: str,
        server: str,
        server_path: str,
        server_node: str,
        host: bytes,
        entrypoint: int,
    ) -> None:
        self.service = service
        self.destination = destination
        self.server = server
        self.server_path = server_path
        self.server_node = server_node
        self.host = host
        self.entrypoint = entrypoint

    def __repr__(self) -> str:
        return f"<RecordPlace {self.service} at {self.server}>"

    def list_values(self) -> tuple[Any, ...]:
        """Return all values, in the order of the constructor's parameters."""
        return (
            self.service,
            self.destination,
            self.server,
            self.server_path,
            self.server_node,
            self.host,
            self.entrypoint,
        )


def find_place(
    last: RecordPlace | None,
    service: str,
    destination: str,
    server: str,
    server_path: str,
    server_node: str,
    host: bytes,
    entrypoint: int,
) -> RecordPlace:
    """Return `last` if it has these values, else a new place. Texts are compared by identity: most are the same."""
    if (
        last is not None
        and last.service is service
        and last.destination is destination
        and last.server is server
        and last.server_path is server_path
        and last.server_node is server_node
        and last.entrypoint == entrypoint
        and last.host == host
    ):
        return last
    return RecordPlace(service, destination, server, server_path, server_node, host, entrypoint)


@final
class RecordOutcome:
    """What kind of traffic it was, and how it ended. Records with the same one share it, so it is a key of caches.

    `protocol` is `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `TCP` or `UDP`. `status` is 0 without HTTP, and 499 if the client
    left before the response was complete. `grpc_status` is the status of a gRPC call; otherwise None. `reason` is why
    the mesh itself answered or ended it; empty for responses of servers and ordinary ends. `would_deny` is why access
    control would have denied it if it were not in audit mode; empty if it was allowed, or denied.
    """

    __slots__ = ("attempts", "grpc_status", "kind", "method", "protocol", "reason", "status", "would_deny")

    def __init__(
        self,
        kind: str,
        protocol: str,
        method: bytes,
        attempts: int,
        status: int,
        grpc_status: int | None,
        reason: str,
        would_deny: str,
    ) -> None:
        self.kind = kind
        self.protocol = protocol
        self.method = method
        self.attempts = attempts
        self.status = status
        self.grpc_status = grpc_status
        self.reason = reason
        self.would_deny = would_deny

    def __repr__(self) -> str:
        return f"<RecordOutcome {self.kind} status={self.status} {self.reason!r}>"

    def list_values(self) -> tuple[Any, ...]:
        """Return all values, in the order of the constructor's parameters."""
        return (
            self.kind,
            self.protocol,
            self.method,
            self.attempts,
            self.status,
            self.grpc_status,
            self.reason,
            self.would_deny,
        )


def find_outcome(
    last: RecordOutcome | None,
    kind: str,
    protocol: str,
    method: bytes,
    attempts: int,
    status: int,
    grpc_status: int | None,
    reason: str,
    would_deny: str,
) -> RecordOutcome:
    """Return `last` if it has these values, else a new outcome. Texts are compared by identity: most are the same."""
    if (
        last is not None
        and last.kind is kind
        and last.protocol is protocol
        and last.attempts == attempts
        and last.status == status
        and last.grpc_status is grpc_status
        and last.reason is reason
        and last.would_deny is would_deny
        and last.method == method
    ):
        return last
    return RecordOutcome(kind, protocol, method, attempts, status, grpc_status, reason, would_deny)


@final
class TrafficRecord:
    """One ended request, tunnel, TCP connection, UDP session or refusal.

    Sizes are in bytes, without heads and framing. Durations are in seconds, times are Unix times. `client` is the
    client's IP address. `upstream_s` is the time from the start of the last attempt to the response's head; None if
    there was none. `head` is what has the headers as `client_headers`, unless they are passed as `headers`. The other
    values are those of its place and its outcome.
    """

    __slots__ = (
        "_head",
        "_headers",
        "client",
        "duration_s",
        "outcome",
        "place",
        "received_bytes",
        "sent_bytes",
        "started_at",
        "target",
        "upstream_s",
    )

    def __init__(
        self,
        place: RecordPlace,
        outcome: RecordOutcome,
        started_at: float,
        duration_s: float,
        upstream_s: float | None,
        client: str,
        target: bytes,
        received_bytes: int,
        sent_bytes: int,
        head: Any = None,
        headers: Any = None,
    ) -> None:
        self.place = place
        self.outcome = outcome
        self.started_at = started_at
        self.duration_s = duration_s
        self.upstream_s = upstream_s
        self.client = client
        self.target = target
        self.received_bytes = received_bytes
        self.sent_bytes = sent_bytes
        self._headers = headers
        self._head = head

    def __repr__(self) -> str:
        return f"<TrafficRecord {self.kind} {self.service} status={self.status} {self.reason!r}>"

    @property
    def headers(self) -> Any:
        """The request's fields (`interfaces.ReadableHeaders`); None without a request. Created when they are read."""
        if self._headers is None and self._head is not None:
            self._headers = self._head.client_headers
        return self._headers

    def list_values(self) -> tuple[Any, ...]:
        """Return all values but the headers, place and outcome last: faster than reading them one by one."""
        return (
            self.started_at,
            self.duration_s,
            self.upstream_s,
            self.client,
            self.target,
            self.received_bytes,
            self.sent_bytes,
            self.place,
            self.outcome,
        )

    @property
    def service(self) -> str:
        """The key of the service port; empty if nothing was routed."""
        return self.place.service

    @property
    def destination(self) -> str:
        """The key of the service port that received it."""
        return self.place.destination

    @property
    def server(self) -> str:
        """The last attempt's server: its address or DNS name, with the port; empty if there was no attempt."""
        return self.place.server

    @property
    def server_path(self) -> str:
        """How the server was reached, if the service has encryption."""
        return self.place.server_path

    @property
    def server_node(self) -> str:
        """The server's node, if the service has encryption."""
        return self.place.server_node

    @property
    def host(self) -> bytes:
        """The host that was requested."""
        return self.place.host

    @property
    def entrypoint(self) -> int:
        """The entrypoint's port."""
        return self.place.entrypoint

    @property
    def kind(self) -> str:
        """HTTP, TUNNEL, TCP, UDP or REFUSED."""
        return self.outcome.kind

    @property
    def protocol(self) -> str:
        """`HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `TCP` or `UDP`."""
        return self.outcome.protocol

    @property
    def method(self) -> bytes:
        """The request's method."""
        return self.outcome.method

    @property
    def attempts(self) -> int:
        """The number of attempts."""
        return self.outcome.attempts

    @property
    def status(self) -> int:
        """The status of the response; 0 without HTTP."""
        return self.outcome.status

    @property
    def grpc_status(self) -> int | None:
        """The status of a gRPC call; otherwise None."""
        return self.outcome.grpc_status

    @property
    def reason(self) -> str:
        """Why the mesh itself answered or ended it; empty otherwise."""
        return self.outcome.reason

    @property
    def would_deny(self) -> str:
        """Why access control would have denied it without audit mode; empty otherwise."""
        return self.outcome.would_deny


def build_record(
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
    server_path: str = "",
    server_node: str = "",
    host: bytes = b"",
    method: bytes = b"",
    target: bytes = b"",
    attempts: int = 0,
    status: int = 0,
    grpc_status: int | None = None,
    reason: str = "",
    would_deny: str = "",
    received_bytes: int = 0,
    sent_bytes: int = 0,
    upstream_s: float | None = None,
    head: Any = None,
    headers: Any = None,
) -> TrafficRecord:
    """Build the record of anything but an ordinary request, whose place and outcome would seldom be shared."""
    place = RecordPlace(service, destination, server, server_path, server_node, host, entrypoint)
    outcome = RecordOutcome(kind, protocol, method, attempts, status, grpc_status, reason, would_deny)
    return TrafficRecord(
        place, outcome, started_at, duration_s, upstream_s, client, target, received_bytes, sent_bytes, head, headers
    )
