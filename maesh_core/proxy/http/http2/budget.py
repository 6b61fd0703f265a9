"""Budgets for what a peer may do without being useful: a bucket of tokens that time and useful work refill."""


class Budget:
    """`limit` tokens at most; `refill_per_s` are added each second. Times are those of the clock, in seconds."""

    __slots__ = ("_left", "_limit", "_refill_per_s", "_updated_at")

    def __init__(self, limit: int, refill_per_s: float, now: float) -> None:
        self._limit = float(limit)
        self._left = float(limit)
        self._refill_per_s = refill_per_s
        self._updated_at = now

    def __repr__(self) -> str:
        return f"<Budget {self._left:.0f} of {self._limit:.0f}>"

    def spend(self, now: float) -> bool:
        """Take one token; return False if none is left."""
        self._left -= 1.0
        if self._left >= 0.0:
            return True
        self._left = min(self._limit, self._left + (now - self._updated_at) * self._refill_per_s)
        self._updated_at = now
        return self._left >= 0.0

    def earn(self, tokens: int) -> None:
        """Add tokens for useful work."""
        self._left = min(self._limit, self._left + tokens)
