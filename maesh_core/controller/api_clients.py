"""The connections of the API's clients: how many there may be, and which one makes room for another.

Whoever can reach the API can open connections to it. Those that ask for nothing must not keep proxies out, nor take the
descriptors that the controller needs to read files and the cluster and to hold its lease.
"""

from typing import Protocol

CONNECTION_LIMIT = 12_000
"""At most so many: above HELD_PULLS_LIMIT of api.py, each of which has one."""
RESERVED_DESCRIPTORS = 256
"""Kept for files, the API server and proxies that are asked, and for the 128 connections that the event loop accepts at
once before any of them is counted here."""
CONNECTION_MINIMUM = 16


class ApiConnection(Protocol):
    """One connection."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, at most a part of one has come."""

    def force_close(self) -> None:
        """Close it at once."""


class ApiClients:
    """The open connections, first the one that sent nothing for longest."""

    __slots__ = ("_limit", "_open")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[ApiConnection, None] = {}

    def __repr__(self) -> str:
        return f"<ApiClients {len(self._open)} of {self._limit}>"

    def admit(self, connection: ApiConnection) -> bool:
        """Take a new connection, if need be in place of the longest idle one; False where there is no room."""
        if len(self._open) >= self._limit:
            idle = next((each for each in self._open if each.is_idle), None)
            if idle is None:
                return False
            del self._open[idle]
            idle.force_close()
        self._open[connection] = None
        return True

    def note_bytes(self, connection: ApiConnection) -> None:
        """Note that a connection brought bytes."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def forget(self, connection: ApiConnection) -> None:
        """Forget a connection that is gone."""
        self._open.pop(connection, None)


def choose_connection_limit(open_files: int | None) -> int:
    """Choose how many connections there may be in a process that may have so many descriptors; None: any number."""
    if open_files is None:
        return CONNECTION_LIMIT
    return min(CONNECTION_LIMIT, max(CONNECTION_MINIMUM, open_files - RESERVED_DESCRIPTORS))
