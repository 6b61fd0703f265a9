"""What is asked of every proxy over HTTP/2, in the order in which it is measured. Values only."""

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024
CONNECTIONS, STREAMS = 8, 10
"""Of the client: how many connections it has, and requests at a time on each."""
MESSAGES, MESSAGE_BYTES = 1000, 5 + KIB
"""As in clients/http2.c: messages in a stream of gRPC, and the bytes of each with its prefix."""
ROUTES = ("small", "unary", "messages", "large")
"""The kinds of answers of clients/http2.c, in the order of its ports; each is a service of its own."""
PLAIN_ROUTE = "plain"
"""The service whose servers take HTTP/1.1."""
GRPC_FIELDS = ("content-type: application/grpc", "te: trailers", "grpc-timeout: 10S")


@dataclass(frozen=True, kw_only=True)
class Http2Case:
    """One load. `sent` and `received` are the lengths of a request's and a response's body; figures count requests,
    messages or MB of bodies, as `unit` says."""

    name: str
    title: str
    route: str
    path: str = "/"
    paths: int = 1
    fields: tuple[str, ...] = ()
    sent: int = 0
    received: int
    unit: str = "request"

    @property
    def is_plain(self) -> bool:
        """Return whether the servers take HTTP/1.1."""
        return self.route == PLAIN_ROUTE

    @property
    def host(self) -> str:
        """Build the host that means its route."""
        return build_http2_host(self.route)


def build_http2_host(route: str) -> str:
    """Build the host that means a route."""
    return f"{route}.http2.maesh"


HELLO_BYTES, GRPC_BYTES = 20, 5 + 16
CASES = (
    Http2Case(name="small", title="Small GET, h2c to h2c", route="small", received=HELLO_BYTES),
    Http2Case(
        name="varied",
        title="Small GET, 10,000 paths, h2c to h2c",
        route="small",
        paths=10_000,
        received=HELLO_BYTES,
    ),
    Http2Case(
        name="unary",
        title="Unary gRPC, messages of 16 bytes both ways",
        route="unary",
        path="/bench.Echo/Call",
        fields=GRPC_FIELDS,
        sent=GRPC_BYTES,
        received=GRPC_BYTES,
    ),
    Http2Case(name="plain", title="Small GET, h2c to HTTP/1.1", route=PLAIN_ROUTE, received=HELLO_BYTES),
    Http2Case(
        name="messages",
        title=f"gRPC server streams of {MESSAGES:,} messages of 1 KiB",
        route="messages",
        path="/bench.Echo/Stream",
        fields=GRPC_FIELDS,
        sent=GRPC_BYTES,
        received=MESSAGES * MESSAGE_BYTES,
        unit="message",
    ),
    Http2Case(name="down-1m", title="1 MiB down, h2c to h2c", route="large", received=MIB, unit="MB"),
    Http2Case(name="up-1m", title="1 MiB up, h2c to h2c", route="small", sent=MIB, received=HELLO_BYTES, unit="MB"),
)
