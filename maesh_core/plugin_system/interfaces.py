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
from maesh_core.plugin_system.shared import RecentCounts, SharedBytes

if TYPE_CHECKING:
    from maesh_core.plugin_system.middleware import Middleware

ResourceT = TypeVar("ResourceT", bound=Resource)
CountersT = TypeVar("CountersT")
CountersT_co = TypeVar("CountersT_co", covariant=True)


# --- topology --------------------------------------------------------------------------------------------------------


class View(Protocol):
    """The cluster's objects at one moment. Each read is recorded: when what was read changes, the reader runs again."""

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects that the kind's index lists under a value, sorted by key."""


class TopologyView(View, Protocol):
    """What a topology builder and an object checker read through."""

    def build_service(self, key: ObjectKey) -> ServiceNode | None:
        """Build another service's node as the core makes it, without what plugins add; None where there is none."""

    def list_services(self, namespace: str) -> Sequence[ObjectKey]:
        """Name the services of a namespace, sorted, those included that the mesh leaves alone.

        Who asks runs again whenever any service of the namespace changes: ask only where something is wrong already.
        """


# --- balancing -------------------------------------------------------------------------------------------------------


class BalancedServer(Protocol):
    """A server as a balancer sees it; the same object for as long as any service has it."""

    @property
    def address(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """Its port."""

    @property
    def under_way(self) -> int:
        """How many requests it has to answer, to this worker's knowledge."""


# --- middleware ------------------------------------------------------------------------------------------------------


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the mesh. `reason` says why, in plain words: it is `X-Maesh-Reason`, and the body if none is given.

    `headers` are added to it; names and values are checked when it is sent. With a `body`, they give its Content-Type.
    """

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None


class ReadableHeaders(Protocol):
    """The headers of one message as they came; names are compared in lower case. Iterating gives what `items` does."""

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field, its name as it was spelt and its value; costs more than reading one by its name."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Go through what `items` lists."""


class Headers(Protocol):
    """The headers of one message as they pass; names are compared in lower case. Framing headers are not among them.

    Setting a name or value that RFC 9110 does not allow raises ValueError. Iterating gives what `items` does.
    """

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field, its name as it is spelt and its value: a copy, so the headers may be changed meanwhile."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Go through what `items` lists."""

    def set(self, name: bytes, value: bytes) -> None:
        """Put one value in place of all."""

    def add(self, name: bytes, value: bytes) -> None:
        """Put one more value at the end."""

    def remove(self, name: bytes) -> None:
        """Take out every value; none is fine."""


class Question(Protocol):
    """What somebody asks `maesh explain` about: one request, connection or session."""

    @property
    def client_address(self) -> str:
        """The client's address in its canonical spelling; empty where its pod has none."""

    @property
    def client_account(self) -> str:
        """The service account of the client's pod, `name@namespace`; empty for an address of none or several."""

    @property
    def client_pods(self) -> Sequence[PodReport]:
        """The pods that have the client's address, its own pod too: several share one by mistake or by host network."""

    @property
    def destination(self) -> str:
        """The key of the service port, or of the branch of it, that the request comes to."""

    @property
    def traffic_type(self) -> str:
        """The service's traffic type: `http`, `tcp`, `udp` or a plugin's."""

    @property
    def is_http(self) -> bool:
        """Whether it is a request; the rest is about requests alone."""

    @property
    def method(self) -> bytes:
        """As the client sends it."""

    @property
    def target(self) -> bytes:
        """Path and query."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """As the client sends them."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What the controller could not read, by where: objects that are there and have no say."""

    @property
    def topology(self) -> Mapping[str, Any]:
        """The document of `/api/topology/current`, with the sections of plugins: what there is, granted or not."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a middleware would do with a request: `reasons` say why, in lines for a person.

    `servers` are the only ones that may have it, None for all.
    """

    is_admitted: bool
    reasons: tuple[str, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None


class Exchange(Protocol):
    """One request and its response, as middlewares see it. Valid until `on_finished` has returned."""

    @property
    def method(self) -> bytes:
        """As the client sent it."""

    @property
    def target(self) -> bytes:
        """Origin-form, as it goes upstream: path and query."""

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""

    @property
    def client_address(self) -> str:
        """The address of the connection's other end; no header has a say in it."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """As the client sent them, to be read alone: Host and X-Forwarded-* are among them, hop-by-hop fields are not.

        Host is that of the target where this has one. X-Forwarded-*, X-Real-Ip and Forwarded are claims of the client;
        those of one outside `--forwarded-headers` are not among them.
        """

    @property
    def request_headers(self) -> Headers:
        """As they go upstream, without Host and what the mesh itself sets; who only reads takes `client_headers`."""

    @property
    def response_headers(self) -> Headers:
        """Of the attempt's response; empty before there is one."""

    @property
    def status(self) -> int:
        """Of the attempt's response or of the answer given; 0 before there is one."""

    @property
    def attempts(self) -> int:
        """How many attempts have been begun."""

    @property
    def attempt_seconds(self) -> float:
        """How long ago the attempt was begun; 0 before there is one."""

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: nothing was answered yet, and nothing is lost of the request's body."""

    attempt_timeout_s: float
    """What every attempt to come gets, from its beginning to the response's head; 0: only the proxy's own limits."""

    @property
    def service(self) -> str:
        """The key of the service port that the route leads to, `namespace/name:port`: the label of core metrics."""

    @property
    def destination(self) -> str:
        """The key of what has the request: the service, or the branch of it that was chosen."""

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, that may have the request; None: all of the destination's."""


class Connection(Protocol):
    """A TCP connection, a UDP session, or the tunnel that an HTTP upgrade made; for judges, an HTTP exchange too."""

    @property
    def client_address(self) -> str:
        """The address of its other end."""

    @property
    def entrypoint(self) -> int:
        """The port that the client came to."""

    @property
    def service(self) -> str:
        """The key of what its route leads to: a service port, or the branch of one that has its streams.

        `cut_port_key` makes of it the label `service` of the core's metrics.
        """

    @property
    def server(self) -> tuple[str, int] | None:
        """The address and port of its server, once it has one."""

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, that it may be given; None: all of the service's."""

    @property
    def exchange(self) -> Exchange | None:
        """The request of an exchange, or of the one that made a tunnel; None for TCP and UDP."""


# --- the proxy's process ---------------------------------------------------------------------------------------------


class Ticks(Protocol):
    """A coarse clock: `now` in seconds, as of the last of four ticks a second."""

    now: float

    def add_sweep(self, sweep: Callable[[float], None]) -> None:
        """Call `sweep(now)` at each tick from now on."""


class SocketWatcher(Protocol):
    """Watches raw sockets on an epoll of their own within the event loop: faster than transports, and no more.

    What a watcher raises is logged and costs others nothing.
    """

    def watch(self, descriptor: int, watcher: Callable[[int], None], events: int) -> None:
        """Call `watcher(events)` at these events (of `select.epoll`); raises OSError."""

    def rewatch(self, descriptor: int, watcher: Callable[[int], None]) -> None:
        """Have another watcher called from now on."""

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no more; to be called before it is closed."""

    def close_socket(self, sock: socket.SocketType) -> None:
        """Forget a socket and close it; cheaper than both alone. Only for sockets that no other process has."""

    def put_off(self, work: Callable[[], None]) -> None:
        """Do the rest of some work in the loop's next round, when others have had their turn."""

    def finish(self, work: Callable[[], None]) -> None:
        """Do some work when the events at hand have been told; for watchers to gather what is better done together."""


class StreamServer(Protocol):
    """A server of a stream protocol; the same object for as long as any service has it."""

    @property
    def socket_address(self) -> tuple[str, int]:
        """What `connect` takes."""

    @property
    def family(self) -> int:
        """Of sockets to it: AF_INET or AF_INET6."""

    under_way: int
    """How many connections or sessions it has: the handler counts them, and `least-connections` goes by it."""

    @property
    def is_set_aside(self) -> bool:
        """Whether it has failed and not answered since, even if it is its turn to be tried again."""

    def note_failure(self) -> None:
        """Have others tried first for a while: it took no connection, or said that nobody is there."""

    def note_success(self) -> None:
        """Take it back into full use."""


class StreamRoute(Protocol[CountersT_co]):
    """Where an entrypoint leads."""

    @property
    def service(self) -> str:
        """The key of the service."""

    @property
    def counters(self) -> CountersT_co:
        """What `build_streams` was given a maker of; one for each service, for as long as it has a route."""

    def admits(self, connection: Connection) -> bool:
        """Ask the route's middlewares whether a connection may begin."""

    def has_server(self, server: StreamServer) -> bool:
        """Say whether connections may still go to a server."""

    def list_servers(self) -> Iterator[StreamServer]:
        """Give the servers for one connection, the one whose turn it is first, each once."""


class Streams(Protocol[CountersT]):
    """The routes of a protocol that gives each entrypoint to one service, and whose routers are `StreamRouter`."""

    routes: Mapping[int, StreamRoute[CountersT]]
    """By entrypoint; those that are in force."""

    counters: Mapping[str, CountersT]
    """By service; those of the routes."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, "Middleware"], changed: frozenset[str] | None
    ) -> object:
        """Do what `ProtocolHandler.compile_table` must; routes and servers that stay the same stay as objects."""

    def apply_table(self, table: object) -> None:
        """Put a table in force."""

    def may_go_on(self, connection: Connection, route: StreamRoute[CountersT]) -> bool:
        """Say whether a connection that began on `route` may go on, now that another table is in force."""


class Node(Protocol):
    """The proxy's process, and the node it is a worker of.

    A hook of the proxy's half that takes an argument `node` gets one; those that do not need it leave it out.
    """

    @property
    def settings(self) -> Any:
        """What the proxy was started with, by the names of its flags: `settings.connect_timeout`, in seconds."""

    @property
    def clock(self) -> Ticks:
        """The time that time-outs go by."""

    @property
    def workers(self) -> int:
        """How many workers the node has."""

    @property
    def slot(self) -> int:
        """Which of them this is, from 0; a worker that dies leaves its number to its successor."""

    def share(self, name: str, size: int) -> SharedBytes:
        """Give `size` bytes that every worker of the node sees under this name, all zeros at first.

        They outlive a worker that dies, as long as its successor asks for them too. Asking takes a tenth of a
        millisecond, so do it where a middleware is built. Workers do not wait for each other: let each write to a part
        of its own, by its slot, or bear that an update gets lost. Write whole numbers of 8 bytes, through
        `view.cast("q")`: others may read at any moment.
        """

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Give counts of the last periods, in shared bytes of this name; values between two bounds are alike to it."""

    @property
    def sockets(self) -> SocketWatcher:
        """What watches raw sockets."""

    def build_streams(self, build_counters: Callable[[], CountersT]) -> Streams[CountersT]:
        """Build the routes of a stream protocol: servers by weight, set aside when they fail, and who may come in."""
