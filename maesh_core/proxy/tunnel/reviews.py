"""Judges the open streams of other nodes again after a change of the configuration, and ends those not allowed now.

Takes the accepted connections, and asks the rules about each stream, a few in each turn of the loop. A stream that is
denied is reset at once. One whose server has left, or whose requests must be judged from now on, is reset after a
while, because its sender gets the same change and finishes its requests first.
"""

import asyncio
import logging
from typing import Final

from maesh_core.plugin_system.transports import Delivery, DeliveryVerdict, Refusal
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import REVIEW_GRACE_S, REVIEWS_IN_A_TURN
from maesh_core.proxy.tunnel.listener import Doors
from maesh_core.proxy.tunnel.pod_connection import PodStream
from maesh_core.proxy.tunnel.served_stream import ServedStream

DENIED: Final = "denied"
STALE: Final = "stale"
EXPIRED: Final = "expired"
"""Why a stream was ended: its client; its server and its service; or the certificate of its tunnel."""

_logger = logging.getLogger(__name__)
_AnyStream = PodStream | ServedStream


class StreamReviews:
    """The reviews of one worker's incoming streams."""

    __slots__ = ("_doors", "_ending", "_environment", "_expired", "_is_again", "_loop", "_waiting")

    def __init__(self, doors: Doors, loop: asyncio.AbstractEventLoop) -> None:
        self._doors = doors
        self._environment: TunnelEnvironment = doors.receiver.environment
        self._loop = loop
        self._waiting: list[tuple[str, _AnyStream]] = []
        self._is_again = False
        self._ending: dict[_AnyStream, float] = {}
        """Streams that will be reset, and when."""
        self._expired: dict[ServedStream, float] = {}
        """Those that will be reset because the certificate of their tunnel has ended, whatever a review says."""

    def __repr__(self) -> str:
        return f"<StreamReviews {len(self._waiting)} waiting, {len(self._ending)} ending>"

    def begin(self) -> None:
        """Judge every open stream; if a review is under way, once more after it."""
        if self._waiting:
            self._is_again = True
            return
        self._waiting = self._doors.list_streams()
        if self._waiting:
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        waiting = self._waiting
        for _ in range(min(REVIEWS_IN_A_TURN, len(waiting))):
            node, stream = waiting.pop()
            if not stream.is_gone:
                self._review(node, stream)
        if waiting:
            self._loop.call_soon(self._take_turn)
        elif self._is_again:
            self._is_again = False
            self.begin()

    def _review(self, node: str, stream: _AnyStream) -> None:
        if isinstance(stream, PodStream) and stream.task is not None:
            return  # it is being judged, by the current configuration
        verdict = self._judge(node, stream.delivery)
        if isinstance(verdict, Refusal) and verdict.status == 403:
            self._end(stream, DENIED)
        elif isinstance(verdict, Refusal) or (verdict is not None and isinstance(stream, PodStream)):
            self._ending.setdefault(stream, self._environment.clock.now + REVIEW_GRACE_S)
        else:
            self._ending.pop(stream, None)

    def _judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        try:
            return self._doors.receiver.rules.judge_again(node, delivery)
        except Exception as error:  # fail closed, but not at once: the next configuration may repair it
            _logger.error("the rules of tunnels failed; a stream of node %s will end: %r", node, error)
            return Refusal(503, "the node cannot decide about the connection")

    def _end(self, stream: _AnyStream, reason: str) -> None:
        self._ending.pop(stream, None)
        if not stream.is_gone:
            self._environment.counters.count_end(reason)
            stream.cut()

    def expire(self, now: float) -> None:
        """End the streams with judged requests of tunnels whose certificate has ended, when their requests had time.

        Their senders open no request on them any more, because they have replaced the tunnel long before.
        """
        for stream in self._doors.list_expired():
            self._expired.setdefault(stream, now + REVIEW_GRACE_S)

    def sweep(self, now: float) -> None:
        """End the streams whose time is over, and forget those that have ended."""
        for stream, deadline in list(self._ending.items()):
            if stream.is_gone or now >= deadline:
                self._end(stream, STALE)
        for served, deadline in list(self._expired.items()):
            if served.is_gone or now >= deadline:
                del self._expired[served]
                self._end(served, EXPIRED)
