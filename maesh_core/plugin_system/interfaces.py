"""The interfaces of the objects that a process passes to plugins.

hookspecs.py has the hooks, and the interfaces of the objects that plugins return. Plugins import all of them from
`maesh_core.plugin`. Declares, and does nothing.
"""

import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from maesh_core.model.configuration import Section
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodReport
from maesh_core.model.resources import Resource
from maesh_core.model.topology import ServiceNode
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.shared import RecentCounts, SharedBytes

if TYPE_CHECKING:
    from maesh_core.plugin_system.middleware import Middleware

ResourceT = TypeVar("ResourceT", bound=Resource)
CountersT = TypeVar("CountersT")
CountersT_co = TypeVar("CountersT_co", covariant=True)


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
        """The document of `/api/topology/current`, with the sections of plugins."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision of a middleware about a request, with the reasons, each a line of text.

    `servers` are the only ones to which the request may be sent; None allows all.
    """

    is_admitted: bool
    reasons: tuple[str, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None


class Exchange(Protocol):
    """One request and its response, as middlewares see them. Valid until `on_finished` has returned."""

    @property
    def method(self) -> bytes:
        """The method as the client sent it."""

    @property
    def target(self) -> bytes:
        """The path and query (origin-form), as sent to the server."""

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
    def attempt_seconds(self) -> float:
        """The seconds since the current attempt began; 0 before there is one."""

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

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, to which the request may be sent; None allows all of the destination."""


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

    @property
    def exchange(self) -> Exchange | None:
        """The exchange itself, or that of the upgrade to a tunnel; None for TCP and UDP."""


# --- the proxy's process ---------------------------------------------------------------------------------------------


class Ticks(Protocol):
    """A coarse clock: `now` is the time in seconds at the last tick; there are four ticks a second."""

    now: float

    def add_sweep(self, sweep: Callable[[float], None]) -> None:
        """Call `sweep(now)` at every further tick."""


class SocketWatcher(Protocol):
    """Watches raw sockets with an epoll of its own within the event loop, which is faster than asyncio's transports.

    If a watcher raises, the exception is logged, and other watchers are not affected.
    """

    def watch(self, descriptor: int, watcher: Callable[[int], None], events: int) -> None:
        """Call `watcher(events)` at these events (of `select.epoll`); raises OSError."""

    def rewatch(self, descriptor: int, watcher: Callable[[int], None]) -> None:
        """Replace the watcher of a descriptor."""

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor. Call this before closing it."""

    def close_socket(self, sock: socket.SocketType) -> None:
        """Forget a socket and close it, which is cheaper in one step. No other process may have the socket."""

    def put_off(self, work: Callable[[], None]) -> None:
        """Run `work` in the loop's next turn, after other connections."""

    def finish(self, work: Callable[[], None]) -> None:
        """Run `work` after the current events were reported; watchers use this to batch work."""


class StreamServer(Protocol):
    """A server of a stream protocol; it stays the same object as long as any service has it."""

    @property
    def socket_address(self) -> tuple[str, int]:
        """The argument of `socket.connect`."""

    @property
    def family(self) -> int:
        """The family of sockets to it: AF_INET or AF_INET6."""

    under_way: int
    """The number of its connections or sessions, which the handler counts and `least-connections` uses."""

    @property
    def is_set_aside(self) -> bool:
        """Whether it has failed and not succeeded since, even if it may be tried again."""

    def note_failure(self) -> None:
        """Set it aside for a while, so that others are tried first: it was unreachable or refused a connection."""

    def note_success(self) -> None:
        """Return it to full use."""


class StreamRoute(Protocol[CountersT_co]):
    """The route of an entrypoint."""

    @property
    def service(self) -> str:
        """The key of the service."""

    @property
    def counters(self) -> CountersT_co:
        """The service's counters, built by the argument of `build_streams`; kept as long as the service has a route."""

    def admits(self, connection: Connection) -> bool:
        """Return whether the route's middlewares allow a connection to start."""

    def has_server(self, server: StreamServer) -> bool:
        """Return whether the route still has a server."""

    def list_servers(self) -> Iterator[StreamServer]:
        """Yield each server once, in the order to try them for one connection."""

    def find_destination(self, server: StreamServer | None) -> str:
        """Return the key of the service that a server belongs to: the part of a split, else the service itself."""


class Streams(Protocol[CountersT]):
    """The routes of a protocol in which an entrypoint belongs to one service, and whose routers are `StreamRouter`."""

    routes: Mapping[int, StreamRoute[CountersT]]
    """The current routes, by entrypoint."""

    counters: Mapping[str, CountersT]
    """The counters of the current routes, by service."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, "Middleware"], changed: frozenset[str] | None
    ) -> object:
        """Implement `ProtocolHandler.compile_table`; unchanged routes and servers remain the same objects."""

    def apply_table(self, table: object) -> None:
        """Use this table from now on."""

    def may_go_on(self, connection: Connection, route: StreamRoute[CountersT]) -> bool:
        """Return whether a connection that started on `route` may continue under the current table."""


class Node(Protocol):
    """The worker in which a proxy's half runs, and its node.

    A hook of the proxy's half receives it if it has an argument `node`.
    """

    @property
    def settings(self) -> Any:
        """The proxy's settings, by the names of its flags, such as `settings.connect_timeout` in seconds."""

    @property
    def clock(self) -> Ticks:
        """The clock for time-outs."""

    @property
    def workers(self) -> int:
        """The number of the node's workers."""

    @property
    def slot(self) -> int:
        """The number of this worker, from 0; the successor of a worker that died gets the same number."""

    def share(self, name: str, size: int) -> SharedBytes:
        """Return `size` bytes that every worker of the node shares under this name; they are zero at first.

        They survive the death of a worker if its successor calls this too. A call takes a tenth of a millisecond, so
        make it when a middleware is built. There are no locks: let each worker write to a part of its own, by its slot,
        or accept that updates may get lost. Write integers of 8 bytes through `view.cast("q")`, because other workers
        may read at any moment.
        """

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Return counts of the last periods, in shared bytes of this name, by interval between `bounds`."""

    @property
    def sockets(self) -> SocketWatcher:
        """The watcher of raw sockets."""

    @property
    def is_observed(self) -> bool:
        """Whether anything observes traffic, so that records are needed."""

    def observe(self, record: TrafficRecord) -> None:
        """Pass on the record of a connection or session of a protocol that has ended."""

    def count_connection(self, address: str, service: str) -> None:
        """Count a connection or session from a client address to a service, given by its key."""

    def build_streams(self, build_counters: Callable[[], CountersT]) -> Streams[CountersT]:
        """Build the routes of a stream protocol, which choose servers by weight, set them aside, and check access."""
