"""The bodies that middlewares collect as a whole (`WholeBody`): how many bytes of them a worker holds.

Every exchange may collect up to its own limit, so many slow clients could fill the memory without a common one.
"""

from typing import Final

COLLECTED_BYTES_LIMIT: Final = 128 * 2**20
"""Bytes of collected bodies that one worker holds. Above this, a body counts as too large for its middleware."""


class Collected:
    """Counts the bytes of collected bodies."""

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"<Collected {self.size_bytes}>"

    def reserve(self, size: int) -> bool:
        """Count further bytes; return False, and count nothing, if there is no room for them."""
        if self.size_bytes + size > COLLECTED_BYTES_LIMIT:
            return False
        self.size_bytes += size
        return True

    def release(self, size: int) -> None:
        """Count bytes no longer."""
        self.size_bytes -= size
