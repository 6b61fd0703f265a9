"""Clients that have connected lately: their connections are made here, and their first requests are read here.

They have an epoll of their own, whose descriptor is one reader of the event loop. Two things follow:

* A connection that carries few requests costs little (descriptor_transport.py). One that lasts is handed over to the
  event loop, whose transports read a little faster, between two requests.
* Newcomers cannot starve clients that are connected: while these have requests, making connections and serving them
  here takes a share of the loop's time. Time is measured, since what a newcomer costs is the newcomer's choice. When
  nobody else has had a request for some turns of the loop, newcomers get all of it.

The epoll is level-triggered, unlike that of proxy/network/edges.py: what a turn has no time for is ready in the
next one.
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
from maesh_core.proxy.http.clients.descriptor_transport import DescriptorTransport, StreamProtocol, Watching
from maesh_core.proxy.http.environment import Environment

NEWCOMERS_SHARE: Final = 0.2
"""Seconds for newcomers for each second that the event loop spent otherwise, while other clients have requests."""
QUIET_TURNS: Final = 3
"""Other clients count as idle after so many turns without a request of theirs. One turn is not enough, since a request
and its response can come in different turns."""
QUIET_TURN_S: Final = 0.0005
"""Newcomers are served for so long in one turn while nobody else has requests."""
CREDIT_LIMIT_S: Final = 0.002
"""Time that newcomers have not used is kept up to this; so is what they have used too much."""
ACCEPTS_IN_A_TURN: Final = 16
"""Clients taken out of each listener's queue in one turn."""
ACCEPTS_WITHOUT_CREDIT: Final = 8
"""So many are taken when newcomers have used up their time: a client that connects over and over fills the queue, and
the clients behind it must be found all the same."""
MADE_AT_A_TIME: Final = 4
"""Connections made before their clients' requests are served, and the time is looked at again."""
ROUND_LIMIT: Final = 64
"""Descriptors that are served in one go."""
HAND_OVER_READS = 16
"""A connection is handed over after so many reads: making the event loop's transport pays only where many follow. The
figure is a choice, above what connections that do not last need."""

_logger = logging.getLogger(__name__)


class NewcomerProtocol(StreamProtocol, Protocol):
    """A client's connection; its transport may change while it waits for a request."""

    @property
    def can_change_transport(self) -> bool:
        """Whether nothing is under way, held or paused."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; or go on, over this transport."""


class Newcomer(Arrival):
    """One client that was accepted."""

    __slots__ = ("address", "build_protocol", "descriptor")

    def __init__(self, descriptor: int, address: str, build_protocol: Callable[[], NewcomerProtocol]) -> None:
        self.descriptor = descriptor
        self.address = address
        self.build_protocol = build_protocol

    def close(self) -> None:
        """Close its socket."""
        os.close(self.descriptor)


class NewConnection(DescriptorTransport):
    """A connection that was made here, and its protocol, once there is one."""

    __slots__ = ("build_protocol", "protocol")

    def __init__(self, newcomers: "Newcomers", newcomer: Newcomer) -> None:
        super().__init__(newcomers, newcomer.descriptor, (newcomer.address, 0))
        self.build_protocol = newcomer.build_protocol
        self.protocol: NewcomerProtocol | None = None

    @property
    def can_be_moved(self) -> bool:
        """Whether its socket can go on as another transport's."""
        protocol = self.protocol
        return protocol is not None and not self.get_write_buffer_size() and protocol.can_change_transport

    def begin(self) -> None:
        """Make the protocol and tell it."""
        self.protocol = protocol = self.build_protocol()
        self.set_protocol(protocol)
        protocol.connection_made(cast("asyncio.Transport", self))


class Newcomers(Watching):
    """The newcomers of all entrypoints of one handler. To be made, used and closed in the loop's thread."""

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
        """Whether clients were accepted that have no connection yet."""
        return bool(self._arrivals)

    # --- listeners

    def listen(self, descriptor: int, accept: Callable[[int], None]) -> None:
        """Call `accept(limit)` while clients wait on a listening socket; it calls add() for each, up to the limit."""
        self._listeners[descriptor] = accept
        self._epoll.register(descriptor, select.EPOLLIN)

    def stop_listening(self, descriptor: int) -> None:
        """Accept no more on a socket; to be called before it is closed."""
        if self._listeners.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def add(self, newcomer: Newcomer) -> None:
        """Make a newcomer's connection when its turn comes."""
        self._arrivals.add(newcomer)

    # --- what the connections ask for

    def rewatch(self, descriptor: int, events: int) -> None:
        """Watch a descriptor for other events from now on."""
        self._epoll.modify(descriptor, events)

    def lose(self, transport: DescriptorTransport, error: Exception | None) -> None:
        """Watch a transport no more, and call its `on_lost(error)` in a later turn."""
        self._connections.pop(transport.descriptor, None)
        self._lost.append((transport, error))
        if not self._is_reporting:
            self._is_reporting = True
            self._loop.call_soon(self._report_losses)

    def close(self) -> None:
        """Watch nothing any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._signal)
        self._listeners.clear()
        while self._arrivals:
            self._arrivals.pop().close()

    # --- turns

    def take_turn(self) -> None:
        """Serve the clients that are ready, then make connections while there is time; once in a turn of the loop."""
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
                self._tell(connection, events)
            elif accepts and descriptor in self._listeners:
                self._listeners[descriptor](accepts)

    def _tell(self, connection: NewConnection, events: int) -> None:
        try:
            if connection.protocol is None:
                if events & (select.EPOLLHUP | select.EPOLLERR):  # the client has left: it costs no more than this
                    connection.abort()
                    return
                connection.begin()
            elif connection.reads >= HAND_OVER_READS and connection.can_be_moved:
                self._hand_over(connection)
                return
            connection.on_events(events)
        except Exception as error:  # one connection's trouble must not cost others theirs
            _logger.exception("a connection could not be served")
            connection.fail(error)

    def _make_connections(self) -> None:
        made: list[NewConnection] = []
        while self._arrivals and len(made) < MADE_AT_A_TIME:
            newcomer = self._arrivals.pop()
            try:
                self._epoll.register(newcomer.descriptor, select.EPOLLIN)
            except OSError as error:  # no more watches are to be had (epoll_ctl(2))
                _logger.error("a connection cannot be watched: %s", error.strerror)
                newcomer.close()
                return
            connection = self._connections[newcomer.descriptor] = NewConnection(self, newcomer)
            made.append(connection)
        self._serve()
        for connection in made:
            if connection.protocol is None and not connection.is_closing():
                self._tell(connection, 0)

    def _signal_arrivals(self) -> None:
        """Have the loop call again in its next turn, if there is more to make; its epoll is readable until then."""
        if bool(self._arrivals) != self._has_signalled:
            self._has_signalled = not self._has_signalled
            if self._has_signalled:
                os.eventfd_write(self._signal, 1)
            else:
                os.eventfd_read(self._signal)

    # --- ends

    def _hand_over(self, connection: NewConnection) -> None:
        """Have the event loop read and write a connection from now on; nothing of its next request was read yet."""
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
            except Exception:  # as above
                _logger.exception("a connection could not be ended")
