"""Counts the requests that a port or page refuses because of who sends them, and logs the first ones of each sender.

Takes reasons that the code chooses, addresses, and valid names of nodes; tokens and other texts of a sender never get
here. All tables are limited.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

PERIOD_S: Final = 60.0
LINES_LIMIT: Final = 30
"""Refusals that are logged in this time."""
SENDERS_LIMIT: Final = 10_000

_log = logging.getLogger(__name__)


class RefusalLog:
    """Counts refusals by reason, logs the first ones of each sender, and counts the bad tokens of the last minute."""

    __slots__ = ("_clock", "_counts", "_failures", "_logged", "_since")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._logged: set[tuple[str, str]] = set()
        self._failures: Counter[str] = Counter()
        self._since = clock()

    def __repr__(self) -> str:
        return f"<RefusalLog {self._counts.total()}>"

    def note(self, address: str, reason: str, text: str, *, node: str = "") -> None:
        """Count a refusal; log it, unless this sender's was logged within the last minute.

        The sender is the address, or the node of which it has the valid name.
        """
        self._begin_period()
        self._counts[reason] += 1
        key = (node or address, reason)
        if key not in self._logged and len(self._logged) < LINES_LIMIT:
            self._logged.add(key)
            sender = f"{address} for node {node}" if node else address
            _log.warning("a request from %s was refused: %s", sender, text)

    def note_bad_token(self, address: str) -> None:
        """Count a token that the API server does not know."""
        self._begin_period()
        if address in self._failures or len(self._failures) < SENDERS_LIMIT:
            self._failures[address] += 1

    def count_bad_tokens(self, address: str) -> int:
        """Count such tokens of an address within the last minute."""
        self._begin_period()
        return self._failures[address]

    def list_counts(self) -> Sequence[tuple[tuple[str], int]]:
        """List the numbers of refusals by reason, as samples of a metric with this label."""
        return tuple(((reason,), count) for reason, count in sorted(self._counts.items()))

    def _begin_period(self) -> None:
        now = self._clock()
        if now - self._since >= PERIOD_S:
            self._since = now
            self._logged.clear()
            self._failures.clear()
