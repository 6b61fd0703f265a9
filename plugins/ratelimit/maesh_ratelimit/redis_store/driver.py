"""The store `redis` of a worker: connects, sends the questions of the leases, and reports when Redis is away.

One batch is on its way at a time; what is marked meanwhile is the next one. While Redis is away, a connection is tried
with growing pauses, and each node limits by its own share.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, Literal

from maesh_core.plugin import MetricFamily, Node
from maesh_ratelimit.redis_store.connection import ERROR_LIMIT, Link, StoreError
from maesh_ratelimit.redis_store.leases import Batch, LeaseBook
from maesh_ratelimit.redis_store.limiter import LocalShare, RedisLimiter
from maesh_ratelimit.settings import REDIS_STORE, Limit
from maesh_ratelimit.store import Limiter, Store
from maesh_ratelimit.store_report import StoreState

AFTER_BATCH_S: Final = 0.002
"""Pause after each batch, so that a worker spends little time on asking, and many buckets share a batch."""
AHEAD_PAUSE_S: Final = 0.01
"""How long questions without a waiting request are delayed, so that others share their batch."""
HEARTBEAT_S: Final = 1.0
"""Period of the heartbeat that registers the node; it also detects without traffic that Redis is away."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""Pauses before a connection is tried again; each is twice as long, unless a connection has lasted `STEADY_S`."""
STEADY_S: Final = 5.0

_log = logging.getLogger(__name__)


class RedisStore:
    """Implements `Store`. Create it in the worker's event loop; it starts with the first limiter.

    `local` has the buckets for times without Redis. `nodes` is the assumed number of nodes before the first answer.
    """

    def __init__(
        self,
        link: Link,
        node: Node,
        local: Store,
        *,
        nodes: int = 1,
        time: Callable[[], float] = monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - spreads the workers only
    ) -> None:
        self._chance = chance
        self._link, self._node, self._time, self._pause = link, node, time, pause
        self._count = node.share("ratelimit/nodes", 8).view.cast("q")
        self._nodes = nodes
        self.share = LocalShare(local, self.count_nodes)
        self._wakened = asyncio.Event()
        self.book = LeaseBook(self._wakened.set, self._wake_soon)
        self._later: asyncio.TimerHandle | None = None
        self._beat_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._has_tried: bool = False
        self.answered = self.failed = 0
        self.reason = ""
        """Why Redis is away; empty if it is not."""

    def __repr__(self) -> str:
        return f"<RedisStore {self._link!r} {self.book!r}>"

    def count_nodes(self) -> int:
        """Return the number of nodes of the last answer to any worker of this node, or the assumed one before."""
        return self._count[0] or self._nodes

    def build_limiter(self, limit: Limit, service: str) -> Limiter:
        """Build the limiter of one limit of a service."""
        if self._task is None:
            self._node.clock.add_sweep(self._sweep)
            self._task = asyncio.get_running_loop().create_task(self.run(), name="ratelimit redis")
        return RedisLimiter(limit, service, self.book, self.share, self._time)

    async def run(self) -> None:
        """Ask as long as the worker runs."""
        pause_s = FIRST_PAUSE_S
        while True:
            connected_at = math.inf
            batch: Batch | None = None
            try:
                self._note_connected(await self._link.connect())
                connected_at = self._time()
                while True:
                    await self._wakened.wait()
                    batch = self._build_batch()
                    await self._exchange(batch)
                    await self._pause(AFTER_BATCH_S)
            except StoreError as error:
                self._note_away(batch, str(error))
            except Exception as error:  # an error in this code or the library: requests would wait forever
                self._note_away(batch, f"unexpected {type(error).__name__}: {str(error)[:ERROR_LIMIT]!a}")
            await self._link.close()
            if self._time() - connected_at >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            await self._pause(pause_s * self._chance())
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _build_batch(self) -> Batch:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        batch = self.book.build_batch(self._time())
        if not self.book.has_work():
            self._wakened.clear()
        return batch

    async def _exchange(self, batch: Batch) -> None:
        now = self._time()
        is_heartbeat = now >= self._beat_at
        if not batch.questions and not is_heartbeat:
            return
        nodes, grants = await self._link.ask(batch.questions, is_heartbeat=is_heartbeat)
        self.answered += 1
        self._count[0] = nodes
        now = self._time()
        if is_heartbeat:
            self._beat_at = now + HEARTBEAT_S
        self.book.accept(batch, grants, now)

    def _note_connected(self, nodes: int) -> None:
        self._count[0], self._has_tried = nodes, True
        if self.reason:
            _log.warning("%s answers again: limits hold for the whole mesh", self._link.name)
        self.book.is_away, self.reason = False, ""

    def _note_away(self, batch: Batch | None, reason: str) -> None:
        self.failed += 1
        self._has_tried = True
        self.book.fail(batch)
        if not self.reason:
            text = "%s is away: %s; each node enforces its share of the limits (nodes: %d)"
            _log.error(text, self._link.name, reason, self.count_nodes())
        self.reason = reason

    def _wake_soon(self) -> None:
        """Ask after a pause in which other questions may come."""
        if self._later is None and not self._wakened.is_set():
            self._later = asyncio.get_running_loop().call_later(AHEAD_PAUSE_S, self._wakened.set)

    def _sweep(self, now: float) -> None:
        self.book.expire(self._time())
        if self._time() >= self._beat_at:
            self._wakened.set()

    def describe_state(self) -> StoreState:
        """Return the state of the connection."""
        return StoreState(
            store=REDIS_STORE,
            server=self._link.name,
            state=self._name_state(),
            reason=self.reason,
            nodes=self.count_nodes(),
            leases=len(self.book),
        )

    def _name_state(self) -> Literal["unused", "connected", "away"]:
        if not self._has_tried:
            return "unused"
        return "away" if self.book.is_away else "connected"

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of this worker."""
        book = self.book
        state = self._name_state()
        return [
            MetricFamily(
                name="maesh_ratelimit_redis_workers",
                type="gauge",
                help="Workers by the state of their connection to Redis.",
                labels=("state",),
                samples=[((each,), int(each == state)) for each in ("away", "connected")],
            ),
            _build_counter(
                "batches",
                "Batches that Redis has answered, or not.",
                "outcome",
                answered=self.answered,
                failed=self.failed,
            ),
            _build_counter(
                "tokens",
                "Tokens that Redis has granted, and that were returned unused.",
                "kind",
                granted=book.granted,
                returned=book.returned,
            ),
            MetricFamily(
                name="maesh_ratelimit_redis_nodes",
                type="gauge",
                help="Nodes that share the limits, by the last answer of Redis.",
                samples=[((), self.count_nodes() if self._node.slot == 0 else 0)],  # workers are added up
            ),
            MetricFamily(
                name="maesh_ratelimit_local_decisions_total",
                type="counter",
                help="Requests that were limited by the node's own share, because Redis was away.",
                samples=[((), self.share.decisions)],
            ),
        ]


def _build_counter(name: str, text: str, label: str, **values: int) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_ratelimit_redis_{name}_total",
        type="counter",
        help=text,
        labels=(label,),
        samples=[((key,), value) for key, value in values.items()],
    )
