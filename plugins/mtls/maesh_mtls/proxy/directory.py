"""What a worker knows of other nodes and of clients, from the current configuration.

`apply` replaces it. Waiting for a newer configuration is limited, because other nodes decide when it is done.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from maesh_core.plugin import ClientEntry
from maesh_mtls.wire import NodeEntry

WAIT_S: Final = 2.0
"""How long to wait for a configuration that another node may have already."""
WAITING_LIMIT: Final = 256
WAITING_LIMIT_PER_NODE: Final = 64


class Directory:
    """The nodes by name and by identity, and the clients by address."""

    __slots__ = ("_by_identity", "_updated", "_waiting", "clients", "nodes")

    def __init__(self) -> None:
        self.nodes: Mapping[str, NodeEntry] = {}
        self.clients: Mapping[str, ClientEntry] = {}
        self._by_identity: dict[str, str] = {}
        self._updated = asyncio.Event()
        self._waiting: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Directory {len(self.nodes)} nodes, {len(self.clients)} clients>"

    def apply(self, nodes: Mapping[str, NodeEntry], clients: Mapping[str, ClientEntry]) -> None:
        """Use these nodes and clients. An identity that two nodes have is the identity of none."""
        by_identity: dict[str, str] = {}
        ambiguous = set()
        for name, entry in nodes.items():
            if by_identity.setdefault(entry.identity, name) != name:
                ambiguous.add(entry.identity)
        self._by_identity = {key: name for key, name in by_identity.items() if key not in ambiguous}
        self.nodes, self.clients = dict(nodes), dict(clients)
        self._updated.set()
        self._updated = asyncio.Event()

    def find_node(self, identity: str) -> str | None:
        """Return the name of the node with an identity."""
        return self._by_identity.get(identity)

    async def wait_for(self, node: str, condition: Callable[[], bool]) -> bool:
        """Wait until a newer configuration meets a condition; `node` is the one that waits for the answer."""
        if condition():
            return True
        if self._waiting[node] >= WAITING_LIMIT_PER_NODE or self._waiting.total() >= WAITING_LIMIT:
            return False
        self._waiting[node] += 1
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    await self._updated.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[node] -= 1
            if not self._waiting[node]:
                del self._waiting[node]
        return True
