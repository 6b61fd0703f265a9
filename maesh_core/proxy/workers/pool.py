"""The workers of a node: one per slot, each replaced when it ends unexpectedly.

Takes functions that start a process and that introduce a new worker (send it the configuration and its sockets).
Returns the joined workers, their reports and their counters. If no worker can start, the node ends; a worker that does
not respond is killed. It does not know configurations.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.errors import StartupError
from maesh_core.model.metrics import MetricFamily
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.workers.counters import NodeCounters
from maesh_core.proxy.workers.link import WorkerGoneError, WorkerLink, WorkerProcess
from maesh_core.proxy.workers.messages import Collect, Counted, Drain, Order, Report, Tapped

ANSWER_LIMIT_S = 30.0
"""A worker that does not respond for this long is killed. The largest configuration compiles in a few seconds."""
END_LIMIT_S = 1.0
"""The time for a worker to end after its channel was closed."""
WAITING_LIMIT_S = 1.0
"""The time for workers to report what their drain waits for."""
STEADY_S = 10.0
"""A worker that ran this long is replaced at once; others are replaced after growing pauses."""
COUNT_PAUSE_S = 1.0
COUNT_PAUSE_LIMIT_S = 30.0
COUNT_SHARE = 100
"""Counters are collected every COUNT_PAUSE_S, or less often if that would take more than a hundredth of the time."""

logger = logging.getLogger(__name__)

Spawn = Callable[[int], Awaitable[WorkerProcess]]
Introduce = Callable[[WorkerLink], Awaitable[None]]
"""Introduces a new worker, and joins it to the pool; raises WorkerGoneError, or ValueError with a reason."""


class WorkerPool:
    """The slots of a node. Create it in the event loop; run it once.

    `restarts` counts replaced workers. `started` is set once a worker could start, `has_joined` while a worker has the
    configuration. `has_been_full` means that all slots were filled at some time. `on_tapped` gets what workers report
    of taps.
    """

    __slots__ = (
        "_counters",
        "_introduce",
        "_is_ending",
        "_links",
        "_numbers",
        "_pause",
        "_spawn",
        "_time",
        "has_been_full",
        "has_joined",
        "on_tapped",
        "restarts",
        "size",
        "started",
    )

    def __init__(
        self,
        spawn: Spawn,
        introduce: Introduce,
        *,
        size: int,
        is_known_service: Callable[[str], bool] = lambda service: True,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = size
        self.restarts = 0
        self.on_tapped: Callable[[Tapped], None] = lambda report: None
        self.started = asyncio.Event()
        self.has_been_full = False
        self.has_joined = asyncio.Event()
        self._spawn = spawn
        self._introduce = introduce
        self._pause = pause
        self._time = clock
        self._is_ending = False
        self._numbers = itertools.count(1)
        self._links: dict[int, WorkerLink] = {}
        self._counters = NodeCounters(is_known_service)

    def __repr__(self) -> str:
        """Show the number of workers."""
        return f"<WorkerPool {len(self.joined)} of {self.size}, {self.restarts} restarts>"

    @property
    def joined(self) -> Sequence[WorkerLink]:
        """The workers that receive changes, by slot."""
        return [link for _, link in sorted(self._links.items()) if link.is_joined]

    def join(self, link: WorkerLink) -> None:
        """Send all later changes to a worker."""
        link.is_joined = True
        self.has_joined.set()
        self.has_been_full = self.has_been_full or len(self.joined) == self.size

    async def run(self) -> None:
        """Keep every slot filled until the pool is drained or cancelled. Raises StartupError."""
        slots = [asyncio.create_task(self._keep_slot(slot)) for slot in range(self.size)]
        try:
            done, _ = await asyncio.wait(slots, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            await _end_all(slots)

    async def ask(self, link: WorkerLink, order: Order, *, payload: bytes = b"", sockets: Sequence[Any] = ()) -> Report:
        """Send an order and wait for its report; kill a worker that does not report in time. Raises WorkerGoneError."""
        order = msgspec.structs.replace(order, number=next(self._numbers))
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await link.ask(order, payload=payload, sockets=sockets)
        except TimeoutError as error:
            link.kill(f"it did not answer for {ANSWER_LIMIT_S:g} s")
            raise WorkerGoneError(f"worker {link.slot} did not answer") from error

    async def ask_all(self, order: Order, *, payload: bytes = b"") -> dict[WorkerLink, Report]:
        """Send an order to all joined workers; those that end before they report are left out."""
        links = self.joined
        answers = await asyncio.gather(
            *(self.ask(link, order, payload=payload) for link in links), return_exceptions=True
        )
        found = {}
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, WorkerGoneError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            found[link] = answer
        return found

    async def ask_in_time(self, order: Order, timeout_s: float) -> list[Report | None]:
        """Send an order to all joined workers; None for each that has not reported after `timeout_s`, or has ended."""

        async def ask(link: WorkerLink) -> Report | None:
            try:
                async with asyncio.timeout(timeout_s):
                    return await self.ask(link, order)
            except (TimeoutError, WorkerGoneError):
                return None

        return list(await asyncio.gather(*map(ask, self.joined)))

    async def collect(self, timeout_s: float) -> None:
        """Ask all workers for their counters; keep the last counters of those that do not report in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.ask_all(Collect())

    def send_signal(self, number: int) -> None:
        """Send a signal to all joined workers; others have not set up what it concerns."""
        for link in self.joined:
            link.send_signal(number)

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the sum of all workers' last counters, including workers that have ended."""
        return self._counters.sum_up()

    async def drain(
        self,
        force: Awaitable[object],
        limit_s: float,
        *,
        on_waiting: Callable[[Mapping[str, int]], None] = lambda waiting: None,
    ) -> None:
        """Let every worker finish its connections and end; abort after `limit_s`, or when `force` completes.

        If this takes any time, `on_waiting` is called once with the number of connections by protocol.
        """
        self._is_ending = True
        drained = [link for link in self._links.values() if link.is_joined]
        for link in list(self._links.values()):
            if link.is_joined:
                link.send(Drain())
            else:
                link.kill("it was not needed any more")
        cut = asyncio.ensure_future(force)
        ended = asyncio.ensure_future(self._wait_ended())
        reporting = asyncio.ensure_future(_report_waiting(drained, on_waiting))
        try:
            await asyncio.wait([cut, ended], timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (cut, ended, reporting):
                task.cancel()
        await self.close()

    async def close(self) -> None:
        """End every worker, by SIGKILL if necessary, and wait until they have ended."""
        self._is_ending = True
        links = list(self._links.values())
        for link in links:
            link.close_channel()
        if links:
            await asyncio.wait([link.ended for link in links], timeout=END_LIMIT_S)
        for link in links:
            if not link.ended.done():
                link.kill("it did not end")
        await self._wait_ended()

    async def _wait_ended(self) -> None:
        links = list(self._links.values())
        if links:
            await asyncio.wait([link.ended for link in links])

    async def _keep_slot(self, slot: int) -> None:
        backoff = Backoff()
        while True:
            started_s = self._time()
            failure = await self._run_worker(slot)
            if self._is_ending:
                return
            logger.error("replacing worker %d: %s", slot, failure)
            self.restarts += 1
            if self._time() - started_s >= STEADY_S:
                backoff.reset()
            else:
                await self._pause(backoff.next())

    async def _run_worker(self, slot: int) -> str:
        """Start a worker and wait for its end; return why it ended. Raises StartupError if no worker can start."""
        try:
            process = await self._spawn(slot)
            link = WorkerLink(
                slot, process, on_counted=self._note_counts, on_tapped=lambda report: self.on_tapped(report)
            )
        except OSError as error:
            return self._check_end(f"it cannot be started: {error.strerror or error}")
        self._links[slot] = link
        if self._is_ending:  # it was started while the pool was closing
            link.kill("the node ends")
        try:
            await self._supervise(link)
        finally:
            if not link.ended.done():
                link.kill("the node ends")
                await asyncio.wait([link.ended])
            self._remove(link)
        return self._check_end(link.describe_end(), refusal=link.refusal)

    def _check_end(self, failure: str, *, refusal: str = "") -> str:
        if not self.started.is_set() and not self._is_ending:
            raise StartupError(refusal or f"no worker could start: {failure}")
        return failure

    async def _supervise(self, link: WorkerLink) -> None:
        """Manage a worker from its start to its end."""
        if not await _is_first(link.started, link.ended, ANSWER_LIMIT_S):
            if not link.ended.done():
                link.kill("it did not start")
                await asyncio.wait([link.ended])
            return
        self.started.set()
        try:
            await self._introduce(link)
        except WorkerGoneError:
            await asyncio.wait([link.ended])
            return
        except ValueError as error:
            link.kill(str(error))
        else:
            if self.restarts and link.is_joined:
                logger.warning("worker %d routes traffic again", link.slot)
        watching = asyncio.create_task(self._watch(link))
        try:
            await asyncio.wait([link.ended])
        finally:
            await _end_all([watching])

    async def _watch(self, link: WorkerLink) -> None:
        """Collect a worker's counters regularly, which also detects whether it responds."""
        with contextlib.suppress(WorkerGoneError):
            while True:
                started_s = self._time()
                await self.ask(link, Collect())
                pause_s = max(COUNT_PAUSE_S, COUNT_SHARE * (self._time() - started_s))
                await asyncio.sleep(min(pause_s, COUNT_PAUSE_LIMIT_S))

    def _note_counts(self, link: WorkerLink, report: Counted) -> None:
        if self._links.get(link.slot) is link:
            self._counters.report(link, report.families)

    def _remove(self, link: WorkerLink) -> None:
        if self._links.get(link.slot) is link:
            del self._links[link.slot]
        if not any(each.is_joined for each in self._links.values()):
            self.has_joined.clear()
        self._counters.retire(link)


async def _report_waiting(links: Sequence[WorkerLink], tell: Callable[[Mapping[str, int]], None]) -> None:
    """Call `tell` with the sum of the workers' waiting connections, unless it is 0; skip workers that are late."""
    if not links:
        return
    done, _ = await asyncio.wait([link.waiting for link in links], timeout=WAITING_LIMIT_S)
    total: Counter[str] = Counter()
    for each in done:
        total.update(each.result())
    if total.total():
        tell(total)


async def _is_first(wanted: "asyncio.Future[None]", other: "asyncio.Future[Any]", timeout_s: float) -> bool:
    await asyncio.wait([wanted, other], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return wanted.done()


async def _end_all(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
