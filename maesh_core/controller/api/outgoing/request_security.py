"""How the controller's own requests are secured: those to other controllers, and those to the admin ports of proxies.

Values and interfaces only. security/protection.py decides by the settings and by what plugins offer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from maesh_core.controller.api.nodes import AdminAddress

if TYPE_CHECKING:
    import ssl


class Secured(NamedTuple):
    """How one request is sent: in clear without a context. `server_name` is what the context's check compares."""

    context: "ssl.SSLContext | None" = None
    server_name: str | None = None
    token: str = ""

    def __repr__(self) -> str:
        """Show no token."""
        return f"<Secured {self.server_name}>"


Secure = Callable[[AdminAddress], Secured]
"""Decides for an address; raises NodeUnreachableError if no request may be sent to it."""


def send_clear(address: AdminAddress) -> Secured:
    """Send every request in clear, without a token."""
    return Secured()
