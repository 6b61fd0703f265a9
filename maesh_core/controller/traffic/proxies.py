"""Measures traffic by asking all proxies at their admin ports.

Takes the registry of proxies and a client; returns sums. A proxy that does not answer is reported with its error, and
the others still count. The number of proxies, of concurrent requests, and the whole time are limited.
"""

import asyncio
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from maesh_core.controller.traffic.gathering import Measurement
from maesh_core.controller.traffic.latency import read_count
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.turns import work_at_once, work_in_turns
from maesh_core.controller.traffic.wanted_metrics import HTTP_CONNECTIONS, Scope
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import NodeTraffic, ProxyTraffic

AddressT = TypeVar("AddressT")
AddressT_co = TypeVar("AddressT_co", covariant=True)
AddressT_contra = TypeVar("AddressT_contra", contravariant=True)

PROXIES_LIMIT = 500
"""Limit of proxies that are asked."""
CONCURRENCY = 8
"""Limit of concurrent requests, which limits the memory for answers."""
DEADLINE_S = 5.0
"""Limit of the time for all proxies."""
TIMEOUT_S = 2.0
LIMIT_BYTES = 32 * 1024 * 1024
"""The answer of a proxy with 2,000 busy services is 6 MB."""

NOT_PULLING = "the proxy has not pulled for more than a minute"
NOT_ASKED = f"not asked: only {PROXIES_LIMIT} proxies are; --prometheus measures more"
NO_TIME = f"not asked: the other proxies took {DEADLINE_S:g} s; --prometheus measures more"


class Registry(Protocol[AddressT_co]):
    """The proxies that pull, and the addresses of their admin ports."""

    def list_reports(self) -> Sequence[NodeReport]: ...  # noqa: D102

    def find_admin(self, name: str) -> AddressT_co | None: ...  # noqa: D102


class TrafficFetcher(Protocol[AddressT_contra]):
    """Sends requests to proxies."""

    async def fetch_traffic(self, address: AddressT_contra) -> ProxyTraffic:
        """Fetch what the proxy has counted; raises NodeUnreachableError."""

    async def close(self) -> None:
        """Close its connections."""


class ProxySource(Generic[AddressT]):
    """The proxies of this controller's registry."""

    __slots__ = ("_deadline_s", "_fetcher", "_registry")

    def __init__(
        self, registry: Registry[AddressT], fetcher: TrafficFetcher[AddressT], *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._registry = registry
        self._fetcher = fetcher
        self._deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"<ProxySource of {self._registry!r}>"

    async def measure(self, scope: Scope) -> Measurement:
        """Ask all proxies; raises nothing."""
        sums = TrafficSums(scope)
        reports = self._registry.list_reports()
        pulling = [each for each in reports if each.ready]
        errors = dict.fromkeys((each.name for each in reports), NOT_PULLING)
        errors |= {each.name: NO_TIME if index < PROXIES_LIMIT else NOT_ASKED for index, each in enumerate(pulling)}
        found = {
            each.name: NodeTraffic(name=each.name, revision=each.revision, error=errors[each.name]) for each in reports
        }
        waiting = iter(pulling[:PROXIES_LIMIT])

        async def ask_some() -> None:
            for report in waiting:
                await self._ask(report, sums, found)

        try:
            async with asyncio.timeout(self._deadline_s), asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(ask_some())
        except TimeoutError:
            pass  # those without an answer have their error already
        return Measurement(sums, tuple(found.values()))

    async def close(self) -> None:
        """Close the connections to proxies."""
        await self._fetcher.close()

    async def _ask(self, report: NodeReport, sums: TrafficSums, found: dict[str, NodeTraffic]) -> None:
        """Ask one proxy, and add its counts, all or none of them."""
        node = NodeTraffic(name=report.name, revision=report.revision)
        address = self._registry.find_admin(report.name)
        try:
            if address is None:
                raise NodeUnreachableError(NOT_PULLING)
            traffic = await self._fetcher.fetch_traffic(address)
        except NodeUnreachableError as error:
            found[report.name] = msgspec.structs.replace(node, error=str(error))
            return
        found[report.name] = msgspec.structs.replace(node, connections=count_clients(traffic))
        adding = sums.add(traffic)
        try:
            await work_in_turns(adding)
        finally:
            work_at_once(adding)  # the rest, if the deadline has come


def count_clients(traffic: ProxyTraffic) -> int:
    """Count the open HTTP connections of a proxy's clients."""
    family = next((each for each in traffic.now if each.name == HTTP_CONNECTIONS), None)
    found = [read_count(value) for labels, value in family.samples if labels == ("client",)] if family else []
    return (found[0] or 0) if found else 0
