"""Measures traffic by asking all proxies at their admin ports.

Takes a finder of proxies and a client; returns sums. A proxy that does not answer is reported with its error, and the
others still count. The number of proxies, the memory for their answers, and the whole time are limited.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Protocol

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING, Finder
from maesh_core.controller.mesh_proxies.shared_names import SHARED, is_shared
from maesh_core.controller.traffic.gathering import Measurement
from maesh_core.controller.traffic.latency import read_count
from maesh_core.controller.traffic.parsing import parse_traffic
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.wanted_metrics import HTTP_CONNECTIONS, Scope
from maesh_core.controller.turns import SmallestFirst, work_in_turns
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import NodeTraffic, ProxyTraffic

PROXIES_LIMIT = 500
"""Limit of proxies that are asked."""
CONCURRENCY = 8
"""Limit of concurrent requests."""
MEMORY_BYTES = 64 * 1024 * 1024
"""Limit of all answers together that are in memory at once. One of them is decoded at a time, the smallest first."""
ANSWER_BYTES = 8 * 1024 * 1024
ANSWER_BYTES_EACH = 4 * 1024
ANSWER_BYTES_EACH_SERVER = 1024
"""Limit of the answer of one proxy: as much as it needs without services, mostly for clients, and more for each service
port and each server. The answer of a proxy with 2,000 busy services of three servers each is 8 MB."""
LIMIT_BYTES = 32 * 1024 * 1024
"""No answer is larger, whatever the number of services."""
SIZE_STEP_BYTES = 1024 * 1024
"""Proxies whose answers differ by less are asked in the usual order."""
DEADLINE_S = 5.0
"""Limit of the time for all proxies."""
TIMEOUT_S = 2.0

NOT_ASKED = f"not asked: only {PROXIES_LIMIT} proxies are; --prometheus measures more"
NO_TIME = f"not asked: the other proxies took {DEADLINE_S:g} s; --prometheus measures more"


class TrafficFetcher(Protocol):
    """Sends requests to proxies."""

    async def fetch_traffic(self, proxy: NodeReport, *, limit_bytes: int) -> bytes:
        """Fetch what the proxy has counted; raises NodeUnreachableError."""

    async def close(self) -> None:
        """Close its connections."""


class ProxySource:
    """The proxies of the mesh. Those with much larger answers than others are asked last the next time."""

    __slots__ = ("_deadline_s", "_fetcher", "_finder", "_sizes")

    def __init__(self, finder: Finder, fetcher: TrafficFetcher, *, deadline_s: float = DEADLINE_S) -> None:
        self._finder = finder
        self._fetcher = fetcher
        self._deadline_s = deadline_s
        self._sizes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<ProxySource of {self._finder!r}>"

    async def measure(self, scope: Scope) -> Measurement:
        """Ask all proxies; raises nothing."""
        known = await self._finder.find()
        limit_bytes = choose_answer_limit(len(scope.services), len(scope.servers))
        asked = [each for each in known.proxies if each.is_active]
        first = sorted(asked[:PROXIES_LIMIT], key=lambda each: self._sizes.get(each.name, 0) // SIZE_STEP_BYTES)
        round_ = _Round(self._fetcher, TrafficSums(scope), limit_bytes=limit_bytes)
        round_.expect(known.proxies, first)
        await round_.ask_all(first, concurrency=choose_concurrency(limit_bytes), deadline_s=self._deadline_s)
        self._sizes = round_.sizes
        return Measurement(round_.sums, round_.list_nodes(), known.missing)

    async def close(self) -> None:
        """Close the connections to proxies."""
        await self._fetcher.close()


class _Round:
    """One round of questions to all proxies, with their sums, and the sizes of their answers in bytes."""

    __slots__ = ("_decoding", "_fetcher", "_limit_bytes", "_nodes", "sizes", "sums")

    def __init__(self, fetcher: TrafficFetcher, sums: TrafficSums, *, limit_bytes: int) -> None:
        self._fetcher = fetcher
        self._limit_bytes = limit_bytes
        self._decoding = SmallestFirst()
        self._nodes: dict[str, NodeTraffic] = {}
        self.sizes: dict[str, int] = {}
        self.sums = sums

    def __repr__(self) -> str:
        return f"<_Round {self.sums!r}>"

    def expect(self, proxies: Iterable[NodeReport], asked: Iterable[NodeReport]) -> None:
        """Note the errors that the proxies have unless they are asked and answer in time."""
        for proxy in proxies:
            self._nodes[proxy.name] = _report_node(proxy, error=NOT_ASKED if proxy.is_active else NOT_PULLING)
        for proxy in asked:
            self._nodes[proxy.name] = _report_node(proxy, error=NO_TIME)

    async def ask_all(self, proxies: Iterable[NodeReport], *, concurrency: int, deadline_s: float) -> None:
        """Ask the proxies in this order."""
        waiting = iter(proxies)
        try:
            async with asyncio.timeout(deadline_s), asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._ask_some(waiting))
        except TimeoutError:
            pass  # those without an answer have their error already

    def list_nodes(self) -> tuple[NodeTraffic, ...]:
        """List what is known about each proxy, sorted by name."""
        return tuple(self._nodes[name] for name in sorted(self._nodes))

    async def _ask_some(self, waiting: Iterator[NodeReport]) -> None:
        for proxy in waiting:
            self.sizes[proxy.name] = self._limit_bytes  # if it does not answer, which takes the most time
            try:
                body = await self._fetcher.fetch_traffic(proxy, limit_bytes=self._limit_bytes)
                self.sizes[proxy.name] = len(body)
                async with self._decoding.hold(len(body)):
                    await self._add(proxy, await work_in_turns(parse_traffic(body)))
            except NodeUnreachableError as error:
                self._nodes[proxy.name] = _report_node(proxy, error=str(error))

    async def _add(self, proxy: NodeReport, traffic: ProxyTraffic) -> None:
        """Add the counts of one proxy, all or none of them."""
        adding = self.sums.add(traffic)

        async def add_rest() -> None:
            left_out = await work_in_turns(adding)
            self._nodes[proxy.name] = _report_node(proxy, connections=count_clients(traffic), left_out=left_out)

        try:
            await add_rest()
        except asyncio.CancelledError:  # the deadline has come
            await add_rest()
            raise


def _report_node(proxy: NodeReport, *, error: str = "", connections: int = 0, left_out: int = 0) -> NodeTraffic:
    return NodeTraffic(
        name=proxy.name,
        revision=proxy.revision,
        error=error or (SHARED if is_shared(proxy) else ""),
        connections=connections,
        is_refused=proxy.refused,
        left_out=left_out,
    )


def choose_answer_limit(services: int, servers: int) -> int:
    """Choose the limit of one answer, in bytes, for these numbers of service ports and servers."""
    return min(LIMIT_BYTES, ANSWER_BYTES + ANSWER_BYTES_EACH * services + ANSWER_BYTES_EACH_SERVER * servers)


def choose_concurrency(limit_bytes: int) -> int:
    """Choose how many proxies are asked at once if each answer may have `limit_bytes`."""
    return min(CONCURRENCY, MEMORY_BYTES // limit_bytes)


def count_clients(traffic: ProxyTraffic) -> int:
    """Count the open HTTP connections of a proxy's clients."""
    family = next((each for each in traffic.now if each.name == HTTP_CONNECTIONS), None)
    found = [read_count(value) for labels, value in family.samples if labels == ("client",)] if family else []
    return (found[0] or 0) if found else 0
