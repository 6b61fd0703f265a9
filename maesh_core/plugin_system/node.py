"""The interfaces of the worker in which a plugin's half in the proxy runs, and of what its node's workers share.

Plugins import them from `maesh_core.plugin`. `proxy/worker/node_view.py` implements `Node`. Declares, and does nothing.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from maesh_core.model.configuration import Section
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.interfaces import Connection
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.request_sources import SourceReader
from maesh_core.plugin_system.transports import (
    Delivery,
    DeliveryVerdict,
    OutgoingProtocol,
    Refusal,
    TunnelRules,
    Tunnels,
)

CountersT = TypeVar("CountersT")
CountersT_co = TypeVar("CountersT_co", covariant=True)


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

    @property
    def node(self) -> str:
        """The name of its node; empty if that is unknown, or its service has no encryption."""

    @property
    def mode(self) -> str:
        """The mode of its service's encryption: `permissive` or `strict`; empty without encryption."""

    @property
    def uses_tls(self) -> bool:
        """Whether connections to it use TLS, and no bytes may be sent in clear; only for protocols with schemes."""

    @property
    def tls_name(self) -> str:
        """The name that is sent (SNI), and that its certificate may have besides the address; empty without TLS."""

    @property
    def name(self) -> str:
        """The DNS name of a server outside of the mesh; empty for others. Only names count in its certificate."""

    @property
    def label(self) -> str:
        """How metrics and records name it: its DNS name or address, with the port."""

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

    @property
    def has_guard(self) -> bool:
        """Whether a plugin of access control decides about its connections, and a transport is enabled."""

    def admits(self, connection: Connection) -> bool:
        """Return whether the route's middlewares allow a connection to start."""

    def has_server(self, server: StreamServer) -> bool:
        """Return whether the route still has a server."""

    def list_servers(self) -> Iterator[StreamServer]:
        """Yield each server once, in the order to try them for one connection."""

    def find_destination(self, server: StreamServer | None) -> str:
        """Return the key of the service that a server belongs to: the part of a split, else the service itself."""

    def count_opened(self, server: StreamServer) -> None:
        """Count a connection or session with a server of the route, also for its branch and rule if it has any."""

    def count_failure(self, server: StreamServer) -> None:
        """Count that a server of the route refused a connection or failed a session, also for its branch and rule."""

    def count_bytes(self, server: StreamServer, *, received: int, sent: int) -> None:
        """Count bytes from clients for a server of the route, and bytes from it, also for its branch and rule."""

    def count_refused(self) -> None:
        """Count for the rule, if the route is that of one, that no server accepted a connection or session."""


class Streams(Protocol[CountersT]):
    """The routes of a protocol in which an entrypoint belongs to one service, and whose routers are `StreamRouter`."""

    routes: Mapping[int, StreamRoute[CountersT]]
    """The current routes, by entrypoint, without those for the clients of a namespace."""

    counters: Mapping[str, CountersT]
    """The counters of the current routes, by service."""

    @property
    def has_strict_services(self) -> bool:
        """Whether the service of any current route is strict; otherwise no connection must be encrypted."""

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> object:
        """Implement `ProtocolHandler.compile_table`; unchanged routes and servers remain the same objects."""

    def apply_table(self, table: object) -> None:
        """Use this table from now on."""

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces of clients, by address, from now on; see `NamespacesHandler`."""

    def find_route(self, entrypoint: int, client_address: str) -> StreamRoute[CountersT] | None:
        """Find the route of a new connection: that for clients of its namespace, or else that of the entrypoint."""

    def find_current_route(self, connection: Connection) -> StreamRoute[CountersT] | None:
        """Find the route that a connection would start on now, under the current table."""

    def collect_parts(self, protocol: str, *, opened: str, failed: str) -> Sequence[MetricFamily]:
        """Build the metrics of servers, branches and rules from what was counted by the routes.

        Their names are `maesh_PROTOCOL_server_OPENED`, `maesh_PROTOCOL_branch_FAILED` and so on; servers have the
        label `server` (`StreamServer.label`), branches `service` and `destination`, and rules `service` and `rule`.
        What has no traffic is left out.
        """

    def must_encrypt(self, connection: Connection) -> str | None:
        """Return the node of a connection's server if its service is strict under the current table; else None.

        Empty if the node is not known: the server is on none, or has left the service.
        """

    def may_go_on(self, connection: Connection, route: StreamRoute[CountersT]) -> bool:
        """Return whether a connection that started on `route` may continue under the current table."""


class SharedBytes(Protocol):
    """Memory that all workers of a node share; it is released when neither `view` nor a cast of it exists any more."""

    view: memoryview


class Counts(Protocol):
    """Numbers of values, between bounds."""

    def count(self, first: float, end: float) -> int:
        """Return the number of values between two bounds; the first is included, the end is not."""

    def find_quantile(self, percent: float) -> int:
        """Return the bound below the given percentile; 0 if nothing was counted."""


class RecentCounts(Protocol):
    """A histogram of values in the last few periods, counted by all workers of a node together.

    Times are those of `time.monotonic`, in seconds.
    """

    def add(self, value: float, now: float, count: int = 1) -> None:
        """Count a value `count` times."""

    def read(self, now: float, since: float = 0.0) -> Counts:
        """Return the sum of all workers' counts, without expired periods and those that began before `since`."""


class PodNames(Protocol):
    """The names of pods by address, as far as the controller sends them (`maesh_optional_sections`)."""

    @property
    def changed_at(self) -> float:
        """The Unix time of the last change: the answers about traffic that began later depend only on the address."""

    def find(self, address: str, started_at: float) -> str:
        """Return the pod whose traffic from this address began at a Unix time, as `namespace/name`.

        Empty if it is not known, or if the address identifies no pod. An address that another pod has now names the
        former one, or none, for traffic that began earlier.
        """


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

    def count_denial(self, address: str, service: str) -> None:
        """Count that access control denied a connection or session, or ended it."""

    def count_uncarried(
        self, address: str, service: str, server: StreamServer, *, sessions: int = 0, size_bytes: int = 0
    ) -> str:
        """Count sessions of a client, or their bytes, of a protocol that no transport carries; return the path.

        The path is `clear`, `local` for a server of this node, or empty for a service without encryption, which is not
        counted.
        """

    def follow_pod_names(self) -> PodNames:
        """Return the names of pods. Call this in a hook: without a call, the worker does not read them.

        The names are there only if the controller's half asks for `POD_NAMES`.
        """

    def follow_accounts(self) -> None:
        """Read the service accounts of clients, for the source `account`. Call this in a hook.

        They are there only if a plugin's half in the controller asks for `ACCOUNTS`.
        """

    def build_source_reader(self, sources: Sequence[str]) -> SourceReader | None:
        """Build the function that identifies the client of a request by sources that `parse_sources` returned.

        None means that the address of the connection identifies it. Raises ValueError if this proxy does not know a
        source. Call it when a middleware is built.
        """

    async def judge_delivery(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether another node may have a connection to a server of this node; None allows it.

        The server must belong to the service and to this node, the service must have encryption, and the service's
        guards must allow the client. A server that is not known yet is waited for. It does not check the client's
        address: a transport must refuse those that are not on the other node.
        """

    def judge_delivery_again(self, delivery: Delivery) -> DeliveryVerdict:
        """Decide by the current configuration about a connection that is open; what is not known is refused."""

    async def open_delivery(self, delivery: Delivery) -> OutgoingProtocol | Refusal:
        """Build the protocol that serves a delivery whose verdict is `ByRequest`.

        It reads HTTP and lets the service's guards decide about each request. Give it a transport with the methods of
        asyncio.Transport; `set_protocol` and `connection_made` start it. The client is that of the delivery, whatever
        the transport's peer is. A refusal says that the server does not accept connections. Only for transports that
        do not use `build_tunnels`, whose engine does this by itself.
        """

    def build_streams(self, build_counters: Callable[[], CountersT]) -> Streams[CountersT]:
        """Build the routes of a stream protocol, which choose servers by weight, set them aside, and check access."""

    def build_tunnels(self, rules: TunnelRules) -> Tunnels:
        """Build the engine of encrypted connections to and from other nodes; once per worker, in its event loop.

        It is also the part of a `ProtocolHandler` that listens, drains and aborts, and a `CountingHandler`: a transport
        that is a handler passes these calls on.
        """
