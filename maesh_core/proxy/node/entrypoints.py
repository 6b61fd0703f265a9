"""The open entrypoints of a node: exactly those that routers name, with one socket per worker.

Takes the wanted entrypoints with every configuration, binds them and sends the sockets to the workers. An entrypoint
that cannot be opened affects only the routers that name it, and is retried; only with the first configuration it stops
the start. The parent keeps the sockets of every slot: when a worker ends, waiting connections are not lost.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from maesh_core.errors import StartupError
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.network.sockets import describe_address, describe_reason, open_socket_group
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.workers.link import WorkerGoneError, WorkerLink
from maesh_core.proxy.workers.messages import Failed, Listen, Order, Report, Unlisten

logger = logging.getLogger(__name__)

_Group = list[list[socket.socket]]


class Workers(Protocol):
    """The workers that serve the entrypoints."""

    size: int

    @property
    def joined(self) -> Sequence[WorkerLink]:
        """The workers that receive changes."""

    def join(self, link: WorkerLink) -> None:
        """Send all later changes to a worker."""

    async def ask(self, link: WorkerLink, order: Order, *, sockets: Sequence[socket.socket] = ()) -> Report:
        """Send an order and wait for its report; raises WorkerGoneError."""

    async def ask_all(self, order: Order) -> Mapping[WorkerLink, Report]:
        """Send an order to all joined workers; those that have ended are left out."""


class Entrypoints:
    """Opens and closes entrypoints. `closed` maps wanted entrypoints that are not open to the reason."""

    __slots__ = ("_backoff", "_bind", "_closed", "_has_failed", "_lock", "_opened", "_pause", "_wanted", "_workers")

    def __init__(
        self,
        workers: Workers,
        *,
        bind: str,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._workers = workers
        self._bind = bind
        self._backoff = backoff or Backoff()
        self._pause = pause
        self._lock = asyncio.Lock()
        self._has_failed = asyncio.Event()
        self._wanted: frozenset[WantedEntrypoint] = frozenset()
        self._opened: dict[WantedEntrypoint, _Group] = {}
        self._closed: dict[WantedEntrypoint, str] = {}

    def __repr__(self) -> str:
        """Show the open entrypoints."""
        ports = ", ".join(f"{each.transport} {each.port}" for each in sorted(self._opened))
        return f"<Entrypoints {ports or 'none'}; {len(self._closed)} closed>"

    @property
    def closed(self) -> Mapping[WantedEntrypoint, str]:
        """The entrypoints that are wanted but not open, with the reason."""
        return self._closed

    @property
    def opened(self) -> frozenset[WantedEntrypoint]:
        """The open entrypoints."""
        return frozenset(self._opened)

    async def apply(self, wanted: frozenset[WantedEntrypoint], *, is_first: bool = False) -> None:
        """Close entrypoints that are no longer wanted, and open new ones.

        If `is_first`, an entrypoint that cannot be opened raises StartupError.
        """
        if wanted == self._wanted:
            return
        async with self._lock:
            self._wanted = wanted
            await self._reconcile(is_first=is_first)

    async def hand_over(self, link: WorkerLink) -> None:
        """Send a new worker the sockets of its slot, and join it to the pool; raises as `Introduce` does."""
        async with self._lock:
            for entrypoint, group in self._opened.items():
                report = await self._workers.ask(link, Listen(entrypoint=entrypoint), sockets=group[link.slot])
                if isinstance(report, Failed):
                    raise ValueError(
                        f"it cannot listen on {entrypoint.transport} port {entrypoint.port}: {report.text}"
                    )
            self._workers.join(link)

    async def run(self) -> None:
        """Retry entrypoints that could not be opened, until cancelled."""
        while True:
            await self._has_failed.wait()
            await self._pause(self._backoff.next())
            async with self._lock:
                self._has_failed.clear()
                await self._reconcile()
            if not self._has_failed.is_set():
                self._backoff.reset()

    def release(self) -> None:
        """Close the parent's copies of all sockets: only the workers hold them then, and decide when to close them."""
        for group in self._opened.values():
            _close_group(group)
        self._opened.clear()

    async def _reconcile(self, *, is_first: bool = False) -> None:
        """Open and close entrypoints to match the wanted ones; log new failures."""
        known = self._closed
        served, self._closed = _assign_ports(self._wanted)
        await asyncio.gather(*(self._close(each) for each in self._opened.keys() - served))
        for entrypoint in sorted(served - self._opened.keys()):
            text = await self._open(entrypoint)
            if text and is_first:
                raise StartupError(text)
            if text:
                self._closed[entrypoint] = text
                self._has_failed.set()
        for entrypoint, text in self._closed.items():
            if known.get(entrypoint) != text:
                logger.error("entrypoint %d is closed: %s", entrypoint.port, text)
        for entrypoint in known.keys() & self._opened.keys():
            logger.warning("entrypoint %d is open now", entrypoint.port)

    async def _open(self, entrypoint: WantedEntrypoint) -> str:
        """Bind an entrypoint and let every worker serve it; return the reason if that fails, else an empty text."""
        try:
            group = open_socket_group(entrypoint.transport, self._bind, entrypoint.port, size=self._workers.size)
        except OSError as error:
            return self._describe_failure(entrypoint, describe_reason(error))
        self._opened[entrypoint] = group
        answers = await asyncio.gather(
            *(
                self._workers.ask(link, Listen(entrypoint=entrypoint), sockets=group[link.slot])
                for link in self._workers.joined
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, Failed):
                await self._close(entrypoint)
                return self._describe_failure(entrypoint, answer.text)
            if isinstance(answer, BaseException) and not isinstance(answer, WorkerGoneError):
                raise answer
        return ""

    async def _close(self, entrypoint: WantedEntrypoint) -> None:
        """Close an entrypoint's sockets, and let every worker accept waiting clients before it closes its own."""
        _close_group(self._opened.pop(entrypoint))
        await self._workers.ask_all(Unlisten(entrypoint=entrypoint))

    def _describe_failure(self, entrypoint: WantedEntrypoint, reason: str) -> str:
        return f"cannot listen on {describe_address(self._bind, entrypoint.port)} ({entrypoint.transport}): {reason}"


def _close_group(group: _Group) -> None:
    for sockets in group:
        for sock in sockets:
            sock.close()


def _assign_ports(
    wanted: Iterable[WantedEntrypoint],
) -> tuple[set[WantedEntrypoint], dict[WantedEntrypoint, str]]:
    """Assign each port to one protocol, the first by name; return the reason for each of the others."""
    owners: dict[tuple[str, int], WantedEntrypoint] = {}
    losers = {}
    for entrypoint in sorted(wanted):
        owner = owners.setdefault((entrypoint.transport, entrypoint.port), entrypoint)
        if owner is not entrypoint:
            losers[entrypoint] = f"{entrypoint.transport} port {entrypoint.port} belongs to protocol {owner.protocol}"
    return set(owners.values()), losers
