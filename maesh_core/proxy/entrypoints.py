"""The open entrypoints: those that routers name, no others, each served by its protocol's handler.

Takes what is wanted, again with every configuration. One that cannot be opened harms only the routers that name it,
and is tried again; only at the first configuration it stops the start. It reads no configuration itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from maesh_core.errors import StartupError
from maesh_core.hookspecs import ProtocolHandler
from maesh_core.proxy.backoff import Backoff
from maesh_core.proxy.listening import Listening, close_listening, open_listening
from maesh_core.proxy.routing.configuration import WantedEntrypoint
from maesh_core.proxy.sockets import describe_address, describe_reason

logger = logging.getLogger(__name__)


class Entrypoints:
    """Opens and closes entrypoints. `closed` tells those that are wanted and not open, with why."""

    __slots__ = ("_backoff", "_bind", "_closed", "_handlers", "_has_failed", "_lock", "_opened", "_pause", "_wanted")

    def __init__(
        self,
        handlers: Mapping[str, ProtocolHandler],
        *,
        bind: str,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._handlers = handlers
        self._bind = bind
        self._backoff = backoff or Backoff()
        self._pause = pause
        self._lock = asyncio.Lock()
        self._has_failed = asyncio.Event()
        self._wanted: frozenset[WantedEntrypoint] = frozenset()
        self._opened: dict[WantedEntrypoint, Listening] = {}
        self._closed: dict[WantedEntrypoint, str] = {}

    def __repr__(self) -> str:
        """Show what is open."""
        ports = ", ".join(f"{each.transport} {each.port}" for each in sorted(self._opened))
        return f"<Entrypoints {ports or 'none'}; {len(self._closed)} closed>"

    @property
    def closed(self) -> Mapping[WantedEntrypoint, str]:
        """What is wanted and not open, and why."""
        return self._closed

    @property
    def opened(self) -> frozenset[WantedEntrypoint]:
        """What is open."""
        return frozenset(self._opened)

    async def apply(self, wanted: frozenset[WantedEntrypoint], *, is_first: bool = False) -> None:
        """Close what is not wanted any more and open what is new.

        When `is_first`, an entrypoint that cannot be opened raises StartupError.
        """
        if wanted == self._wanted:
            return
        async with self._lock:
            self._wanted = wanted
            await self._settle(is_first=is_first)

    async def run(self) -> None:
        """Try again, until cancelled, what could not be opened."""
        while True:
            await self._has_failed.wait()
            await self._pause(self._backoff.next_delay_s())
            async with self._lock:
                self._has_failed.clear()
                await self._settle()
            if not self._has_failed.is_set():
                self._backoff.reset()

    async def close(self) -> None:
        """Stop accepting everywhere; what was accepted goes on."""
        await self.apply(frozenset())

    async def _settle(self, *, is_first: bool = False) -> None:
        """Make what is open be what is wanted, as far as it can be; log what newly cannot."""
        known = self._closed
        served, self._closed = _settle_claims(self._wanted)
        await close_listening([self._opened.pop(each) for each in self._opened.keys() - served])
        for entrypoint in sorted(served - self._opened.keys()):
            try:
                self._opened[entrypoint] = await self._open(entrypoint)
            except OSError as error:
                text = self._describe_failure(entrypoint, error)
                if is_first:
                    raise StartupError(text) from error
                self._closed[entrypoint] = text
                self._has_failed.set()
        for entrypoint, text in self._closed.items():
            if known.get(entrypoint) != text:
                logger.error("entrypoint %d is closed: %s", entrypoint.port, text)

    def _describe_failure(self, entrypoint: WantedEntrypoint, error: OSError) -> str:
        address = describe_address(self._bind, entrypoint.port)
        return f"cannot listen on {address} ({entrypoint.transport}): {describe_reason(error)}"

    async def _open(self, entrypoint: WantedEntrypoint) -> Listening:
        return await open_listening(self._handlers[entrypoint.protocol], self._bind, entrypoint.port)


def _settle_claims(
    wanted: Iterable[WantedEntrypoint],
) -> tuple[set[WantedEntrypoint], dict[WantedEntrypoint, str]]:
    """Give each port to one protocol, the first by name; say to the others why they do not get it."""
    owners: dict[tuple[str, int], WantedEntrypoint] = {}
    losers = {}
    for entrypoint in sorted(wanted):
        owner = owners.setdefault((entrypoint.transport, entrypoint.port), entrypoint)
        if owner is not entrypoint:
            losers[entrypoint] = f"{entrypoint.transport} port {entrypoint.port} belongs to protocol {owner.protocol}"
    return set(owners.values()), losers
