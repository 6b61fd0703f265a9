"""The proxies of a mesh that tests script, with the finder that knows them and the client that follows them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from maesh_core.controller.mesh_proxies.finder import KnownProxies
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import MissingController


def build_report(name: str, **more: Any) -> NodeReport:
    port = 8000 + sum(name.encode())  # of its own
    given = {"ip": "10.1.0.1", "ready": True, "revision": "e.1", "last_seen": "now", "admin_port": port, **more}
    return NodeReport(name=name, **given)


class FakeProxies:
    """The finder, the client and the proxies: each proxy has a queue of lines, or of an error that ends its tap."""

    def __init__(self, *names: str) -> None:
        self.connections_limit = 10
        self.reports = {name: build_report(name) for name in names}
        self.missing: dict[str, str] = {}
        self.queues: dict[str, asyncio.Queue[bytes | NodeUnreachableError]] = {}
        self.queries: list[tuple[str, str]] = []
        self.left: list[str] = []
        self.finds = 0
        self.is_closed = False

    async def find(self) -> KnownProxies:
        self.finds += 1
        missing = tuple(MissingController(name=name, error=error) for name, error in self.missing.items())
        return KnownProxies(tuple(self.reports.values()), missing)

    def change(self, name: str, **fields: Any) -> None:
        """Change what is known of a proxy, which is added if it is new."""
        self.reports[name] = build_report(name, **fields)

    async def follow(self, proxy: NodeReport, query: str) -> AsyncIterator[bytes]:
        self.queries.append((proxy.name, query))
        queue = self.queues[proxy.name] = asyncio.Queue()
        try:
            while True:
                item = await queue.get()
                if isinstance(item, NodeUnreachableError):
                    raise item
                yield item
        finally:
            self.left.append(proxy.name)

    async def close(self) -> None:
        self.is_closed = True

    async def send(self, name: str, *items: bytes | NodeUnreachableError) -> None:
        while name not in self.queues:  # noqa: ASYNC110 - a proxy that is asked tells nobody
            await asyncio.sleep(0)
        for item in items:
            self.queues[name].put_nowait(item)

    async def settle(self) -> None:
        """Wait until the current proxies were found, and what follows from it has happened."""
        finds = self.finds
        while self.finds < finds + 3:  # noqa: ASYNC110 - the finder tells nobody
            await asyncio.sleep(0)
