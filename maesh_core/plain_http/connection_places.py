"""Counts the connections of a small HTTP server, and chooses which one makes room for a new one.

Takes connections as they come, wait, stall and leave; returns whether there is room, in total and for an address. A
connection that waits for no answer makes room first, then one that does not read what it was sent.
"""

from typing import Final, Generic, Protocol, TypeVar

LOOPBACK: Final = ("127.", "::1", "::ffff:127.")
"""Beginnings of addresses without a limit of their own: all port-forwards come from there, whoever uses them."""


class Connection(Protocol):
    """A connection that can be cut."""

    @property
    def address(self) -> str:
        """The client's address."""

    def cut(self) -> object:
        """Close it at once."""


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class ConnectionPlaces(Generic[ConnectionT]):
    """The connections of one server: at most `limit`, and of each address `address_limit` unproven ones.

    `address_limit` 0 means that addresses have no limit.
    """

    __slots__ = ("_unproven", "address_limit", "all", "idle", "limit", "stalled")

    def __init__(self, *, limit: int, address_limit: int = 0) -> None:
        self.limit = limit
        self.address_limit = address_limit
        self.all: set[ConnectionT] = set()
        self.idle: dict[ConnectionT, None] = {}
        """Those that wait for no answer, first the one that has been silent for longest."""
        self.stalled: dict[ConnectionT, None] = {}
        """Those that have not taken what they were sent, first the one that has not done so for longest."""
        self._unproven: dict[str, dict[ConnectionT, None]] = {}

    def __repr__(self) -> str:
        return f"<ConnectionPlaces {len(self.all)} of {self.limit}, {len(self.idle)} idle, {len(self.stalled)} stalled>"

    def admit(self, connection: ConnectionT) -> bool:
        """Count a connection in, which has proven nothing yet; False where there is no room."""
        address = connection.address
        is_limited = self.address_limit > 0 and not address.startswith(LOOPBACK)
        own = self._unproven.get(address, {}) if is_limited else {}
        if is_limited and len(own) >= self.address_limit:
            replaced = next((each for each in own if each in self.idle or each in self.stalled), None)
            if not self._evict(replaced):
                return False
        if len(self.all) >= self.limit and not self._evict(next(iter(self.idle or self.stalled), None)):
            return False
        self.all.add(connection)
        if is_limited:
            self._unproven.setdefault(address, {})[connection] = None
        return True

    def note_proven(self, connection: ConnectionT) -> None:
        """Note that a client has a certificate that was verified: the limit of its address is not for it."""
        own = self._unproven.get(connection.address, {})
        own.pop(connection, None)
        if not own:
            self._unproven.pop(connection.address, None)

    def note_idle(self, connection: ConnectionT) -> None:
        """Note that a client waits for no answer, and was not silent until now."""
        self.stalled.pop(connection, None)
        self.idle.pop(connection, None)
        self.idle[connection] = None

    def note_stalled(self, connection: ConnectionT) -> None:
        """Note that a client does not take what it is sent; it is so until it is idle, also if it reads a little."""
        self.stalled.setdefault(connection, None)

    def forget(self, connection: ConnectionT) -> None:
        """Count out a connection that has ended."""
        self.all.discard(connection)
        self.idle.pop(connection, None)
        self.stalled.pop(connection, None)
        self.note_proven(connection)

    def _evict(self, connection: ConnectionT | None) -> bool:
        if connection is None:
            return False
        connection.cut()
        self.forget(connection)
        return True
