"""What a load balancer sees of a server."""

from typing import Protocol

# --- balancing -------------------------------------------------------------------------------------------------------


class BalancedServer(Protocol):
    """A server as balancers see it; it stays the same object as long as any service has it."""

    @property
    def address(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """Its port."""

    @property
    def under_way(self) -> int:
        """The number of its unanswered requests from this worker."""
