"""An entrypoint that the configuration wants; workers report these, and the parent binds them.

A separate module, so that the parent can import it without the routing configuration.
"""

import msgspec


class WantedEntrypoint(msgspec.Struct, frozen=True, order=True):
    """An entrypoint that routers name, and its protocol."""

    transport: str
    port: int
    protocol: str
