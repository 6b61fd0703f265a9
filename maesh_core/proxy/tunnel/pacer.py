"""Limits handshakes to a share of the loop's time, since each costs as much as dozens of requests.

Takes steps of handshakes and runs them in order. Unused time is carried over up to HANDSHAKE_CREDIT_S. A step costs the
processor's time that it used: on a machine that is overloaded or throttled, the time that passes can be a hundred times
as much, and handshakes would end by their time limit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time

from maesh_core.proxy.tunnel.limits import HANDSHAKE_CREDIT_S, HANDSHAKE_SHARE

_logger = logging.getLogger(__name__)


class HandshakePacer:
    """Runs the steps of all handshakes of a worker."""

    __slots__ = ("_credit_s", "_handle", "_loop", "_read_cost", "_steps", "_time", "_updated_at")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        time: Callable[[], float] = monotonic,
        read_cost: Callable[[], float] = thread_time,
    ) -> None:
        self._loop = loop
        self._read_cost = read_cost
        self._time = time
        self._steps: deque[Callable[[], None]] = deque()
        self._credit_s = HANDSHAKE_CREDIT_S
        self._updated_at = time()
        self._handle: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<HandshakePacer {len(self._steps)} waiting>"

    def add(self, step: Callable[[], None]) -> None:
        """Run a step when its turn comes; always in a later turn of the loop."""
        self._steps.append(step)
        if self._handle is None:
            self._handle = self._loop.call_soon(self.work)

    def work(self) -> None:
        """Run steps as long as there is time for handshakes; then wait until there is more."""
        self._handle = None
        now = self._time()
        self._credit_s = min(HANDSHAKE_CREDIT_S, self._credit_s + (now - self._updated_at) * HANDSHAKE_SHARE)
        self._updated_at = now
        while self._steps and self._credit_s > 0:
            began_s = self._read_cost()
            try:
                self._steps.popleft()()
            except Exception:  # an error in one handshake must not affect others
                _logger.exception("a handshake failed")
            self._credit_s -= self._read_cost() - began_s
        if self._steps:
            self._handle = self._loop.call_later(max(0.001, -self._credit_s / HANDSHAKE_SHARE), self.work)

    def close(self) -> None:
        """Forget all steps."""
        self._steps.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
