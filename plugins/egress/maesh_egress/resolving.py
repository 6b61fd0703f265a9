"""The task of a proxy's parent that keeps names resolved, and publishes their addresses to the workers.

Takes the names of the configuration; publishes their addresses whenever these change. A bounded number of lookups runs
at once. Tests pass their own clock and DNS client.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from maesh_core.plugin import MetricFamily, NameAddresses, ParentNode
from maesh_egress.allowed_names import AllowedNames
from maesh_egress.lookup import Answer, Failure, Lookup
from maesh_egress.name_table import NameTable

LOOKUPS_AT_ONCE = 32
PUBLISHING_PAUSE_S = 0.1
"""The least time between two publications; each has all names."""
PROBLEMS_SHOWN = 20
"""Names without an address in the proxy's status."""
REFUSED_HERE = "is not allowed by the setting egress.allow of the proxy"
_OK, _NOT_FOUND, _FAILED = "ok", "not-found", "failed"

logger = logging.getLogger(__name__)


class NameClient(Protocol):
    """Looks up names."""

    async def look_up(self, name: str) -> Lookup:
        """Return what each family of a name resolved to."""


class Resolving:
    """A `NamesService`. Create it in the event loop."""

    name = "egress"

    def __init__(
        self,
        parent: ParentNode,
        table: NameTable,
        client: NameClient,
        allowed: AllowedNames,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: "Callable[[asyncio.Event, float | None], Awaitable[None]] | None" = None,
    ) -> None:
        self._parent = parent
        self._table = table
        self._client = client
        self._allowed = allowed
        self._clock = clock
        self._wait = wait or wait_at_most
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._published: Mapping[str, NameAddresses] = {}
        self._published_at = -PUBLISHING_PAUSE_S
        self._results = dict.fromkeys((_OK, _NOT_FOUND, _FAILED), 0)

    def __repr__(self) -> str:
        """Show the names."""
        return f"<Resolving {self._table!r}>"

    @property
    def is_starting(self) -> bool:
        """Whether some name was never looked up: until then its services have no server."""
        return not self._table.is_complete

    def receive_names(self, names: Collection[str]) -> None:
        """Resolve these names from now on, and no others."""
        refused = [name for name in names if name not in self._allowed]
        self._table.set_names(names, self._clock(), refused=refused, reason=REFUSED_HERE)
        for name in refused:
            logger.warning("%s %s", name, REFUSED_HERE)
        self._changed.set()

    async def run(self) -> None:
        """Look up names when they are due, until cancelled."""
        self._table.forget_lookups()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                now = self._clock()
                for name in self._table.take_due(now):
                    group.create_task(self._look_up(name))
                next_at = [at for at in (self._table.find_next_due(), self._publish_in_time(now)) if at is not None]
                await self._wait(self._changed, max(0.0, min(next_at) - self._clock()) if next_at else None)

    def _publish_in_time(self, now: float) -> float | None:
        """Publish, or return when that is next allowed. The pause collects lookups that end together."""
        due_at = self._published_at + PUBLISHING_PAUSE_S
        if now < due_at:
            return due_at
        if self._publish():
            self._published_at = now
        return None

    async def _look_up(self, name: str) -> None:
        async with self._places:
            try:
                lookup = await self._client.look_up(name)
            except Exception as error:  # of the DNS library, which parses what anybody may send
                logger.error("the lookup of %s failed: %r", name, error)
                lookup = {"": Failure(f"failed: {type(error).__name__}")}
        answers = [result for result in lookup.values() if isinstance(result, Answer)]
        is_found = any(answer.addresses for answer in answers)
        self._results[_OK if is_found else _NOT_FOUND if len(answers) == len(lookup) else _FAILED] += 1
        self._table.store(name, lookup, self._clock())
        self._changed.set()

    def _publish(self) -> bool:
        """Publish what has changed, and report; return whether something has."""
        table = self._table.render()
        has_changed = table != self._published
        if has_changed:
            for name, resolved in table.items():
                before = self._published.get(name)
                if resolved.problem and (before is None or before.problem != resolved.problem):
                    logger.warning("%s %s", name, resolved.problem)
            self._published = table
            self._parent.publish_addresses(table)
        self._report()
        return has_changed

    def _report(self) -> None:
        stale = self._table.count_stale(self._clock())
        problems = dict(list(self._table.list_problems())[:PROBLEMS_SHOWN])
        state = {"names": str(self._table.size), **({"stale": str(stale)} if stale else {}), **problems}
        self._parent.report(
            [
                _build_gauge("maesh_egress_names", "DNS names that this proxy resolves.", self._table.size),
                _build_gauge("maesh_egress_stale_names", "Names whose last addresses are used while DNS fails.", stale),
                MetricFamily(
                    name="maesh_egress_lookups_total",
                    type="counter",
                    help="Lookups of names, by result.",
                    labels=("result",),
                    samples=tuple(((result,), float(count)) for result, count in self._results.items()),
                ),
            ],
            state,
        )


def _build_gauge(name: str, text: str, value: int) -> MetricFamily:
    return MetricFamily(name=name, type="gauge", help=text, samples=(((), float(value)),))


async def wait_at_most(event: asyncio.Event, limit_s: float | None) -> None:
    """Wait for an event, at most for a time; None waits without a limit."""
    try:
        await asyncio.wait_for(event.wait(), limit_s)
    except TimeoutError:
        return


def has_route(address: str) -> bool:
    """Whether the system has a route to an address: connecting a UDP socket sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
