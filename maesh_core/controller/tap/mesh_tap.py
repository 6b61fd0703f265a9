"""The taps of the mesh: each merges the taps of all proxies into one stream of lines for one viewer.

Takes the registry of proxies, a client, and the cluster's objects. What proxies send is untrusted: a line that is not a
record is ignored. A proxy that cannot be reached is named once, and asked again. The number of taps, of connections to
proxies, and of records in a second are limited.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from maesh_core.controller.tap.selection import Selection, is_named, name_source, parse_selection
from maesh_core.controller.traffic.callers import Objects, find_caller
from maesh_core.controller.traffic.report import list_destinations, list_ports
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.messages import NodeReport
from maesh_core.model.tap import TapDrops, TapError, TappedRecord
from maesh_core.model.topology import ServiceNode
from maesh_core.plain_http.line_stream import LineStream

AddressT = TypeVar("AddressT")
AddressT_co = TypeVar("AddressT_co", covariant=True)
AddressT_contra = TypeVar("AddressT_contra", contravariant=True)

TAPS_LIMIT = 8
"""Limit of concurrent taps, as in a proxy."""
RATE = 1000
"""Records of one tap in a second: so many take about a hundredth of a processor."""
DROPS_LIMIT = 1_000_000_000
"""The largest number of dropped records that is believed at once."""
WINDOW_S = 1.0
REFRESH_S = 5.0
"""Interval for asking proxies that are new, or that could not be reached."""

NOT_PULLING = "the proxy has not pulled for more than a minute"
NOT_ASKED = "not asked: the controller has too many connections to proxies for taps"

_log = logging.getLogger(__name__)
_decode_record = msgspec.json.Decoder(TappedRecord).decode
_decode_drops = msgspec.json.Decoder(TapDrops).decode


class TooManyTapsError(Exception):
    """The controller has as many taps as it may have."""


class Registry(Protocol[AddressT_co]):
    """The proxies that pull, and the addresses of their admin ports."""

    def list_reports(self) -> Sequence[NodeReport]: ...  # noqa: D102

    def find_admin(self, name: str) -> AddressT_co | None: ...  # noqa: D102


class TapClient(Protocol[AddressT_contra]):
    """Asks proxies for their taps, over at most `connections_limit` connections."""

    connections_limit: int

    def follow(self, address: AddressT_contra, query: str) -> AsyncIterator[bytes]:
        """Yield the lines of a proxy's tap, without line feeds. Never ends but raises NodeUnreachableError."""

    async def close(self) -> None:
        """Close its connections."""


class Mesh(Protocol):
    """The cluster's objects and the services of the mesh: the engine."""

    @property
    def objects(self) -> Objects: ...  # noqa: D102

    def find_service_node(self, key: ObjectKey) -> ServiceNode | None: ...  # noqa: D102


class MeshTaps(Generic[AddressT]):
    """The active taps. Close it when done."""

    __slots__ = ("_client", "_mesh", "_registry", "_taps")

    def __init__(self, registry: Registry[AddressT], client: TapClient[AddressT], mesh: Mesh) -> None:
        self._registry = registry
        self._client = client
        self._mesh = mesh
        self._taps: dict[_Tap[AddressT], asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<MeshTaps {len(self._taps)} active>"

    def open(self, parameters: Mapping[str, str]) -> LineStream:
        """Open a tap with a query's parameters. Raises ValueError with a reason, and TooManyTapsError."""
        selection = parse_selection(parameters)
        if len(self._taps) >= TAPS_LIMIT:
            raise TooManyTapsError
        tap = _Tap(selection, self._registry, self._client, self._mesh, has_room=self._has_room)
        task = self._taps[tap] = asyncio.create_task(tap.run())

        def stop() -> None:
            task.cancel()

        def on_done(done: "asyncio.Task[None]") -> None:
            del self._taps[tap]
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.error("a tap failed", exc_info=error)
            tap.lines.finish()

        tap.lines = LineStream(render_dropped, on_close=stop)
        task.add_done_callback(on_done)
        return tap.lines

    def finish(self) -> None:
        """End all taps after the lines that wait."""
        for tap in self._taps:
            tap.lines.finish()

    async def close(self) -> None:
        """End all taps, and close the connections to proxies."""
        tasks = list(self._taps.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def _has_room(self) -> bool:
        return sum(len(tap.following) for tap in self._taps) < self._client.connections_limit


class _Tap(Generic[AddressT]):
    """One viewer's tap. `following` has the proxies whose taps are open."""

    __slots__ = (
        "_client",
        "_failed",
        "_has_room",
        "_left",
        "_mesh",
        "_query",
        "_registry",
        "_selection",
        "_taken",
        "_window_s",
        "following",
        "lines",
    )

    def __init__(
        self,
        selection: Selection,
        registry: Registry[AddressT],
        client: TapClient[AddressT],
        mesh: Mesh,
        *,
        has_room: Callable[[], bool],
    ) -> None:
        self._selection = selection
        self._query = urlencode(selection.parameters)
        self._registry = registry
        self._client = client
        self._mesh = mesh
        self._has_room = has_room
        self._left = selection.limit
        self._failed: dict[str, str] = {}
        self._taken = 0
        self._window_s = time.monotonic()
        self.following: set[str] = set()
        self.lines = LineStream(render_dropped)

    def __repr__(self) -> str:
        return f"<_Tap of {len(self.following)} proxies, {len(self._failed)} failed>"

    async def run(self) -> None:
        """Follow all proxies until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for report in self._registry.list_reports():
                    if report.name in self.following:  # its records arrive, even if it cannot pull at the moment
                        continue
                    if not report.ready:
                        self._note_failure(report.name, NOT_PULLING)
                    elif self._has_room():
                        self.following.add(report.name)
                        group.create_task(self._follow(report.name))
                    else:
                        self._note_failure(report.name, NOT_ASKED)
                await asyncio.sleep(REFRESH_S)

    async def _follow(self, name: str) -> None:
        address = self._registry.find_admin(name)
        try:
            if address is None:
                raise NodeUnreachableError(NOT_PULLING)
            async for line in self._client.follow(address, self._query):
                self._failed.pop(name, None)
                if line:  # not an empty line, which only shows that the connection is alive
                    self._take(line)
        except NodeUnreachableError as error:
            self._note_failure(name, str(error))
        finally:
            self.following.discard(name)

    def _note_failure(self, name: str, text: str) -> None:
        """Send a line that a proxy's records are missing, unless the latest line about this proxy said the same."""
        if self._failed.get(name) != text:
            self._failed[name] = text
            self.lines.put(msgspec.json.encode(TapError(error=text, node=name)) + b"\n")

    def _take(self, line: bytes) -> None:
        """Take one line of a proxy; above the rate, it is dropped without being decoded."""
        now_s = time.monotonic()
        if now_s - self._window_s >= WINDOW_S:
            self._window_s, self._taken = now_s, 0
        self._taken += 1
        try:
            if line.startswith(b'{"dropped"'):
                self.lines.note_dropped(min(_decode_drops(line).dropped, DROPS_LIMIT))
            elif self._taken > RATE:
                self.lines.note_dropped(1)
            else:
                self._show(_decode_record(line))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError):
            pass  # not a record: whatever answers there is no proxy of this version

    def _show(self, record: TappedRecord) -> None:
        if self._left == 0:
            return
        caller = find_caller(self._mesh.objects, record.client)
        if self._selection.source and not is_named(caller, self._selection.source):
            return
        shown = msgspec.structs.replace(
            record, source=name_source(caller), destination=name_destination(self._mesh, record)
        )
        is_shown = self.lines.put(msgspec.json.encode(shown) + b"\n")
        if is_shown and self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.lines.finish()


def name_destination(mesh: Mesh, record: TappedRecord) -> str:
    """Name the service port that received a record's traffic; a proxy may name the part of a branch instead."""
    if record.destination in ("", record.service):
        return record.destination
    namespace, _, name = record.service.partition(":")[0].partition("/")
    key = ObjectKey(namespace, name)
    node = mesh.find_service_node(key)
    for port in list_ports(node) if node is not None else ():
        if build_port_key(key, port.number) == record.service:
            return list_destinations(record.service, port).get(record.destination, record.destination)
    return record.destination


def render_dropped(count: int) -> bytes:
    """Render the line that says how many records were dropped."""
    return msgspec.json.encode(TapDrops(count)) + b"\n"
