"""How many requests run on a node: of one limit, or of each client of one limit.

Each worker writes the numbers of its own requests to memory that the node's workers share, and adds up those of all.
There are no locks: workers that start requests at the same instant may together exceed a limit by one request each.
The numbers of a worker that died are reset by its successor. Each counted request must be counted down exactly once.
"""

import os
from hashlib import blake2b
from typing import Final

from maesh_core.plugin import Node

WIDTH: Final = 32768
"""Places for counts by each of two hashes, for the clients of all limits of one worker: 256 KiB. Clients whose hashes
collide can only raise the counts that other workers read, so a limit can only become stricter."""
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

    def count_others(self, first: int, second: int) -> int:
        """Return how many requests of the client at these places run in other workers; never too small."""
        by_first = by_second = 0
        for table in self._others:
            by_first += table[first]
            by_second += table[second]
        return min(by_first, by_second)

    def add(self, first: int, second: int, change: int) -> None:
        """Count a request that begins or ends in this worker, of the client at these places."""
        self._own[first] += change
        self._own[second] += change

    def find_places(self, name: bytes, client: bytes) -> tuple[int, int]:
        """Find the places of a client. The hash is keyed, so that nobody can choose the places of another client."""
        hasher = blake2b(b"%d:%b" % (len(name), name), digest_size=8, key=bytes(self._secret))
        hasher.update(client)
        digest = int.from_bytes(hasher.digest(), "little")
        return digest % WIDTH, WIDTH + (digest >> 32) % WIDTH


class RunningClient:
    """A client of a limit that has running requests in this worker, or wants to begin one."""

    def __init__(self, client: bytes, first: int, second: int) -> None:
        self.client: Final = client
        self.first: Final = first
        self.second: Final = second
        self.requests: int = 0

    def __repr__(self) -> str:
        return f"<RunningClient {self.requests} requests>"


class ClientCounts:
    """The running requests of each client of a limit: exact for this worker, by hash for the others.

    `table` is None on a node with one worker. Only clients with running requests are remembered.
    """

    def __init__(self, table: ClientTable | None, name: str) -> None:
        self._table = table
        self._name = name.encode()
        self._running: dict[bytes, RunningClient] = {}

    def __repr__(self) -> str:
        return f"<ClientCounts {self.own} requests of {len(self._running)} clients>"

    @property
    def own(self) -> int:
        """The number of requests of all clients that run in this worker."""
        return sum(client.requests for client in self._running.values())

    def begin(self, client: bytes, limit: int) -> RunningClient | None:
        """Count a request of a client; return None, and count nothing, if as many as the limit run already."""
        found = self._running.get(client)
        if found is None:
            first, second = self._table.find_places(self._name, client) if self._table is not None else (0, 0)
            found = RunningClient(client, first, second)
        others = self._table.count_others(found.first, found.second) if self._table is not None else 0
        if found.requests + others >= limit:
            return None
        found.requests += 1
        self._running[client] = found
        if self._table is not None:
            self._table.add(found.first, found.second, 1)
        return found

    def end(self, client: RunningClient) -> None:
        """Count a request down that `begin` has counted."""
        client.requests -= 1
        if not client.requests:
            del self._running[client.client]
        if self._table is not None:
            self._table.add(client.first, client.second, -1)
