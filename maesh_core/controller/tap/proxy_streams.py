"""The streams of one tap: follows the proxies of the mesh, and says once what is missing.

Takes the lists of a finder; hands lines to a viewer without reading them. A stream that sends lines goes on, whichever
controller its proxy pulls from. No name and no address has two streams, so no record arrives twice. If connections are
few, the proxies that the finder lists first are followed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, Protocol

import msgspec

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING, Finder, KnownProxies
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.addresses import parse_address
from maesh_core.model.messages import NodeReport
from maesh_core.model.tap import TapError

REFRESH_S: Final = 5.0
"""Interval for finding proxies, and for asking those again that could not be reached."""
NOT_ASKED: Final = "not asked: the controller has too many connections to proxies for taps"


class TapClient(Protocol):
    """Asks proxies for their taps, over at most `connections_limit` connections."""

    connections_limit: int

    def follow(self, proxy: NodeReport, query: str) -> AsyncIterator[bytes]:
        """Yield the lines of a proxy's tap, without line feeds. Never ends but raises NodeUnreachableError."""

    async def close(self) -> None:
        """Close its connections."""


class Viewer(Protocol):
    """Receives what the streams have."""

    def on_line(self, name: str, line: bytes) -> None:
        """Process a line of the proxy of this name; the line is untrusted."""

    def on_missing(self, error: TapError) -> None:
        """Say that records are missing."""


_Address = tuple[str, int | str]
"""The address of an admin port; with the proxy's name instead of a port that is not known."""


class _Stream(msgspec.Struct, frozen=True):
    """The stream of a proxy, with the address that it comes from."""

    address: _Address
    task: "asyncio.Task[None]"


class ProxyStreams:
    """The streams of one tap, by the name of the proxy. `count_spare` returns how many connections are left."""

    __slots__ = ("_client", "_count_spare", "_noted", "_query", "_streams", "_viewer")

    def __init__(self, client: TapClient, query: str, viewer: Viewer, *, count_spare: Callable[[], int]) -> None:
        self._client = client
        self._query = query
        self._viewer = viewer
        self._count_spare = count_spare
        self._streams: dict[str, _Stream] = {}
        self._noted: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return f"<ProxyStreams of {len(self._streams)} proxies>"

    def __len__(self) -> int:
        return len(self._streams)

    async def run(self, finder: Finder) -> None:
        """Follow all proxies until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._update(await finder.find(), group)
                await asyncio.sleep(REFRESH_S)

    def _update(self, known: KnownProxies, group: asyncio.TaskGroup) -> None:
        limit = len(self._streams) + self._count_spare()
        chosen = self._choose(known, limit)
        self._leave_some(chosen, limit)
        for proxy in chosen.values():
            if proxy.name not in self._streams:
                task = group.create_task(self._follow(proxy))
                self._streams[proxy.name] = _Stream(_find_address(proxy), task)
        self._note_missing(known)

    def _choose(self, known: KnownProxies, limit: int) -> dict[str, NodeReport]:
        """Choose active proxies; several names with one address are one proxy, which may have been started again."""
        names = {stream.address: name for name, stream in self._streams.items()}
        chosen: dict[str, NodeReport] = {}
        for proxy in known.proxies:
            if len(chosen) == limit:
                break
            if proxy.is_active and names.setdefault(_find_address(proxy), proxy.name) == proxy.name:
                chosen[proxy.name] = proxy
        return chosen

    def _leave_some(self, chosen: Mapping[str, NodeReport], limit: int) -> None:
        """Leave the proxies that have moved to another address, and others if the chosen ones need the connections."""
        others = [name for name in self._streams if name not in chosen]
        leaving = others[max(0, limit - len(chosen)) :]
        leaving += [
            name
            for name, stream in self._streams.items()
            if name in chosen and _find_address(chosen[name]) != stream.address
        ]
        for name in leaving:
            self._streams.pop(name).task.cancel()

    def _note_missing(self, known: KnownProxies) -> None:
        followed = {stream.address for stream in self._streams.values()}
        errors = [
            TapError(error=NOT_ASKED if proxy.is_active else NOT_PULLING, node=proxy.name)
            for proxy in known.proxies
            if proxy.name not in self._streams and _find_address(proxy) not in followed
        ]
        errors += [TapError(error=each.error, controller=each.name) for each in known.missing]
        for error in errors:
            self._note(error)
        # What is known no more, or answers again, is noted again if it is missing later.
        kept = {(each.name, "") for each in known.proxies} | {("", each.name) for each in known.missing}
        self._noted = {key: text for key, text in self._noted.items() if key in kept}

    def _note(self, error: TapError) -> None:
        """Note what is missing, unless the latest note about the same proxy or controller said the same."""
        key = (error.node, error.controller)
        if self._noted.get(key) != error.error:
            self._noted[key] = error.error
            self._viewer.on_missing(error)

    async def _follow(self, proxy: NodeReport) -> None:
        try:
            async for line in self._client.follow(proxy, self._query):
                self._noted.pop((proxy.name, ""), None)
                if line:  # not an empty line, which only shows that the connection is alive
                    self._viewer.on_line(proxy.name, line)
        except NodeUnreachableError as error:
            self._note(TapError(error=str(error), node=proxy.name))
        finally:
            stream = self._streams.get(proxy.name)
            if stream is not None and stream.task is asyncio.current_task():
                del self._streams[proxy.name]


def _find_address(proxy: NodeReport) -> _Address:
    port = proxy.name if proxy.admin_port is None else proxy.admin_port
    return parse_address(proxy.ip) or proxy.ip, port
