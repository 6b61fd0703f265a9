"""The proxy's half: forwards clients' datagrams to servers in sessions, and the answers back.

A session belongs to a client's address and an entrypoint. It has one server, and a socket of its own to it. At the
session limit of a worker, the longest-idle session is evicted; a session that is idle for `session-timeout` ends
(`_sweep`). Nothing is sent to an address that has not sent a
datagram first. Datagrams that cannot be forwarded are dropped and counted.
"""

import errno
import resource
import socket
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from maesh_core.plugin import (
    Listener,
    MetricFamily,
    Middleware,
    Node,
    Section,
    StreamRouter,
    StreamServer,
)
from maesh_udp import UdpSettings
from maesh_udp.batches import Inbox, Outbox
from maesh_udp.listener import UdpListener
from maesh_udp.session import Session
from maesh_udp.trial import Trial

DETACHED_S = 1.0
"""How long a detached session waits for outstanding answers."""
SWEEP_S = 1.0
SHARE = 0.75
"""Share of a process's descriptors, and of a host's ports, that sessions may use; others need some too."""
USUAL_PORTS = 28_232
"""Ephemeral ports of a host in Linux, for all UDP sockets together (ip(7), ip_local_port_range)."""
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EADDRNOTAVAIL})
"""Errors that concern this process or host and not a server: no descriptors, or no ports (connect(2) assigns one to
each socket)."""

_COUNTED = {
    "opened": ("sessions", "Sessions that began."),
    "closed": ("closed_sessions", "Sessions that ended."),
    "denied": ("denied_sessions", "Sessions that a middleware refused or ended."),
    "refused": ("refused_sessions", "Datagrams of new clients for which there was no server."),
    "evicted": ("evicted_sessions", "Longest-idle sessions that were evicted at the session limit."),
    "failed": ("failed_sessions", "Sessions that ended because of an ICMP error."),
    "received": ("received_datagrams", "Datagrams from clients that were forwarded to servers."),
    "received_bytes": ("received_bytes", "Bytes of these."),
    "sent": ("sent_datagrams", "Datagrams from servers that were forwarded to clients."),
    "sent_bytes": ("sent_bytes", "Bytes of these."),
    "dropped": ("dropped_datagrams", "Datagrams of either side that could not be forwarded."),
}
"""The counters of a service, and their metrics."""


class Counters:
    """Counters of the sessions and datagrams of one service."""

    __slots__ = (
        "closed",
        "denied",
        "dropped",
        "evicted",
        "failed",
        "opened",
        "received",
        "received_bytes",
        "refused",
        "sent",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.opened = self.closed = self.denied = self.refused = self.evicted = self.failed = 0
        self.received = self.received_bytes = self.sent = self.sent_bytes = self.dropped = 0

    def __repr__(self) -> str:
        return f"<Counters {', '.join(f'{name}={getattr(self, name)}' for name in _COUNTED)}>"


class UdpHandler:
    """Routes UDP on its entrypoints. Must be created in the event loop."""

    name = "udp"
    transport = "UDP"
    router_type = StreamRouter

    def __init__(self, settings: UdpSettings, node: Node) -> None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = min(int(descriptors * SHARE), int(_count_ports() * SHARE) // node.workers)
        self.session_limit = max(1, min(settings.session_limit, room))
        self._timeout_s = settings.session_timeout
        self.clock, self.sockets = node.clock, node.sockets
        self._streams = node.build_streams(Counters)
        self._counters: dict[int, Counters] = {}
        """Counters of the current routes, by entrypoint, so that datagrams need no lookup through the route."""
        self.sessions: OrderedDict[Session, None] = OrderedDict()
        """All sessions, approximately in least-recently-active order; see `_end_oldest`."""
        self.trials: dict[StreamServer, Trial] = {}
        """Running trials, by server."""
        self.kept_bytes = 0
        """Bytes of the datagrams that sessions keep as copies."""
        self.inbox, self.outbox = Inbox(), Outbox()
        self.answering: UdpListener | None = None
        """The listener whose answers are in the outbox."""
        self._finish, self._send_answers = node.sockets.finish, self.send_answers
        """Stored, to avoid a lookup for each answer."""
        self._unrouted = 0
        self._swept_at = node.clock.now
        node.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<UdpHandler {self._streams!r} sessions={len(self.sessions)} of {self.session_limit}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> object:
        """Build the next table; see `hookspecs.ProtocolHandler`."""
        return self._streams.compile_table(section, middlewares=middlewares, changed=changed)

    def apply_table(self, table: object) -> None:
        """Use this table for new sessions, end those that are not allowed any more, detach those of removed servers."""
        streams = self._streams
        streams.apply_table(table)
        self._counters = {entrypoint: route.counters for entrypoint, route in streams.routes.items()}
        for session in list(self.sessions):
            if not streams.may_go_on(session, session.route):
                session.route.counters.denied += 1
                session.end()
                continue
            route = streams.routes.get(session.entrypoint)
            if route is not None and session.stream_server is not None and not route.has_server(session.stream_server):
                session.detach()

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
        route = self._streams.routes.get(listener.entrypoint)
        if route is None:
            self._unrouted += 1
            return False
        asker = Session(self, listener, route, mark)
        if not route.admits(asker):
            route.counters.denied += 1
            return False
        while len(self.sessions) >= self.session_limit:
            self._end_oldest()
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
        return False

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
            session.send(data)
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
                session.send(data)
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

    def send_again(self, listener: UdpListener, session: Session, datagrams: Sequence[bytes]) -> None:
        """Send datagrams that a session's server cannot have received to a server in full use, in the same order."""
        for data in datagrams if listener.is_open else ():
            self.carry(listener, session.mark, data, tried=session.tried)

    def turn_to(self, listener: UdpListener) -> None:
        """Use the outbox for the answers of a listener. It is sent after the current events are handled."""
        if self.answering is not None:
            self.send_answers()
        self.answering = listener
        self.outbox.set_layout(listener.layout)
        self._finish(self._send_answers)

    def send_answers(self) -> None:
        """Send the answers in the outbox."""
        listener, self.answering = self.answering, None
        count = self.outbox.count
        if listener is None or not count:
            return
        sent, sent_bytes = listener.answer(self.outbox)
        counters = self._counters.get(listener.entrypoint)
        if counters is not None:
            counters.sent += sent
            counters.sent_bytes += sent_bytes
            counters.dropped += count - sent

    def leave(self, listener: UdpListener) -> None:
        """Send the last answers of a closing listener."""
        if self.answering is listener:
            self.send_answers()

    def count_received(self, entrypoint: int, count: int, size: int) -> None:
        """Count datagrams that were forwarded to servers, and their bytes."""
        counters = self._counters.get(entrypoint)
        if counters is not None:
            counters.received += count
            counters.received_bytes += size

    def _connect(self, session: Session, server: StreamServer) -> None:
        try:
            session.connect(server)
        except OSError as error:
            if error.errno not in _NO_ROOM or not self.sessions:
                raise
            self._end_oldest()  # other sockets of this host need descriptors and ports too
            session.connect(server)
        session.route.counters.opened += 1
        self.sessions[session] = None

    def _end_oldest(self) -> None:
        """Evict the longest-idle session.

        A session that was active since the last check is moved to the end of the order here, and not for each datagram.
        Each session is moved at most once in each tick of the clock.
        """
        while True:
            session = next(iter(self.sessions))
            if session.active_at <= session.seen_at:
                session.route.counters.evicted += 1
                session.end()
                return
            session.seen_at = session.active_at
            self.sessions.move_to_end(session)

    def forget(self, session: Session) -> None:
        """Note that a session has ended."""
        self.sessions.pop(session, None)

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
            session.end()
        for trial in list(self.trials.values()):
            trial.end()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        counted = sorted(self._streams.counters.items())
        families = [
            MetricFamily(
                name=f"maesh_udp_{name}",
                type="counter",
                help=text,
                labels=("service",),
                samples=[((service,), float(getattr(counters, attribute))) for service, counters in counted],
            )
            for attribute, (name, text) in _COUNTED.items()
        ]
        text = "Datagrams to entrypoints that lead nowhere."
        unrouted = (((), float(self._unrouted)),)
        return [
            *families,
            MetricFamily(name="maesh_udp_unrouted_datagrams", type="counter", help=text, samples=unrouted),
        ]

    def _sweep(self, now: float) -> None:
        """End sessions that were idle for too long, at intervals."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        limit, detached_limit = now - self._timeout_s, now - DETACHED_S
        for session in list(self.sessions):
            if session.active_at < limit or (session.detached_at is not None and session.detached_at < detached_limit):
                session.end()
            elif session.kept_until <= now:
                session.stop_keeping()
        for trial in list(self.trials.values()):
            trial.on_time(now)


def _count_ports() -> int:
    """Count the ephemeral ports of this host."""
    try:
        first, last = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return USUAL_PORTS
    return max(1, last - first + 1)
