"""Creates the connections of new clients and reads their first requests.

New connections have their own epoll, whose descriptor is one reader of the event loop. This has two effects:

* A connection with few requests costs little (descriptor_transport.py). A longer one moves to the event loop between
  two requests, since the loop's transports read slightly faster.
* New clients cannot starve connected ones: while others send requests, creating and serving new connections is
  limited to a share of the loop's time. The limit is on time, since a new client chooses how much work it causes.
  When no other client has sent a request for some turns of the loop, new connections may use all of it.

The epoll is level-triggered, unlike that of proxy/network/edges.py: events that a turn has no time for are reported
again in the next turn.
"""

import asyncio
import logging
import os
import select
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol, cast

from maesh_core.proxy.http.clients.arrivals import Arrival, Arrivals
from maesh_core.proxy.http.clients.descriptor_transport import DescriptorTransport, DescriptorWatcher, StreamProtocol
from maesh_core.proxy.http.environment import Environment

NEWCOMERS_SHARE: Final = 0.2
"""Seconds for new connections per second that the loop spends on other work, while other clients send requests."""
QUIET_TURNS: Final = 3
"""Other clients count as idle after this number of turns without a request from them. One turn is not enough, since
a request and its response can fall into different turns."""
QUIET_TURN_S: Final = 0.0005
"""Seconds for new connections in one turn while no other client sends requests."""
CREDIT_LIMIT_S: Final = 0.002
"""Upper limit, in seconds, of the unused time that is carried over, and of the overused time."""
ACCEPTS_IN_A_TURN: Final = 16
"""Clients accepted from each listener's queue in one turn."""
ACCEPTS_WITHOUT_CREDIT: Final = 8
"""Clients accepted when the time for new connections is used up. A client that connects repeatedly fills the queue,
and the clients behind it must still be found."""
MADE_AT_A_TIME: Final = 4
"""Connections created before their requests are served and the time is checked again."""
ROUND_LIMIT: Final = 64
"""Descriptors served in one call of epoll."""
HAND_OVER_READS = 16
"""A connection moves to the event loop after this number of reads: creating the loop's transport pays off only if
many reads follow. The figure is a choice, above what short connections need."""

_logger = logging.getLogger(__name__)


class NewcomerProtocol(StreamProtocol, Protocol):
    """A client connection that can change its transport while it waits for a request."""

    @property
    def can_change_transport(self) -> bool:
        """Whether the connection is between requests, with no bytes buffered and nothing paused."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start on this transport, or continue on it."""


class Newcomer(Arrival):
    """One accepted client."""

    __slots__ = ("address", "build_protocol", "descriptor")

    def __init__(self, descriptor: int, address: str, build_protocol: Callable[[], NewcomerProtocol]) -> None:
        self.descriptor = descriptor
        self.address = address
        self.build_protocol = build_protocol

    def close(self) -> None:
        """Close its socket."""
        os.close(self.descriptor)


class NewConnection(DescriptorTransport):
    """A new connection and its protocol, which is None until the connection is first served."""

    __slots__ = ("build_protocol", "protocol")

    def __init__(self, newcomers: "Newcomers", newcomer: Newcomer) -> None:
        super().__init__(newcomers, newcomer.descriptor, (newcomer.address, 0))
        self.build_protocol = newcomer.build_protocol
        self.protocol: NewcomerProtocol | None = None

    @property
    def can_be_moved(self) -> bool:
        """Whether another transport can take over its socket now."""
        protocol = self.protocol
        return protocol is not None and not self.get_write_buffer_size() and protocol.can_change_transport

    def set_protocol(self, protocol: StreamProtocol) -> None:
        """Call the methods of another protocol from now on; it can move to another transport, too."""
        super().set_protocol(protocol)
        self.protocol = cast("NewcomerProtocol", protocol)

    def begin(self) -> None:
        """Create the protocol and connect it to this transport."""
        protocol = self.build_protocol()
        self.set_protocol(protocol)
        protocol.connection_made(cast("asyncio.Transport", self))


class Newcomers(DescriptorWatcher):
    """The new connections of one handler's entrypoints. Create, use and close it in the event loop's thread."""

    __slots__ = (
        "_arrivals",
        "_connections",
        "_credit_s",
        "_ended_at",
        "_environment",
        "_epoll",
        "_has_signalled",
        "_is_reporting",
        "_listeners",
        "_loop",
        "_lost",
        "_moving",
        "_quiet_turns",
        "_requests_before",
        "_signal",
        "_time",
    )

    def __init__(self, environment: Environment, time: Callable[[], float] = monotonic) -> None:
        self._environment = environment
        self._time = time
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._listeners: dict[int, Callable[[int], None]] = {}
        self._arrivals: Arrivals[Newcomer] = Arrivals()
        self._connections: dict[int, NewConnection] = {}
        self._lost: list[tuple[DescriptorTransport, Exception | None]] = []
        self._moving: set[asyncio.Task[object]] = set()
        self._credit_s = 0.0
        self._ended_at = time()
        self._requests_before = self._quiet_turns = 0
        self._is_reporting = self._has_signalled = False
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._signal, select.EPOLLIN)
        self._loop.add_reader(self._epoll.fileno(), self.take_turn)

    def __repr__(self) -> str:
        return f"<Newcomers {self._arrivals!r} connections={len(self._connections)} credit={self._credit_s:.6f}>"

    @property
    def is_waiting(self) -> bool:
        """Whether accepted clients wait for a connection."""
        return bool(self._arrivals)

    # --- listeners

    def listen(self, descriptor: int, accept: Callable[[int], None]) -> None:
        """Call `accept(limit)` when clients wait on a listening socket; it calls add() for up to `limit` clients."""
        self._listeners[descriptor] = accept
        self._epoll.register(descriptor, select.EPOLLIN)

    def stop_listening(self, descriptor: int) -> None:
        """Stop accepting on a socket. Call this before closing it."""
        if self._listeners.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def add(self, newcomer: Newcomer) -> None:
        """Queue an accepted client; its connection is created later."""
        self._arrivals.add(newcomer)

    # --- called by the connections

    def rewatch(self, descriptor: int, events: int) -> None:
        """Change the events for which a descriptor is watched."""
        self._epoll.modify(descriptor, events)

    def lose(self, transport: DescriptorTransport, error: Exception | None) -> None:
        """Stop watching a transport, and call its `on_lost(error)` in a later turn."""
        self._connections.pop(transport.descriptor, None)
        self._lost.append((transport, error))
        if not self._is_reporting:
            self._is_reporting = True
            self._loop.call_soon(self._report_losses)

    def close(self) -> None:
        """Stop watching all descriptors, and close clients that have no connection yet."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._signal)
        self._listeners.clear()
        while self._arrivals:
            self._arrivals.pop().close()

    # --- turns

    def take_turn(self) -> None:
        """Serve clients that are ready, then create connections while time is left. Runs once per turn of the loop."""
        time = self._time
        started_at = time()
        credit_s = min(CREDIT_LIMIT_S, self._credit_s + (started_at - self._ended_at) * NEWCOMERS_SHARE)
        self._quiet_turns = self._quiet_turns + 1 if self._environment.requests == self._requests_before else 0
        if self._quiet_turns >= QUIET_TURNS:
            credit_s = max(credit_s, QUIET_TURN_S)
        self._serve(accepts=ACCEPTS_IN_A_TURN if credit_s > 0 else ACCEPTS_WITHOUT_CREDIT)
        while self._arrivals and time() - started_at < credit_s:
            self._make_connections()
        self._signal_arrivals()
        self._ended_at = time()
        self._credit_s = max(-CREDIT_LIMIT_S, credit_s - (self._ended_at - started_at))
        self._requests_before = self._environment.requests

    def _serve(self, *, accepts: int = 0) -> None:
        connections = self._connections
        for descriptor, events in self._epoll.poll(0, ROUND_LIMIT):
            connection = connections.get(descriptor)
            if connection is not None:
                self._dispatch(connection, events)
            elif accepts and descriptor in self._listeners:
                self._listeners[descriptor](accepts)

    def _dispatch(self, connection: NewConnection, events: int) -> None:
        try:
            if connection.protocol is None:
                if events & (select.EPOLLHUP | select.EPOLLERR):  # the client has left: do no more work for it
                    connection.abort()
                    return
                connection.begin()
            elif connection.reads >= HAND_OVER_READS and connection.can_be_moved:
                self._hand_over(connection)
                return
            connection.on_events(events)
        except Exception as error:  # an error in one connection must not affect others
            _logger.exception("serving a connection failed")
            connection.fail(error)

    def _make_connections(self) -> None:
        made: list[NewConnection] = []
        while self._arrivals and len(made) < MADE_AT_A_TIME:
            newcomer = self._arrivals.pop()
            try:
                self._epoll.register(newcomer.descriptor, select.EPOLLIN)
            except OSError as error:  # the limit of epoll watches is reached (epoll_ctl(2))
                _logger.error("cannot watch a connection: %s", error.strerror)
                newcomer.close()
                return
            connection = self._connections[newcomer.descriptor] = NewConnection(self, newcomer)
            made.append(connection)
        self._serve()
        for connection in made:
            if connection.protocol is None and not connection.is_closing():
                self._dispatch(connection, 0)

    def _signal_arrivals(self) -> None:
        """Make the epoll readable if clients wait for a connection, so that the loop calls again in its next turn."""
        if bool(self._arrivals) != self._has_signalled:
            self._has_signalled = not self._has_signalled
            if self._has_signalled:
                os.eventfd_write(self._signal, 1)
            else:
                os.eventfd_read(self._signal)

    # --- ends

    def _hand_over(self, connection: NewConnection) -> None:
        """Move a connection to the event loop; no byte of its next request has been read yet."""
        protocol = cast("asyncio.Protocol", connection.protocol)
        del self._connections[connection.descriptor]
        self._epoll.unregister(connection.descriptor)
        sock = connection.detach()
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, sock))
        self._moving.add(task)
        task.add_done_callback(lambda task: self._on_moved(task, protocol, sock))

    def _on_moved(self, task: "asyncio.Task[object]", protocol: asyncio.Protocol, sock: socket.socket) -> None:
        self._moving.discard(task)
        error = ConnectionAbortedError() if task.cancelled() else task.exception()
        if error is not None:
            sock.close()
            protocol.connection_lost(cast("Exception", error))

    def _report_losses(self) -> None:
        lost, self._lost = self._lost, []
        self._is_reporting = False
        for transport, error in lost:
            try:
                transport.on_lost(error)
            except Exception:  # an error in one connection must not affect others
                _logger.exception("ending a connection failed")
