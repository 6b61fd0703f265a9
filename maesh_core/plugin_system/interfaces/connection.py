"""A connection, a session or a tunnel, as access control sees it."""

from collections.abc import Collection
from typing import Protocol

from maesh_core.plugin_system.interfaces.exchange import Exchange

# --- middleware ------------------------------------------------------------------------------------------------------


class Connection(Protocol):
    """A TCP connection, a UDP session, the tunnel of an HTTP upgrade, or for `is_still_allowed` an HTTP exchange."""

    @property
    def client_address(self) -> str:
        """The address of its other end."""

    @property
    def entrypoint(self) -> int:
        """The port to which the client connected."""

    @property
    def service(self) -> str:
        """The key of the route's service port, or of its branch for connections and sessions.

        `cut_port_key` shortens it to the label `service` of the core's metrics.
        """

    @property
    def server(self) -> tuple[str, int] | None:
        """The address and port of its server; None before a server is chosen."""

    allowed_servers: Collection[tuple[str, int]] | None
    """The only servers, by address and port, that may be chosen; None allows all of the service."""

    would_deny: str
    """Why access control would deny it if it were not in audit mode; empty if it is allowed."""

    @property
    def exchange(self) -> Exchange | None:
        """The exchange itself, or that of the upgrade to a tunnel; None for TCP and UDP."""
