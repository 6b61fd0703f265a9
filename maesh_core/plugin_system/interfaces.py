"""The interfaces of the objects that a process passes to plugins, except for those of the worker itself (node.py).

hookspecs.py has the hooks, and the interfaces of the objects that plugins return. Plugins import all of them from
`maesh_core.plugin`. Declares, and does nothing.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodReport
from maesh_core.model.resources import Resource
from maesh_core.model.topology import ServiceNode

ResourceT = TypeVar("ResourceT", bound=Resource)


# --- topology --------------------------------------------------------------------------------------------------------


class View(Protocol):
    """The cluster's objects at one moment. Reads are recorded: the reader runs again when what it read changes."""

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects with this value in an index of their kind, sorted by key."""


class TopologyView(View, Protocol):
    """The view for topology builders and object checkers."""

    def build_service(self, key: ObjectKey) -> ServiceNode | None:
        """Build another service's node, without additions of plugins; None if there is no such service."""

    def list_services(self, namespace: str) -> Sequence[ObjectKey]:
        """List the services of a namespace, sorted, including those that the mesh ignores.

        The caller runs again whenever any service of the namespace changes, so call this only to describe an error.
        """

    def has_filter(self, name: str) -> bool:
        """Return whether an enabled plugin builds the filter of this name (`FilteringBuilder`)."""


# --- balancing -------------------------------------------------------------------------------------------------------


class BalancedServer(Protocol):
    """A server as balancers see it; it stays the same object as long as any service has it."""

    @property
    def address(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """Its port."""

    @property
    def under_way(self) -> int:
        """The number of its unanswered requests from this worker."""


# --- middleware ------------------------------------------------------------------------------------------------------


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response of the mesh. `reason` is the value of `X-Maesh-Reason`, and the body if `body` is None.

    `headers` are added to it; names and values are checked when it is sent. If it has a `body`, set its Content-Type.
    """

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    grpc_status: int | None = None
    """What a gRPC call gets; None means the status that fits `status`."""


class ReadableHeaders(Protocol):
    """The headers of one message as they were received; names are compared in lower case."""

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field with its name as received, and its value; slower than reading one field by name."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the fields that `items` lists."""


class ClientHead(Protocol):
    """The head of a request as the client sent it."""

    @property
    def method(self) -> bytes:
        """As the client sent it."""

    @property
    def target(self) -> bytes:
        """The target in origin-form, as the client sent it."""

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """The fields."""

    def matches(self, search: Callable[[bytes], object]) -> bool:
        """Return whether a search of the head's bytes finds something, as `Exchange.head_matches` does."""


class Headers(Protocol):
    """The headers of one message as they are forwarded, without framing; names are compared in lower case.

    Setting a name or value that RFC 9110 does not allow raises ValueError.
    """

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field with its name as spelt, and its value. The list is a copy, so the headers can be changed."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the fields that `items` lists."""

    def set(self, name: bytes, value: bytes) -> None:
        """Replace all values of a name by one."""

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field at the end."""

    def remove(self, name: bytes) -> None:
        """Remove every value of a name, if there is any."""


class Question(Protocol):
    """The request, connection or session that `maesh explain` is asked about."""

    @property
    def client_address(self) -> str:
        """The client's address in canonical form; empty if its pod has none."""

    @property
    def client_account(self) -> str:
        """The service account of the client's pod, `name@namespace`; empty if the address has none or several."""

    @property
    def client_pods(self) -> Sequence[PodReport]:
        """The pods with the client's address, including its own. Pods on a host's network share an address."""

    @property
    def destination(self) -> str:
        """The key of the service port, or of its branch, to which the request is routed."""

    @property
    def traffic_type(self) -> str:
        """The service's traffic type: `http`, `tcp`, `udp` or one of a plugin."""

    @property
    def is_http(self) -> bool:
        """Whether it is an HTTP request; only these have a method, a target and headers."""

    @property
    def method(self) -> bytes:
        """The method as the client sends it."""

    @property
    def target(self) -> bytes:
        """The path and query."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """The headers as the client sends them."""

    @property
    def problems(self) -> Mapping[str, str]:
        """Texts about objects that the controller could not read, by origin; these objects have no effect."""

    @property
    def topology(self) -> Mapping[str, Any]:
        """The document of `/api/topology/current`, with the sections of plugins.

        It has at least the services that may get the request, with their pods, splits and targets. For `/api/explain`
        it has no others.
        """


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of a middleware about a request, with the reasons, each a line of text.

    `servers` are the only ones to which the request may be sent; None allows all. `status` is that of the middleware's
    own response to a request that it does not pass on; 0 means that access is denied. `would_deny` has the reasons for
    which access control would deny a request that it admits only because it is in audit mode.
    """

    is_admitted: bool
    reasons: tuple[str, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None
    status: int = 0
    would_deny: tuple[str, ...] = ()


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


class BackendChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A server of the route, as `choose_backend` gets and returns it."""

    part: str
    """The key of the part of the traffic to which it belongs; empty if the traffic is not divided."""
    server: tuple[str, int]


class BodyTransform(Protocol):
    """Changes the content of a body while it passes."""

    def feed(self, data: bytes) -> bytes | Awaitable[bytes]:
        """Return what is passed on for at most 64 KiB of content, without framing; possibly nothing.

        An awaitable is awaited, and the sender is not read meanwhile.
        """

    def end(self, trailers: bytes) -> bytes:
        """Return what follows the last byte; the trailers are forwarded unchanged."""

    def close(self) -> None:
        """Called once if the body ends early: it was aborted, or the client has left."""


class BodyTap(Protocol):
    """Observes the content of a body, which is forwarded unchanged. One that raises is left out from then on."""

    def observe(self, data: bytes) -> None:
        """Observe at most 64 KiB of content, without framing."""

    def end(self, *, is_complete: bool) -> None:
        """Called once after the last byte, or when the body has ended early."""


class WholeBody(msgspec.Struct, frozen=True, kw_only=True):
    """Collects the whole body before it is forwarded; `decide` returns the body to send, or an answer."""

    limit_bytes: int
    """At most 16 MiB."""
    decide: Callable[[bytes], "bytes | Response | Awaitable[bytes | Response]"]
    is_passed_if_larger: bool = False
    """Whether a larger body is forwarded unchanged; otherwise the answer is 413 for a request, 502 for a response."""


BodyUse: TypeAlias = BodyTransform | BodyTap | WholeBody
"""What a middleware does with a body."""


class Connection(Protocol):
    """A TCP connection, a UDP session, the tunnel of an HTTP upgrade, or for `is_still_allowed` an HTTP exchange."""

    @property
    def client_address(self) -> str:
        """The address of its other end."""

    @property
    def entrypoint(self) -> int:
        """The port to which the client connected."""

    @property
    def service(self) -> str:
        """The key of the route's service port, or of its branch for connections and sessions.

        `cut_port_key` shortens it to the label `service` of the core's metrics.
        """

    @property
    def server(self) -> tuple[str, int] | None:
        """The address and port of its server; None before a server is chosen."""

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, that may be chosen; None allows all of the service."""

    would_deny: str
    """Why access control would deny it if it were not in audit mode; empty if it is allowed."""

    @property
    def exchange(self) -> Exchange | None:
        """The exchange itself, or that of the upgrade to a tunnel; None for TCP and UDP."""
