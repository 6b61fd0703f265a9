"""Decides when to send PING to a server that owes responses and sends nothing: its host may be gone.

Takes the times of what was sent and received; multiplexed_upstream.py sends the PING and gives the connection up. TCP
would notice a lost host after many minutes. Servers of gRPC end connections on which they get PING often, so few are
sent until a server answers a request.
"""

from typing import Final

SILENCE_LIMIT_S: Final = 5.0
"""Seconds without a byte from a server that owes responses, after which it gets PING."""
PING_TIMEOUT_S: Final = 20.0
"""Seconds in which a server must send something after a PING; otherwise its connection is given up."""
PING_PAUSE_S: Final = 310.0
"""Seconds after a PING in which a server that has answered nothing gets no other one. Servers of gRPC allow one in five
minutes; they tolerate two more until they send a response."""
SPARE_PINGS: Final = 1
"""PING frames that may be sent before PING_PAUSE_S is over, if requests were sent since the previous one."""
UNREAD_LIMIT_BYTES: Final = 262144
"""Bytes of requests since the server's last byte above which it gets no PING: it may still be reading them. Servers
that read send WINDOW_UPDATE, but those with large windows do so seldom. In PING_TIMEOUT_S, this is 13 KB a second."""
SILENCE_PING: Final = b"maesh-up"
"""Payload of such a PING."""


class ServerSilence:
    """The silence of one server connection. Times are those of the clock, in seconds.

    `since` is the time of the last byte, or that of the first request if it is later; 0 if the server owes nothing. It
    stays after a cancel, because a cancel does not show that the server lives. Time without a request does not count.
    """

    __slots__ = ("_answers", "_pinged_at", "_requests", "_spare", "is_pinged", "since")

    def __init__(self) -> None:
        self.since = 0.0
        self.is_pinged = False
        self._pinged_at = float("-inf")
        self._answers = -1
        self._requests = 0
        self._spare = SPARE_PINGS

    def __repr__(self) -> str:
        return f"<ServerSilence since={self.since:.2f} pinged={self.is_pinged}>"

    def resume(self, now: float, *, idle_since: float) -> None:
        """Continue at the first request after a time without any, which does not count."""
        self.since = self.since + now - idle_since if self.since else now

    def end(self, now: float) -> None:
        """Start again: the server has sent something, and so it lives."""
        self.since = now
        self.is_pinged = False

    def is_long(self, now: float) -> bool:
        """Whether the server is silent for too long."""
        return self.since > 0.0 and now - self.since >= SILENCE_LIMIT_S

    def note_ping(self, now: float, *, answers: int, requests: int) -> bool:
        """Record a PING; return False if none may be sent now.

        `answers` is the number of responses so far, and `requests` that of requests.
        """
        if answers != self._answers:
            self._spare = SPARE_PINGS
        elif now - self._pinged_at < PING_PAUSE_S:
            if not self._spare or requests == self._requests:
                return False
            self._spare -= 1
        self._answers, self._requests, self._pinged_at, self.is_pinged = answers, requests, now, True
        return True

    def has_timed_out(self, now: float) -> bool:
        """Whether nothing has come for too long after the PING."""
        return now - self._pinged_at >= PING_TIMEOUT_S
