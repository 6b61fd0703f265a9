"""The entrypoints that a configuration wants, as a worker reports them and the parent binds them.

A value on its own: the parent, which routes nothing, imports it without the routing configuration.
"""

import msgspec


class WantedEntrypoint(msgspec.Struct, frozen=True, order=True):
    """An entrypoint that routers name, and the protocol that they speak there."""

    transport: str
    port: int
    protocol: str
