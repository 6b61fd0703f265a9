"""Finds all proxies of the mesh: those that pull from this controller, and those that pull from the other controllers.

Asks the other controllers for the proxies that they know (`/api/status/nodes`), at most once a second. This question
makes none of them ask others, so no loop is possible. A controller that does not answer is reported. What proxies said
of themselves is untrusted: invented names cannot displace those of the cluster's proxies.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from maesh_core.controller.mesh_proxies.mesh_pods import Peer
from maesh_core.controller.recent_result import RecentResult
from maesh_core.controller.turns import work_in_turns
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.addresses import parse_address
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import MissingController

PEERS_LIMIT: Final = 20
"""Limit of controllers that are asked; the chart starts two."""
LISTED_LIMIT: Final = 10_000
"""Limit of proxies that are reported, as in one registry: two for each of the largest cluster's 5,000 nodes."""
STEP: Final = 1_000
"""Proxies that are compared without a pause, which takes a few milliseconds."""
PEER_NOT_ASKED: Final = f"not asked: only {PEERS_LIMIT} controllers are"
"""The error of a controller above the limit."""
NOT_PULLING: Final = "the proxy has not pulled for more than a minute"
"""The error of a proxy that is not active, and is therefore not asked."""


class KnownProxies(msgspec.Struct, frozen=True):
    """The proxies in the order in which they are asked, and the controllers that did not answer.

    `reports` has everything that controllers know, also several reports of one name.
    """

    proxies: tuple[NodeReport, ...]
    missing: tuple[MissingController, ...] = ()
    reports: tuple[NodeReport, ...] = ()


class Registry(Protocol):
    """The proxies that pull from this controller."""

    def list_reports(self) -> Sequence[NodeReport]: ...  # noqa: D102


class Pods(Protocol):
    """The pods of the mesh in the cluster."""

    def list_peers(self) -> Sequence[Peer]: ...  # noqa: D102

    def list_proxy_addresses(self) -> frozenset[str]: ...  # noqa: D102


class PeerFetcher(Protocol):
    """Sends requests to controllers."""

    async def fetch_reports(self, peer: Peer) -> Sequence[NodeReport]:
        """Fetch the proxies that pull from a controller; raises NodeUnreachableError."""

    async def close(self) -> None:
        """Close its connections."""


class Finder(Protocol):
    """What users of a finder depend on."""

    async def find(self) -> KnownProxies:
        """Find all proxies, in the order in which they are asked. Raises nothing."""


class ProxyFinder:
    """Finds the proxies of one mesh. Close it when done.

    Without `pods` there is no cluster, and this controller is the only one.
    """

    __slots__ = ("_fetcher", "_found", "_pods", "_registry")

    def __init__(
        self,
        registry: Registry,
        fetcher: PeerFetcher,
        pods: Pods | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._fetcher = fetcher
        self._pods = pods
        self._found = RecentResult(self._find, clock=clock)

    def __repr__(self) -> str:
        return f"<ProxyFinder {self._pods!r}>"

    async def find(self) -> KnownProxies:
        """Find all proxies; asks the other controllers, unless this was done within the last second. Raises nothing."""
        return await self._found.get()

    async def close(self) -> None:
        """End the questions to controllers, and close the connections to them."""
        await self._found.close()
        await self._fetcher.close()

    async def _find(self) -> KnownProxies:
        peers = self._pods.list_peers() if self._pods else ()
        answers = await asyncio.gather(*(self._ask(peer) for peer in peers[:PEERS_LIMIT]))
        missing = [each for each in answers if isinstance(each, MissingController)]
        missing += [MissingController(name=peer.name, error=PEER_NOT_ASKED) for peer in peers[PEERS_LIMIT:]]
        found = [each for each in answers if not isinstance(each, MissingController)]
        addresses = self._pods.list_proxy_addresses() if self._pods else frozenset()
        known = [self._registry.list_reports(), *found]
        proxies = await work_in_turns(order_proxies(known, addresses))
        return KnownProxies(proxies, tuple(missing), tuple(report for reports in known for report in reports))

    async def _ask(self, peer: Peer) -> Sequence[NodeReport] | MissingController:
        try:
            return await self._fetcher.fetch_reports(peer)
        except NodeUnreachableError as error:
            return MissingController(name=peer.name, error=str(error))


def order_proxies(
    registries: Iterable[Sequence[NodeReport]], addresses: frozenset[str]
) -> Generator[None, None, tuple[NodeReport, ...]]:
    """Merge the reports of several controllers; order the proxies so that the cluster's own are asked first.

    Of two reports with one name, that with an address of the cluster's proxies counts, otherwise the latest ready one.
    Further proxies follow by address in turns, so that one client with many names does not delay others.
    """
    found: dict[str, tuple[bool, bool, str, NodeReport]] = {}
    for reports in registries:
        for number, report in enumerate(reports, 1):
            if number % STEP == 0:
                yield
            entry = (parse_address(report.ip) in addresses, report.is_active, report.last_seen, report)
            known = found.get(report.name)
            if known is None or known[:3] < entry[:3]:
                found[report.name] = entry
    yield
    counts: defaultdict[str, int] = defaultdict(int)
    ranked: list[tuple[bool, bool, int, str, NodeReport]] = []
    for number, name in enumerate(sorted(found), 1):
        if number % STEP == 0:
            yield
        is_own, is_alive, _, report = found[name]
        turn = counts[report.ip]
        counts[report.ip] += is_alive
        ranked.append((not is_own, not is_alive, turn, name, report))
    ranked.sort(key=lambda each: each[:4])
    return tuple(report for *_, report in ranked[:LISTED_LIMIT])
