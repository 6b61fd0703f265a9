"""The copies of requests that this worker sends to side services: their limits, deadlines and counters.

A copy is in `exchanges/copy_attempt.py`; this module only counts copies, and ends those that take too long. A copy that
exceeds a limit is dropped, so that a slow side service never affects the requests themselves.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from maesh_core.model.metrics import MetricFamily

COPY_LIMIT: Final = 128
"""Copies to one side service that are in progress. More of them are dropped: the service is slower than its copies."""
COPIED_BYTES_LIMIT: Final = 16 * 2**20
"""The bodies of all copies in progress, of all side services."""
COPY_TIMEOUT_S: Final = 30.0
"""A copy's time, from its start to the end of its response; the proxy's response time-out if that is shorter."""
DISCARDED_LIMIT_BYTES: Final = 2**20
"""The part of a response that is read and discarded. The connection of a longer one is closed at the next sweep."""

ANSWERED: Final = "answered"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed-out"
DENIED: Final = "denied"
NO_SERVER: Final = "no-server"
DROPPED: Final = "dropped"
"""The outcomes of copies, which are values of a label."""


class OpenCopy(Protocol):
    """A copy in progress."""

    deadline: float
    discarded_bytes: int
    """The bytes of its response that were received."""

    def end(self, outcome: str) -> None:
        """End the copy, and close its connection or cancel the connect."""


class Copies:
    """The copies of one worker. `open` are those in progress."""

    __slots__ = ("_bytes", "_counts", "_numbers", "open")

    def __init__(self) -> None:
        self.open: set[OpenCopy] = set()
        self._numbers: dict[str, int] = {}
        """The number of copies in progress, by side service."""
        self._bytes = 0
        self._counts: dict[tuple[str, str, str], int] = {}

    def __repr__(self) -> str:
        return f"<Copies {len(self.open)} in progress, {self._bytes} bytes>"

    def has_room(self, destination: str, size: int) -> bool:
        """Return whether another copy with a body of this size may be sent."""
        return self._numbers.get(destination, 0) < COPY_LIMIT and self._bytes + size <= COPIED_BYTES_LIMIT

    def add(self, copy: OpenCopy, destination: str, size: int) -> None:
        """Add a copy that is being sent."""
        self.open.add(copy)
        self._numbers[destination] = self._numbers.get(destination, 0) + 1
        self._bytes += size

    def remove(self, copy: OpenCopy, destination: str, size: int) -> None:
        """Remove a copy that has ended."""
        self.open.discard(copy)
        self._bytes -= size
        number = self._numbers.get(destination, 0) - 1
        if number > 0:
            self._numbers[destination] = number
        else:
            self._numbers.pop(destination, None)

    def count(self, service: str, destination: str, outcome: str) -> None:
        """Count a copy by its outcome."""
        key = (service, destination, outcome)
        self._counts[key] = self._counts.get(key, 0) + 1

    def sweep(self, now: float) -> None:
        """End copies whose time is over, or whose response is too long."""
        for copy in list(self.open):
            if copy.discarded_bytes > DISCARDED_LIMIT_BYTES:
                copy.end(ANSWERED)
            elif copy.deadline <= now:
                copy.end(TIMED_OUT)

    def abort(self, outcome: str = FAILED) -> None:
        """End all copies."""
        for copy in list(self.open):
            copy.end(outcome)

    def collect(self) -> Sequence[MetricFamily]:
        """Return the metrics."""
        return [
            MetricFamily(
                name="maesh_service_copies",
                type="counter",
                help="Copies of requests for side services, by service, destination and outcome.",
                labels=("service", "destination", "outcome"),
                samples=sorted(self._counts.items()),
            ),
        ]
