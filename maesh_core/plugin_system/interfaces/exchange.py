"""A request and its response, as middlewares see them."""

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from maesh_core.plugin_system.interfaces.messages import Headers, ReadableHeaders

# --- middleware ------------------------------------------------------------------------------------------------------


class Exchange(Protocol):
    """One request and its response, as middlewares see them. Valid until `on_finished` has returned."""

    @property
    def method(self) -> bytes:
        """The method as the client sent it."""

    @property
    def target(self) -> bytes:
        """The path and query (origin-form), as the client sent them."""

    @property
    def host(self) -> bytes:
        """The host in lower case, without port and final dot."""

    @property
    def protocol(self) -> str:
        """The client's protocol: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""

    @property
    def client_address(self) -> str:
        """The address of the connection's other end, whatever headers say."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """The headers as the client sent them, read-only. Host and X-Forwarded-* are included, not hop-by-hop fields.

        If the target contains a host, Host has this value. X-Forwarded-*, X-Real-Ip and Forwarded are claims of the
        client, and are missing if the client is not in the networks of `--forwarded-headers`.
        """

    def head_matches(self, search: Callable[[bytes], object]) -> bool:
        r"""Whether a search of the client's head finds something, such as `re.compile(rb"\n[xX]-[uU]ser:").search`.

        This is the fastest way to find out that a request has none of some fields. Always pass the same object, because
        the answer is kept for a head that a client repeats.
        """

    @property
    def request_headers(self) -> Headers:
        """The headers to send, without Host and those that the mesh sets. Only to read, use `client_headers`."""

    @property
    def response_headers(self) -> Headers:
        """The headers of the attempt's response; empty before there is one."""

    @property
    def response_length(self) -> int | None:
        """The declared length of the attempt's response body; None if there is no response, or it is not declared."""

    @property
    def status(self) -> int:
        """The status of the attempt's response, or of the mesh's own response; 0 before there is one."""

    @property
    def reason(self) -> str:
        """Why the mesh itself answered or ended the exchange; empty for responses of servers and ordinary ends."""

    @property
    def is_grpc(self) -> bool:
        """Whether it is a gRPC call: a request over HTTP/2 whose Content-Type is `application/grpc`."""

    @property
    def grpc_status(self) -> int | None:
        """The call's gRPC status, 0 for OK. None for other requests, and until it is known.

        In `on_response` it is known if the response has no body ("trailers-only"), or a status other than 200, which
        clients translate. Otherwise it is in the trailers, and known in `on_finished`. There it is always a number from
        0 to 16, also for answers of the mesh and for calls that were cancelled (1).
        """

    @property
    def attempts(self) -> int:
        """The number of attempts that have begun."""

    @property
    def server(self) -> tuple[str, int] | None:
        """The address and port of the current attempt's server; None before there is an attempt."""

    @property
    def server_path(self) -> str:
        """How the current attempt reached its server: `local`, `encrypted` or `clear`; empty without encryption."""

    @property
    def attempt_seconds(self) -> float:
        """The seconds since the current attempt began; 0 before there is one."""

    def add_exemplar(self, trace_id: str) -> None:
        """Attach a trace's identifier to the metric of the request's duration, as an exemplar of OpenMetrics.

        Call it in `on_finished`. The identifier is cut after 64 characters; that of W3C Trace Context has 32.
        """

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: no response has begun, and the request's body was kept completely."""

    attempt_timeout_s: float
    """The time-out of further attempts, from their beginning to the response's head; 0: only the proxy's own limits."""

    @property
    def service(self) -> str:
        """The key of the route's service port, `namespace/name:port`: the label `service` of the core's metrics."""

    @property
    def destination(self) -> str:
        """The key of the service port, or of its branch that was chosen for the request."""

    @property
    def part(self) -> str:
        """The key of the part of the traffic that was chosen for the request, as in `BackendChoice`.

        Empty if the traffic is not divided, and until a server was picked.
        """

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, to which the request may be sent; None allows all of the destination."""

    would_deny: str
    """Why access control would deny the request if it were not in audit mode; empty if it allows the request."""

    @property
    def is_delivered(self) -> bool:
        """Whether the proxy of another node has sent the request on, after the guards of that node."""

    timeout_s: float
    """The time-out of the whole exchange, from the end of `on_request` to the last byte of its response; 0: only the
    proxy's own limits.

    Set it in `on_request`. At its end the client gets 504, or the response is cut if it has begun; a gRPC call gets
    `DEADLINE_EXCEEDED`. No attempt begins after it. The tunnel of an upgrade has none. A response's head is waited for
    as long as this allows, even if that is longer than `--response-timeout`; `inf` allows any time.
    """

    attempt_total_s: float
    """The time-out of each further attempt, from its beginning to the last byte of its response; 0: as above.

    At its end, the attempt has failed as with `attempt_timeout_s`, or the response is cut if it has begun.
    `--response-timeout` does not end an attempt with such a time-out.
    """

    new_target: bytes
    """The path and query to send instead of `target`; empty: the client's. Setting anything else raises ValueError."""

    new_host: bytes
    """The Host to send instead of the client's, with a port or without; empty: the client's.

    Setting anything else raises ValueError. X-Forwarded-Host is that of the client, as always.
    """

    preferred_server: tuple[str, int] | None
    """The server, by address and port, that the first attempt uses if it is usable and allowed; None: no preference."""

    @property
    def has_body(self) -> bool:
        """Whether the request has a body."""

    def send_copy(self, service: str, body: bytes) -> bool:
        """Send a copy of the request with this body to a service, and discard its response; False if it is dropped.

        `service` is the key of one of the route's side services. Call it in `on_request` or at the end of a `BodyTap`.
        In `on_request`, the copy is sent when the first attempt begins, as the request is then sent, and not if the
        request is answered before.
        """


class BackendChoice(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """A server of the route, as `choose_backend` gets and returns it."""

    part: str
    """The key of the part of the traffic to which it belongs; empty if the traffic is not divided."""
    server: tuple[str, int]
