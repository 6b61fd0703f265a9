"""Limits how many costly answers are in progress, in total and for each client address.

Takes a client's address when an answer begins and when it ends; returns whether there is room. One client alone never
reaches the limit of all.
"""


class ClientShares:
    """The answers in progress, by client address."""

    __slots__ = ("_by_client", "_client_limit", "_limit", "_total")

    def __init__(self, *, limit: int, client_limit: int) -> None:
        self._limit = limit
        self._client_limit = client_limit
        self._by_client: dict[str, int] = {}
        self._total = 0

    def __repr__(self) -> str:
        return f"<ClientShares {self._total} of {self._limit}, {len(self._by_client)} clients>"

    @property
    def total(self) -> int:
        """How many answers are in progress."""
        return self._total

    def acquire(self, client: str) -> bool:
        """Begin an answer for a client; return False if a limit is reached."""
        held = self._by_client.get(client, 0)
        if self._total >= self._limit or held >= self._client_limit:
            return False
        self._by_client[client] = held + 1
        self._total += 1
        return True

    def release(self, client: str) -> None:
        """End an answer for a client."""
        left = self._by_client[client] - 1
        self._total -= 1
        if left:
            self._by_client[client] = left
        else:
            del self._by_client[client]
