"""The proxy's half: forwards clients' datagrams to servers in sessions, and the answers back.

A session belongs to a client's address and an entrypoint. It has one server, and a socket of its own to it
(session.py). How long it lives is decided in session_lifetime.py. Nothing is sent to an address that has not sent a
datagram first. Datagrams that cannot be forwarded are dropped and counted.
"""

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final, final

from maesh_core.plugin import (
    DENIED,
    PROXY_ENDED,
    SERVER_REMOVED,
    UNROUTED,
    Listener,
    MetricFamily,
    Middleware,
    Node,
    Section,
    StreamRouter,
    StreamServer,
)
from maesh_udp import UdpSettings
from maesh_udp.answers import Answers
from maesh_udp.batches import Inbox
from maesh_udp.counters import METRICS, Counters
from maesh_udp.listener import ListenerHandler, UdpListener
from maesh_udp.refusals import NO_SERVER, Refusals
from maesh_udp.session import Session, SessionHandler
from maesh_udp.session_lifetime import LiveSessions
from maesh_udp.trial import Trial, TrialHandler

SWEEP_S = 1.0
"""How often idle sessions are looked for."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EADDRNOTAVAIL})
"""Errors that concern this process or host and not a server: no descriptors, or no ports (connect(2) assigns one to
each socket)."""


@final
class UdpHandler(SessionHandler, ListenerHandler, TrialHandler):
    """Routes UDP on its entrypoints. Must be created in the event loop."""

    name = "udp"
    transport = "UDP"
    router_type = StreamRouter

    def __init__(self, settings: UdpSettings, node: Node) -> None:
        self.node = node
        self.clock, self.sockets = node.clock, node.sockets
        self._streams = node.build_streams(Counters)
        self._counters: dict[int, Counters] = {}
        """Counters of the current routes, by entrypoint, so that datagrams need no lookup through the route."""
        self.sessions = LiveSessions(settings, workers=node.workers)
        self.trials: dict[StreamServer, Trial] = {}
        """Running trials, by server."""
        self.kept_bytes = 0
        self.inbox, self.answers = Inbox(), Answers(node.sockets.finish)
        self._unrouted = 0
        self._refusals = Refusals(node)
        self._swept_at = node.clock.now
        node.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<UdpHandler {self._streams!r} sessions={len(self.sessions)} of {self.sessions.limit}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> object:
        """Build the next table; see `protocols.ProtocolHandler`."""
        return self._streams.compile_table(section, middlewares=middlewares, changed=changed)

    def apply_table(self, table: object) -> None:
        """Use this table for new sessions, end those that are not allowed any more, detach those of removed servers."""
        streams = self._streams
        streams.apply_table(table)
        self._counters = {entrypoint: route.counters for entrypoint, route in streams.routes.items()}
        for session in list(self.sessions):
            if not streams.may_go_on(session, session.route):
                session.route.counters.denied += 1
                self.node.count_denial(session.client_address, session.service)
                session.end(DENIED)
                continue
            route = streams.find_current_route(session)
            if route is not None and session.stream_server is not None and not route.has_server(session.stream_server):
                session.detach(SERVER_REMOVED)

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces of clients, by address, for new sessions."""
        self._streams.apply_namespaces(namespaces)

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Receive datagrams from `sock`."""
        return UdpListener(self, sock, entrypoint)

    def begin(
        self, listener: UdpListener, mark: bytes, data: memoryview | bytes, *, tried: Sequence[StreamServer] = ()
    ) -> bool:
        """Start a session with a client's datagram, with the first server that accepts it; False if none does.

        A server that is set aside gets the datagram only if there is no other; otherwise a copy tests it. `tried` are
        servers to which the datagram was sent without success; they never get it again.
        """
        client_address = listener.layout.read_address(mark)
        route = self._streams.find_route(listener.entrypoint, client_address)
        if route is None:
            self._unrouted += 1
            self._refusals.report(client_address, listener.entrypoint, UNROUTED, size=len(data))
            return False
        asker = Session(self, listener, route, mark)
        if not route.admits(asker):
            route.counters.denied += 1
            self.node.count_denial(asker.client_address, route.service)
            self._refuse(asker, data, DENIED)
            return False
        self.sessions.make_room()
        allowed, aside = asker.allowed_servers, list[StreamServer]()
        for server in route.list_servers():
            if server in tried or (allowed is not None and server.socket_address not in allowed):
                continue
            if server.is_set_aside:
                aside.append(server)
            elif (is_carried := self._begin_with(server, asker, data, tried)) is not None:
                self._try(aside, data, listener.sessions.get(mark))
                return is_carried
        for server in () if tried else aside:
            if (is_carried := self._begin_with(server, asker, data, tried)) is not None:
                return is_carried
        route.counters.refused += 1
        route.count_refused()
        self._refuse(asker, data, NO_SERVER)
        return False

    def _refuse(self, asker: Session, data: memoryview | bytes, reason: str) -> None:
        """Report a datagram of a client that gets no session."""
        route = asker.route
        destination = route.find_destination(None)
        self._refusals.report(
            *(asker.client_address, asker.entrypoint, reason),
            size=len(data),
            service=route.service,
            destination=destination,
        )

    def _begin_with(
        self, server: StreamServer, asker: Session, data: memoryview | bytes, tried: Sequence[StreamServer]
    ) -> bool | None:
        """Start a session with a server: whether the datagram was sent; None if the server is unreachable."""
        session = asker.build_twin()
        session.tried = tuple(tried)
        try:
            self._connect(session, server)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                self.note_failure(server)
            return None
        try:
            session.received_bytes += session.send(data)
        except OSError as error:
            return None if session.note_send_error(error) else False
        return True

    def _try(self, servers: Sequence[StreamServer], data: memoryview | bytes, session: Session | None) -> None:
        """Send a copy of a session's datagram to servers that are set aside, one copy at a time for each."""
        for server in servers:
            if session is not None and server not in self.trials:
                self.trials[server] = trial = Trial(self, server, session)
                trial.begin(data)

    def carry(
        self, listener: UdpListener, mark: bytes, data: memoryview | bytes, *, tried: Sequence[StreamServer] = ()
    ) -> bool:
        """Send a datagram in its client's session, or start one with it; False if the datagram is lost."""
        while (session := listener.sessions.get(mark)) is not None:
            try:
                session.received_bytes += session.send(data)
            except OSError as error:
                if not session.note_send_error(error):
                    return False
            else:
                session.active_at = self.clock.now
                return True
        return self.begin(listener, mark, data, tried=tried)

    def note_failure(self, server: StreamServer) -> None:
        """Set a server aside; its sessions keep copies of datagrams until it answers."""
        was_set_aside = server.is_set_aside
        server.note_failure()
        if server.is_set_aside and not was_set_aside:
            for session in self.sessions:
                if session.stream_server is server:
                    session.keep()

    def count_received(self, entrypoint: int, count: int, size: int) -> None:
        """Count datagrams that were forwarded to servers, and their bytes."""
        counters = self._counters.get(entrypoint)
        if counters is not None:
            counters.received += count
            counters.received_bytes += size

    def count_sent(self, entrypoint: int, count: int, size: int, *, dropped: int) -> None:
        """Count answers that were sent to clients, their bytes, and those that could not be sent."""
        counters = self._counters.get(entrypoint)
        if counters is not None:
            counters.sent += count
            counters.sent_bytes += size
            counters.dropped += dropped

    def _connect(self, session: Session, server: StreamServer) -> None:
        try:
            session.connect(server)
        except OSError as error:
            if error.errno not in _NO_ROOM or not self.sessions:
                raise
            self.sessions.evict_longest_idle()  # other sockets of this host need descriptors and ports too
            session.connect(server)
        session.route.counters.opened += 1
        session.route.count_opened(server)
        self.node.count_connection(session.client_address, session.service)
        if server.mode:
            self.node.count_uncarried(session.client_address, session.service, server, sessions=1)
        self.sessions.add(session)

    def forget(self, session: Session) -> None:
        """Note that a session has ended."""
        self.sessions.forget(session)

    def forget_trial(self, server: StreamServer) -> None:
        """Note that the trial of a server has ended."""
        self.trials.pop(server, None)

    def start_draining(self) -> None:
        """Wait for outstanding answers: entrypoints are closed, and sessions detached."""

    def is_drained(self) -> bool:
        """Whether every session has ended."""
        return not self.sessions

    def count_under_way(self) -> int:
        """Count the sessions."""
        return len(self.sessions)

    def abort(self) -> None:
        """End every session."""
        for session in list(self.sessions):
            session.end(PROXY_ENDED)
        for trial in list(self.trials.values()):
            trial.end()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters, including the bytes of open sessions."""
        for session in self.sessions:
            session.count_bytes()
        counted = sorted(self._streams.counters.items())
        families = [
            MetricFamily(
                name=f"maesh_udp_{name}",
                type="counter",
                help=text,
                labels=("service",),
                samples=[((service,), float(getattr(counters, attribute))) for service, counters in counted],
            )
            for attribute, (name, text) in METRICS.items()
        ]
        others = (
            ("unrouted_datagrams", "Datagrams to entrypoints that lead nowhere.", self._unrouted),
            ("unrecorded_datagrams", "Refused datagrams without a record: too many.", self._refusals.unrecorded),
        )
        return [
            *families,
            *self._streams.collect_parts("udp", opened="sessions", failed="failed_sessions"),
            *(
                MetricFamily(name=f"maesh_udp_{name}", type="counter", help=text, samples=(((), float(count)),))
                for name, text, count in others
            ),
        ]

    def _sweep(self, now: float) -> None:
        """End idle sessions and decide trials, at intervals."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        self._refusals.refill()
        self.sessions.end_idle(now)
        for trial in list(self.trials.values()):
            trial.on_time(now)
