"""Gathers the denials of all proxies for `/api/acl/denials`, and names the accounts of the clients.

Takes the reports of workers, which are untrusted: whatever is not a valid entry is left out, and the number and the
size of entries are limited. What a worker had reported still counts when it has ended (keeping.py). An address names an
account only if all pods that have it run as that account, and if all of them existed when the first request came: an
address is given to another pod when one has ended.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from maesh_acl.denials.keeping import KeptDenials, NamedDenial
from maesh_acl.denials.report import (
    REPORT_NAME,
    REPORT_PATH,
    TARGETS_LIMIT,
    ClientAccount,
    CountedDenial,
    Denial,
    DenialKey,
    DenialReport,
    ReportingNode,
    WorkerReport,
)
from maesh_core.plugin import PageRequest, PageResponse, Pod, ProxyReport

ENTRIES_LIMIT: Final = 20_000
"""Limit of entries of all proxies together; those that were used last are kept."""
TEXT_LIMIT: Final = 1024
"""Characters of any text of an entry."""
DESTINATIONS_LIMIT: Final = 64
COUNT_LIMIT: Final = 2**53
"""Limit of the count of an entry. JSON numbers are exact up to here, and no worker counts this far."""
CLOCK_SKEW_S: Final = 3600.0
"""Entries of a proxy whose clock is further ahead are left out."""
ANSWER_S: Final = 1.0
"""How long an answer is reused for further requests."""
KEEP_EVERY_S: Final = 30.0
"""Period of the questions without a request. What a proxy records after the last one is lost when it ends."""
KEEP_PAUSES: Final = 20.0
"""The pause is at least this many times as long as the questions took, which bounds what they cost."""

_DECODER = msgspec.json.Decoder(WorkerReport)


class Controller(Protocol):
    """The part of `ControllerNode` that is used."""

    async def gather_reports(self, name: str, add: Callable[[ProxyReport], None]) -> bool: ...  # noqa: D102

    def find_pods(self, address: str) -> Sequence[Pod]: ...  # noqa: D102


class _Sum:
    """The sum of equal denials of one account, or of one address that identifies none."""

    __slots__ = ("address", "count", "first", "last")

    def __init__(self, address: str) -> None:
        self.address = address
        self.count = 0
        self.first = float("inf")
        self.last = 0.0

    def __repr__(self) -> str:
        return f"<_Sum {self.count}>"

    def add(self, found: NamedDenial) -> None:
        """Add the denials of an address."""
        self.count += found.count
        self.first = min(self.first, found.first)
        if found.last >= self.last:
            self.last, self.address = found.last, found.address


class DenialGathering:
    """One round of questions to all proxies. `kept` is what former rounds have found, and keeps what this one finds."""

    __slots__ = (
        "_accounts",
        "_answered",
        "_find_pods",
        "_is_complete",
        "_kept",
        "_kept_since",
        "_nodes",
        "_now",
        "_sums",
    )

    def __init__(self, find_pods: Callable[[str], Sequence[Pod]], now: float, kept: KeptDenials) -> None:
        self._find_pods = find_pods
        self._kept = kept
        self._kept_since = math.inf
        self._answered: set[tuple[str, float]] = set()
        self._now = now
        self._accounts: dict[str, tuple[ClientAccount, float] | None] = {}
        """The account that an address identifies, and since when."""
        self._sums: dict[tuple[ClientAccount | str, DenialKey], _Sum] = {}
        self._nodes: dict[str, tuple[float | None, str]] = {}
        self._is_complete = True

    def __repr__(self) -> str:
        return f"<DenialGathering {len(self._sums)} entries of {len(self._nodes)} nodes>"

    def add(self, report: ProxyReport) -> None:
        """Add the report of a proxy."""
        since: list[float] = []
        error = report.error
        for body in report.workers:
            try:
                found = _DECODER.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                error = "its report is not valid"
                continue
            if not 0 <= found.since <= self._now + CLOCK_SKEW_S:
                error = "its report is not valid"
                continue
            since.append(found.since)
            self._is_complete = self._is_complete and not found.forgotten
            self._add_worker(report.name, found)
        if error or not report.is_complete or not since:
            self._is_complete = False
        self._nodes[report.name] = (max(since, default=None), error)

    def build(self, *, is_complete: bool) -> DenialReport:
        """Build the report; `is_complete` says whether all proxies were asked."""
        kept = sorted(self._sums.items(), key=lambda item: -item[1].last)[:ENTRIES_LIMIT]
        denials = [_build_denial(client, key, total) for (client, key), total in kept]
        denials.sort(key=lambda each: (each.service, each.mode, -each.count, each.path, each.method, each.address))
        starts = [since for since, _ in self._nodes.values() if since is not None]
        return DenialReport(
            since=_render_time(max(starts)) if starts else "",
            kept_since="" if self._kept_since == math.inf else _render_time(self._kept_since),
            complete=is_complete and self._is_complete and len(kept) == len(self._sums),
            denials=tuple(denials),
            nodes=tuple(
                ReportingNode(name=name, since="" if since is None else _render_time(since), error=error)
                for name, (since, error) in sorted(self._nodes.items())
            ),
        )

    def _add_worker(self, proxy: str, report: WorkerReport) -> None:
        valid = [each for each in report.denials if _is_valid(each, self._now)]
        self._is_complete = self._is_complete and len(valid) == len(report.denials)
        named = self._recall_accounts(proxy, report.since, [self._name_client(each) for each in valid])
        for each in named:
            self._add_denial(each)
        self._kept.replace(proxy, report.since, named)
        self._answered.add((proxy, report.since))

    def _recall_accounts(self, proxy: str, since: float, named: Sequence[NamedDenial]) -> Sequence[NamedDenial]:
        """Name the clients whose pods have ended as before, if they have sent nothing since then."""
        if not any(isinstance(each.client, str) for each in named):
            return named
        before = {(each.address, each.key): each for each in self._kept.find(proxy, since)}
        return [_recall_account(each, before.get((each.address, each.key))) for each in named]

    def _name_client(self, found: CountedDenial) -> NamedDenial:
        address = found.key.client.removeprefix("::ffff:")
        client = self._find_client(address, found.first) or address
        key = msgspec.structs.replace(found.key, client="")
        return NamedDenial(client, address, key, found.count, found.first, found.last)

    def _add_denial(self, found: NamedDenial) -> None:
        place = (found.client, found.key)
        total = self._sums.get(place)
        if total is None:
            if len(self._sums) >= 2 * ENTRIES_LIMIT:  # the report shows the latest half
                self._is_complete = False
                return
            total = self._sums[place] = _Sum(found.address)
        total.add(found)

    def add_kept(self) -> Generator[None, None, None]:
        """Add what workers had reported that have not answered, after `add`; pauses after each of them."""
        self._kept.expire(self._now)
        for since, denials in self._kept.list_missing(self._answered):
            self._kept_since = min(since, self._kept_since)
            for denial in denials:
                self._add_denial(denial)
            yield

    def _find_client(self, address: str, first: float) -> ClientAccount | None:
        if address not in self._accounts:
            self._accounts[address] = _find_account(self._find_pods(address))
        found = self._accounts[address]
        return found[0] if found is not None and found[1] <= first else None


class DenialPage:
    """The page `/api/acl/denials`. Its report is built at most once a second.

    It is also a service of the controller that asks all proxies regularly, so that what they report is kept.
    """

    name = "acl-denials"

    path = REPORT_PATH
    is_costly = True

    def __init__(
        self,
        controller: Controller,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._controller = controller
        self._clock = clock
        self._wall_clock = wall_clock
        self._pause = pause
        self._kept = KeptDenials()
        self._task: asyncio.Task[DenialReport] | None = None
        self._fresh_until = 0.0

    def __repr__(self) -> str:
        return f"<DenialPage {self.path}>"

    async def run(self) -> None:
        """Ask all proxies every `KEEP_EVERY_S`, or less often if that takes long."""
        while True:
            begin = self._clock()
            await self.build_report()
            await self._pause(max(KEEP_EVERY_S, KEEP_PAUSES * (self._clock() - begin)))

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer with the report as JSON."""
        report = await self.build_report()
        return PageResponse(
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
            body=msgspec.json.encode(report),
        )

    async def build_report(self) -> DenialReport:
        """Return the report of this moment, or of at most a second ago."""
        task = self._task
        if task is None or (task.done() and self._clock() >= self._fresh_until):
            task = self._task = asyncio.create_task(self._gather())
        return await asyncio.shield(task)

    async def _gather(self) -> DenialReport:
        try:
            gathering = DenialGathering(self._controller.find_pods, self._wall_clock(), self._kept)
            is_complete = await self._controller.gather_reports(REPORT_NAME, gathering.add)
            for _ in gathering.add_kept():
                await asyncio.sleep(0)
            return gathering.build(is_complete=is_complete)
        finally:
            self._fresh_until = self._clock() + ANSWER_S


def _recall_account(found: NamedDenial, before: NamedDenial | None) -> NamedDenial:
    """Return a denial with the account that it had, if it has none now and nothing was counted since."""
    if before is None or isinstance(found.client, ClientAccount) or found.count != before.count:
        return found
    return before


def _find_account(pods: Sequence[Pod]) -> tuple[ClientAccount, float] | None:
    """Find the account of the pods that have an address, and when the latest of them started."""
    accounts = {
        ClientAccount(namespace=pod.metadata.namespace, service_account=pod.spec.service_account_name) for pod in pods
    }
    if len(accounts) != 1 or any(pod.spec.host_network for pod in pods):
        return None
    return accounts.pop(), max(_parse_time(pod.status.start_time) for pod in pods)


def _is_valid(found: CountedDenial, now: float) -> bool:
    """Whether an entry can be one: its texts are short, its numbers are possible."""
    key = found.key
    texts = (key.service, key.client, key.traffic_type, key.route, key.method, key.path)
    if max(map(len, (*texts, *key.destinations, *key.traffic_targets))) > TEXT_LIMIT:
        return False
    if len(key.destinations) > DESTINATIONS_LIMIT or len(key.traffic_targets) > TARGETS_LIMIT:
        return False
    return 0 < found.count <= COUNT_LIMIT and 0 <= found.first <= found.last <= now + CLOCK_SKEW_S


def _build_denial(client: ClientAccount | str, key: DenialKey, total: _Sum) -> Denial:
    return Denial(
        mode=key.mode,
        service=key.service,
        destinations=key.destinations,
        client=client if isinstance(client, ClientAccount) else None,
        address=total.address,
        traffic_type=key.traffic_type,
        method=key.method,
        path=key.path,
        is_path_cut=key.is_path_cut,
        route=key.route,
        reason=key.reason,
        traffic_targets=key.traffic_targets,
        count=total.count,
        first=_render_time(total.first),
        last=_render_time(total.last),
    )


def _render_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse_time(text: str) -> float:
    """Parse an RFC 3339 time; 0 if there is none, as in manifests."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
