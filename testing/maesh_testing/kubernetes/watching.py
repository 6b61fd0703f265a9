"""A watch over HTTP: events as lines, bookmarks, its end. Takes a watch of the store, writes to a response."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from maesh_testing.kubernetes.conversion import to_version
from maesh_testing.kubernetes.faults import Fault, FaultKind
from maesh_testing.kubernetes.resources import ApiResource
from maesh_testing.kubernetes.selectors import Selector
from maesh_testing.kubernetes.statuses import StatusError, refuse_expired
from maesh_testing.kubernetes.store import Change, Object, Store, Watch

LONGEST_S = 1800.0


class WatchQuery(NamedTuple):
    """What a watch asks for. `since` None: begin with all that is there."""

    version: str
    namespace: str
    selector: Selector | None
    since: int | None
    takes_bookmarks: bool
    timeout_s: float
    wants_initial_end: bool = False


class WatchStream:
    """One watch."""

    def __init__(self, store: Store, resource: ApiResource, query: WatchQuery, fault: Fault | None) -> None:
        self._store = store
        self._resource = resource
        self._query = query
        self._fault = fault
        self._sent = 0
        self._is_awake = asyncio.Event()
        self._version = 0

    def __repr__(self) -> str:
        return f"<WatchStream of {self._resource.plural}, {self._sent} sent>"

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve the watch to its end."""
        loop = asyncio.get_running_loop()
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        response = web.StreamResponse(headers=headers)

        def wake() -> None:
            loop.call_soon_threadsafe(self._is_awake.set)

        try:
            watch, current = self._store.open_watch(self._resource, self._query.since, wake)
        except StatusError as error:
            # as the server's cache of watches does it: 200, and the error as an event
            await response.prepare(request)
            await response.write(_render("ERROR", error.build()))
            return response
        try:
            self._version = current if self._query.since is None else self._query.since
            await response.prepare(request)
            await self._send(request, response, watch)
        finally:
            self._store.close_watch(watch)
        return response

    async def _send(self, request: web.BaseRequest, response: web.StreamResponse, watch: Watch) -> None:
        deadline = asyncio.get_running_loop().time() + self._query.timeout_s
        is_initial = self._query.wants_initial_end
        while True:
            self._is_awake.clear()
            if await self._meet_fault(request, response):
                return
            while watch.changes:
                change = watch.changes.popleft()
                self._version = max(change.version, self._version)
                for event in self._list_events(change):
                    await response.write(event)
                    self._sent += change.type != "BOOKMARK"
                    if await self._meet_fault(request, response):
                        return
            if is_initial:
                is_initial = False
                await response.write(self._render_bookmark(is_initial_end=True))
            if watch.is_ended and not watch.changes:
                return
            try:
                async with asyncio.timeout_at(deadline):
                    await self._is_awake.wait()
            except TimeoutError:
                if self._query.takes_bookmarks:
                    await response.write(self._render_bookmark())
                return

    async def _meet_fault(self, request: web.BaseRequest, response: web.StreamResponse) -> bool:
        """Do what the fault says once its time has come; return whether the watch ends so."""
        fault = self._fault
        if fault is None or self._sent < fault.after_events or not fault.kind.name.startswith("WATCH"):
            return False
        self._fault = None
        if fault.kind is FaultKind.WATCH_GARBAGE:
            await response.write(fault.body + b"\n")
            return False
        if fault.kind is FaultKind.WATCH_EXPIRED:
            text = f"too old resource version: {self._version} ({self._store.version})"
            await response.write(_render("ERROR", refuse_expired(text).build()))
        elif fault.kind is FaultKind.WATCH_CUT:
            await response.write(b'{"type":"MODIFIED","object":{"kind":')
            await asyncio.sleep(0)
            if request.transport is not None:
                request.transport.close()
        elif fault.kind is FaultKind.WATCH_HANG:
            await asyncio.Event().wait()
        return True

    def _list_events(self, change: Change) -> Iterator[bytes]:
        """Return what a change is to this watch: an object that leaves its selection is deleted."""
        found = change.object
        if change.type == "BOOKMARK":
            if self._query.takes_bookmarks:
                yield self._render_bookmark()
            return
        is_in = self._selects(found) and change.type != "DELETED"
        was_in = change.previous is not None and self._selects(change.previous)
        if change.type == "DELETED" and not was_in:
            was_in = change.previous is None and self._selects(found)
        if is_in:
            yield self._render_event("MODIFIED" if was_in else "ADDED", found)
        elif was_in:
            shown = change.previous or found
            metadata = {**shown["metadata"], "resourceVersion": str(change.version)}
            yield self._render_event("DELETED", {**shown, "metadata": metadata})

    def _selects(self, found: Object) -> bool:
        if self._query.namespace and found["metadata"].get("namespace") != self._query.namespace:
            return False
        return self._query.selector is None or self._query.selector(found)

    def _render_event(self, kind: str, found: Object) -> bytes:
        return _render(kind, to_version(self._resource, self._query.version, found))

    def _render_bookmark(self, *, is_initial_end: bool = False) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(self._version), "creationTimestamp": None}
        if is_initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        api_version = self._resource.render_version(self._query.version)
        return _render("BOOKMARK", {"kind": self._resource.kind, "apiVersion": api_version, "metadata": metadata})


def _render(kind: str, found: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "object": found}) + b"\n"
