"""How long a session lives: its idle time-out, and the sessions that are evicted at the session limit.

| a session ends | decided in |
| --- | --- |
| after `session-timeout` without a datagram in either direction | `LiveSessions.end_idle` |
| `DETACHED_S` after its server was removed or its entrypoint closed | `LiveSessions.end_idle` |
| as the longest-idle one at the session limit of the worker | `LiveSessions.evict_longest_idle` |
| when an ICMP error reports that its server is unreachable | session.py, `Session.fail` |
| when a middleware no longer allows it, or the worker stops | proxy.py, `UdpHandler.apply_table` and `abort` |
"""

import resource
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import final

from maesh_core.plugin import EVICTED
from maesh_udp import UdpSettings
from maesh_udp.session import Session

DETACHED_S = 1.0
"""How long a detached session waits for outstanding answers."""
SHARE = 0.75
"""Share of a process's descriptors, and of a host's ports, that sessions may use; others need some too."""
USUAL_PORTS = 28_232
"""Ephemeral ports of a host in Linux, for all UDP sockets together (ip(7), ip_local_port_range)."""
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@final
class LiveSessions:
    """All sessions of a worker, approximately in least-recently-active order; see `evict_longest_idle`."""

    __slots__ = ("_sessions", "_timeout_s", "limit")

    def __init__(self, settings: UdpSettings, *, workers: int) -> None:
        self._sessions: OrderedDict[Session, None] = OrderedDict()
        self._timeout_s = settings.session_timeout
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = min(int(descriptors * SHARE), int(_count_ports() * SHARE) // workers)
        self.limit = max(1, min(settings.session_limit, room))

    def __repr__(self) -> str:
        return f"<LiveSessions {len(self._sessions)} of {self.limit}>"

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions)

    def add(self, session: Session) -> None:
        """Add a session that has a server."""
        self._sessions[session] = None

    def forget(self, session: Session) -> None:
        """Remove a session that has ended."""
        self._sessions.pop(session, None)

    def make_room(self) -> None:
        """Evict sessions until one more is allowed."""
        while len(self._sessions) >= self.limit:
            self.evict_longest_idle()

    def evict_longest_idle(self) -> None:
        """Evict the longest-idle session; there must be a session.

        A session that was active since the last check is moved to the end of the order here, and not for each datagram.
        Each session is moved at most once in each tick of the clock.
        """
        while True:
            session = next(iter(self._sessions))
            if session.active_at <= session.seen_at:
                session.route.counters.evicted += 1
                session.end(EVICTED)
                return
            session.seen_at = session.active_at
            self._sessions.move_to_end(session)

    def end_idle(self, now: float) -> None:
        """End sessions that were idle or detached for too long; drop copies of datagrams that need none any more."""
        limit, detached_limit = now - self._timeout_s, now - DETACHED_S
        for session in list(self._sessions):
            if session.active_at < limit or (session.detached_at is not None and session.detached_at < detached_limit):
                session.end(session.detached_for)
            elif session.kept_until <= now:
                session.stop_keeping()


def _count_ports() -> int:
    """Count the ephemeral ports of this host."""
    try:
        first, last = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return USUAL_PORTS
    return max(1, last - first + 1)
