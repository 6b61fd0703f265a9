"""The leases of a worker: the tokens that Redis has granted it for its clients, and what to ask for next.

Does no I/O: the driver (driver.py) sends the batches that `build_batch` returns, and passes on their answers. A lease
lasts a second after the last answer; then its tokens are returned.

Tokens that are leased have left the bucket, so all workers together never spend more than Redis has granted. In any
time, a mesh admits at most `burst` + `average` x time + the tokens that were leased before, which are at most
`largest` (of `Terms`) for each worker.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from maesh_ratelimit.redis_store.script import Grant, Question
from maesh_ratelimit.settings import Limit

LEASE_S: Final = 1.0
"""How long a worker keeps tokens that it does not use."""
AHEAD_S: Final = 0.1
"""A worker leases at most the tokens that a bucket gets in this time, so that others get theirs."""
NEED_S: Final = 0.25
"""A worker leases what a client would use in this time at its present rate, so few tokens lie idle in workers."""
MEASURED_S: Final = 0.05
"""Shortest time by which the rate of a client is measured. Before, a lease doubles whenever requests have to wait."""
SCARCE_S: Final = 0.02
"""Shortest time for which an empty bucket refuses requests, if it gets several tokens in this time. The tokens are then
leased together, and no request waits: under overload, nearly every request would wait, which costs more CPU."""
LEASES_LIMIT: Final = 16_384
"""Most leases of a worker. A further one replaces the lease with the oldest answer for which no request waits."""
BATCH_LIMIT: Final = 512
"""Most buckets in one call of the script, which blocks Redis for about a millisecond then."""
WAITING_LIMIT: Final = 2 * BATCH_LIMIT
"""Most requests of a worker that wait for answers; further ones are decided by the node's own share."""


class Waiter(Protocol):
    """A request that waits for a token, as `asyncio.Future`."""

    def done(self) -> bool:
        """Whether the request does not wait any more."""

    def set_result(self, wait_s: float, /) -> None:
        """Decide about the request: what `Limiter.take` returns."""


class Terms:
    """What a limit is to Redis. A worker leases at most `largest` tokens of one client ahead of need."""

    def __init__(self, limit: Limit, longest_wait_s: float) -> None:
        self.burst: Final = limit.burst
        self.interval_us: Final = limit.period_s / limit.average * 1e6
        self.patience_us: Final = longest_wait_s * 1e6
        self.longest_wait_s: Final = longest_wait_s
        interval_s = limit.period_s / limit.average
        loses_nothing = limit.burst * interval_s >= 5 * SCARCE_S  # the bucket is not full again in this time
        self.scarce_s: Final = SCARCE_S if interval_s < SCARCE_S and loses_nothing else 0.0
        self.largest: Final = max(1, int(min(limit.burst, AHEAD_S * limit.average / limit.period_s)))


class Lease:
    """The tokens of one client. `low` is the number below which more are asked for; 0 if they are, or not in advance.

    `owner` has the lease under `source` until it ends.
    """

    def __init__(
        self,
        key: bytes,
        terms: Terms,
        source: str | bytes,
        owner: "dict[str | bytes, Lease]",
        decide_locally: Callable[[str | bytes], float],
    ) -> None:
        self.key: Final = key
        self.terms: Final = terms
        self.source: Final = source
        self.owner: Final = owner
        self.decide_locally: Final = decide_locally
        """Decides about a request of this source without Redis; returns what `Limiter.take` returns."""
        self.tokens: int = 0
        self.low: int = 0
        self.size: int = 1
        """The number of tokens to have after the next answer, if not more requests wait."""
        self.granted: int = 0
        """All tokens that it has got."""
        self.measured_at: float = 0.0
        self.measured: int = 0
        """When the rate was last measured, and the number of tokens that had been used then."""
        self.left: int = terms.burst
        """The tokens in the bucket, by the last answer."""
        self.empty_until: float = 0.0
        """The time of the next token, if the bucket is known to be empty."""
        self.answered_at: float = 0.0
        self.is_asked: bool = False
        self.waiters: list[Waiter] = []

    def __repr__(self) -> str:
        return f"<Lease {self.tokens} tokens, {self.left} left, {len(self.waiters)} waiting>"


class Batch:
    """Questions that were sent together, and their leases; None for tokens that are only returned."""

    def __init__(self, leases: list[Lease | None], questions: list[Question]) -> None:
        self.leases: Final = leases
        self.questions: Final = questions


class LeaseBook:
    """All leases of a worker. `wake_now` is called when somebody waits, `wake_soon` when there is something to ask."""

    def __init__(self, wake_now: Callable[[], None], wake_soon: Callable[[], None]) -> None:
        self.is_away: bool = False
        """Whether Redis does not answer; then limiters decide by the node's own share."""
        self.waiting: int = 0
        """The number of requests that wait."""
        self.granted: int = 0
        self.returned: int = 0
        """Tokens, for metrics."""
        self._wake_now, self._wake_soon = wake_now, wake_soon
        self._leases: dict[Lease, None] = {}
        """In the order of their last answers."""
        self._marked: dict[Lease, None] = {}
        self._returns: list[Question] = []

    def __repr__(self) -> str:
        return f"<LeaseBook {len(self._leases)} leases, {len(self._marked)} to ask for{', away' * self.is_away}>"

    def __len__(self) -> int:
        return len(self._leases)

    def open(self, lease: Lease, now: float) -> None:
        """Add a lease; at the limit, end the one with the oldest answer for which no request waits."""
        while len(self._leases) >= LEASES_LIMIT:
            oldest = next(iter(self._leases))
            if oldest.waiters:  # at most WAITING_LIMIT have some; an answer, which is due, also moves them
                del self._leases[oldest]
                self._leases[oldest] = None
            else:
                self._end(oldest)
        lease.answered_at = lease.measured_at = now
        self._leases[lease] = None
        lease.owner[lease.source] = lease

    def mark(self, lease: Lease) -> None:
        """Ask for more tokens soon, because few are left."""
        lease.low = 0
        if not self.is_away:
            self._marked[lease] = None
            self._wake_soon()

    def wait(self, lease: Lease, waiter: Waiter) -> None:
        """Ask for a token at once, and decide about the waiter then."""
        lease.waiters.append(waiter)
        self.waiting += 1
        self._marked[lease] = None
        self._wake_now()

    def has_work(self) -> bool:
        """Return whether there is something to ask or to return."""
        return bool(self._marked or self._returns)

    def build_batch(self, now: float) -> Batch:
        """Build the next questions; each lease is asked for once at a time. `now` is the time."""
        returns, self._returns = self._returns[:BATCH_LIMIT], self._returns[BATCH_LIMIT:]
        leases: list[Lease | None] = [None] * len(returns)
        questions = list(returns)
        for lease in list(self._marked):
            if len(questions) >= BATCH_LIMIT:
                break
            del self._marked[lease]
            if lease.is_asked:
                continue
            lease.is_asked = True
            leases.append(lease)
            questions.append(_build_question(lease, now))
        return Batch(leases, questions)

    def accept(self, batch: Batch, grants: Sequence[Grant], now: float) -> None:
        """Use the answer to a batch; `now` is the time."""
        for lease, question, grant in zip(batch.leases, batch.questions, grants, strict=True):
            if lease is None:
                self.returned += question.returned
            else:
                self.granted += grant.granted
                self._accept_grant(lease, question, grant, now)

    def _accept_grant(self, lease: Lease, question: Question, grant: Grant, now: float) -> None:
        lease.is_asked = False
        lease.tokens += grant.granted
        lease.granted += grant.granted
        lease.left, lease.answered_at = grant.left, now
        is_scarce = grant.left == 0 or grant.granted < question.asked
        lease.empty_until = now + max(grant.due_s, lease.terms.scarce_s) if is_scarce else 0.0
        if lease in self._leases:  # otherwise it has ended since
            del self._leases[lease]
            self._leases[lease] = None
        self._decide(lease, grant.delay_s, refusal_s=grant.due_s if is_scarce else None)
        lease.low = 0 if is_scarce or lease.terms.largest < 2 else lease.tokens // 2
        if lease.waiters:
            self._marked[lease] = None
            self._wake_now()
        elif lease not in self._leases:
            self._return_tokens(lease)

    def _decide(self, lease: Lease, delay_s: float, *, refusal_s: float | None) -> None:
        """Give tokens to those who wait, the first ones first; refuse the others if `refusal_s` is a time."""
        waiters, lease.waiters = lease.waiters, []
        for waiter in waiters:
            if not waiter.done():
                if lease.tokens > 0:
                    lease.tokens -= 1
                    waiter.set_result(delay_s)
                elif refusal_s is not None:
                    waiter.set_result(build_refusal(refusal_s, lease.terms.longest_wait_s))
                else:
                    lease.waiters.append(waiter)
                    continue
            self.waiting -= 1

    def fail(self, batch: Batch | None) -> None:
        """Note that Redis is away: the node's own share decides about those who wait, and then about all requests."""
        self.is_away = True
        if batch is not None:
            for each in batch.leases:
                if each is not None:
                    each.is_asked = False
                    self._leave(each)
        for lease in list(self._marked):
            self._leave(lease)
        self._marked.clear()
        self._returns.clear()

    def _leave(self, lease: Lease) -> None:
        waiters, lease.waiters = lease.waiters, []
        for waiter in waiters:
            self.waiting -= 1
            if not waiter.done():
                waiter.set_result(lease.decide_locally(lease.source))

    def expire(self, now: float) -> None:
        """End the leases whose last answer is a second old, and return their tokens. Call it regularly."""
        for lease in list(self._leases):
            if now - lease.answered_at < LEASE_S:
                break
            if not lease.waiters and not lease.is_asked:
                self._end(lease)
        if self._returns:
            self._wake_soon()

    def _end(self, lease: Lease) -> None:
        del self._leases[lease]
        self._marked.pop(lease, None)
        if lease.owner.get(lease.source) is lease:
            del lease.owner[lease.source]
        if not lease.is_asked:
            self._return_tokens(lease)

    def _return_tokens(self, lease: Lease) -> None:
        if lease.tokens > 0 and not self.is_away:
            self._returns.append(_build_return(lease))
        lease.tokens = 0


def build_refusal(due_s: float, longest_wait_s: float) -> float:
    """Return a time that `Limiter.take` may return for a refusal, which is above the longest wait."""
    return max(due_s, longest_wait_s + 1e-6)


def _build_question(lease: Lease, now: float) -> Question:
    """Ask for a token for each request that waits, or for more if the client has needed more lately."""
    terms, waiting = lease.terms, len(lease.waiters)
    if lease.granted:
        _adapt_size(lease, now)
    asked = min(terms.burst, max(1, max(waiting, lease.size) - lease.tokens))
    return Question(lease.key, asked, 0, terms.burst, terms.interval_us, terms.patience_us if waiting else 0.0)


def _adapt_size(lease: Lease, now: float) -> None:
    """Adapt the size of a lease to the rate of its client."""
    used, elapsed_s = lease.granted - lease.tokens + len(lease.waiters), now - lease.measured_at
    largest = min(2 * lease.size, lease.terms.largest)
    if elapsed_s >= MEASURED_S:
        need = math.ceil((used - lease.measured) * NEED_S / elapsed_s)
        lease.size = max(1, min(need, largest))
        lease.measured_at, lease.measured = now, used
    elif lease.waiters:
        lease.size = largest


def _build_return(lease: Lease) -> Question:
    terms = lease.terms
    return Question(lease.key, 0, lease.tokens, terms.burst, terms.interval_us, 0.0)
