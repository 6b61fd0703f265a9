"""How many requests run on a node: of one limit, or of each client of one limit.

Each worker writes the numbers of its own requests to memory that the node's workers share, and adds up those of all.
There are no locks: workers that start requests at the same instant may together exceed a limit by one request each.
The numbers of a worker that died are reset by its successor. What counts a request must end it exactly once.
"""

import os
from hashlib import blake2b
from typing import Final

from maesh_core.plugin import Node

WIDTH: Final = 32768
"""Numbers of clients by each of two hashes, of all limits of one worker, in 256 KiB. Two clients with both hashes equal
count as one for the other workers, so a limit can only become stricter."""
SECRET_BYTES: Final = 16


class ServiceCount:
    """The requests of one limit that run on the node; `own` are those of this worker."""

    def __init__(self, node: Node, name: str) -> None:
        self._cells = node.share(f"concurrency/running/{name}", 8 * node.workers).view.cast("q")
        self._slot = node.slot
        self._others = [slot for slot in range(node.workers) if slot != node.slot]
        self.own: int = 0
        self._cells[self._slot] = 0

    def __repr__(self) -> str:
        return f"<ServiceCount {self.count()}>"

    def count(self) -> int:
        """Return the number of running requests of all workers."""
        total = self.own
        for slot in self._others:
            total += self._cells[slot]
        return total

    def add(self, change: int) -> None:
        """Count requests that begin, or end."""
        self.own += change
        self._cells[self._slot] = self.own


class ClientTable:
    """The numbers of running requests of clients of all limits, by hash, of each worker."""

    def __init__(self, node: Node) -> None:
        size = 4 * 2 * WIDTH
        views = [node.share(f"concurrency/clients/{slot}", size).view for slot in range(node.workers)]
        views[node.slot][:] = bytes(size)
        tables = [view.cast("i") for view in views]
        self._own = tables[node.slot]
        self._others = [table for slot, table in enumerate(tables) if slot != node.slot]
        self._secret = node.share("concurrency/secret", SECRET_BYTES).view
        if not any(self._secret):
            self._secret[:] = os.urandom(SECRET_BYTES)

    def __repr__(self) -> str:
        return f"<ClientTable of {1 + len(self._others)} workers>"

    def count_others(self, name: bytes, client: bytes) -> int:
        """Return how many requests of a client of a limit run in other workers; never too small."""
        first, second = self._find_places(name, client)
        return min(sum(table[first] for table in self._others), sum(table[second] for table in self._others))

    def add(self, name: bytes, client: bytes, change: int) -> None:
        """Count a request that begins or ends in this worker."""
        for place in self._find_places(name, client):
            self._own[place] += change

    def _find_places(self, name: bytes, client: bytes) -> tuple[int, int]:
        """Find the places of a client. The hash is keyed, so that nobody can choose the places of another client."""
        hasher = blake2b(b"%d:%b" % (len(name), name), digest_size=8, key=bytes(self._secret))
        hasher.update(client)
        digest = int.from_bytes(hasher.digest(), "little")
        return digest % WIDTH, WIDTH + (digest >> 32) % WIDTH


class ClientCounts:
    """The running requests of each client of a limit: exact for this worker, by hash for the others.

    `table` is None on a node with one worker. Only clients with running requests are remembered.
    """

    def __init__(self, table: ClientTable | None, name: str) -> None:
        self._table = table
        self._name = name.encode()
        self._running: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<ClientCounts {self.own} requests of {len(self._running)} clients>"

    @property
    def own(self) -> int:
        """The number of requests of all clients that run in this worker."""
        return sum(self._running.values())

    def count(self, client: bytes) -> int:
        """Return the number of running requests of a client; never too small."""
        own = self._running.get(client, 0)
        return own if self._table is None else own + self._table.count_others(self._name, client)

    def add(self, client: bytes, change: int) -> None:
        """Count a request of a client that begins (1), or ends (-1)."""
        running = self._running.get(client, 0) + change
        if running > 0:
            self._running[client] = running
        else:
            self._running.pop(client, None)
        if self._table is not None:
            self._table.add(self._name, client, change)
