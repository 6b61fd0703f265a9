"""Records denials in a worker of a proxy, for the report that the controller gathers.

Takes the facts of each denial; returns a WorkerReport. Everything that a client can choose is limited: its number of
paths, their length, and all entries together. At the limit, the client with the most entries loses its oldest one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from maesh_acl.denials.fair_entries import FairEntries
from maesh_acl.denials.report import CountedDenial, DenialKey, Mode, Reason, WorkerReport

NODE_ENTRIES: Final = 4000
"""Entries of all workers of a node together; each takes about half a kilobyte."""
WORKER_ENTRIES: Final = 200
"""No worker has a lower limit, however many there are."""
CLIENT_PATHS: Final = 100
"""Entries of one client and one service; its further paths are counted in an entry for each method."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
"""Beyond CLIENT_PATHS, all other methods share an entry."""
PATH_CHARACTERS: Final = 256
METHOD_CHARACTERS: Final = 32
"""Longer ones are cut."""


class _Entry:
    """The numbers of one entry."""

    __slots__ = ("count", "first", "last")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.first = self.last = now

    def __repr__(self) -> str:
        return f"<_Entry {self.count}>"


class DenialLog:
    """The denials of one worker since its start."""

    __slots__ = ("_entries", "_paths", "_read_time", "_since")

    def __init__(self, workers: int = 1, *, read_time: Callable[[], float] = time.time) -> None:
        self._read_time = read_time
        self._since = read_time()
        limit = max(WORKER_ENTRIES, NODE_ENTRIES // max(1, workers))
        self._entries: FairEntries[DenialKey, _Entry] = FairEntries(limit)
        self._paths: dict[tuple[str, str], int] = {}
        """How many entries a client and a service have."""

    def __repr__(self) -> str:
        return f"<DenialLog {self._entries!r}>"

    def note(
        self,
        mode: Mode,
        reason: Reason,
        *,
        service: str,
        route: str,
        destinations: Sequence[str],
        client: str,
        traffic_type: str,
        traffic_targets: tuple[str, ...] = (),
        method: bytes = b"",
        target: bytes = b"",
    ) -> None:
        """Count a denial; `target` is that of a request, with its query."""
        path, is_path_cut = _read_path(target)
        key = DenialKey(
            mode=mode,
            reason=reason,
            service=service,
            route="" if route == service else route,
            destinations=tuple(destinations),
            client=client,
            traffic_type=traffic_type,
            method=method[:METHOD_CHARACTERS].decode("ascii", "backslashreplace"),
            path=path,
            is_path_cut=is_path_cut,
            traffic_targets=traffic_targets,
        )
        now = self._read_time()
        entry = self._entries.find(key)
        if entry is None:
            key = self._limit_paths(key)
            entry = self._entries.find(key) or self._add(key, now)
        entry.count += 1
        entry.last = now

    def build_report(self) -> bytes:
        """Render a WorkerReport as JSON."""
        denials = tuple(
            CountedDenial(key=key, count=entry.count, first=entry.first, last=entry.last)
            for key, entry in self._entries
        )
        forgotten = self._entries.forgotten
        return msgspec.json.encode(WorkerReport(since=self._since, forgotten=forgotten, denials=denials))

    def _limit_paths(self, key: DenialKey) -> DenialKey:
        """Replace the path of a client that has too many of them by an empty one."""
        if self._paths.get((key.client, key.service), 0) < CLIENT_PATHS or not key.method:
            return key
        method = key.method if key.method in METHODS else ""
        return msgspec.structs.replace(key, method=method, path="", is_path_cut=True)

    def _add(self, key: DenialKey, now: float) -> _Entry:
        entry = _Entry(now)
        evicted = self._entries.add(key, entry)
        pair = (key.client, key.service)
        self._paths[pair] = self._paths.get(pair, 0) + 1
        if evicted is not None:
            pair = (evicted.client, evicted.service)
            self._paths[pair] -= 1
            if not self._paths[pair]:
                del self._paths[pair]
        return entry


def _read_path(target: bytes) -> tuple[str, bool]:
    """Read the path of a target, up to the first byte that is not UTF-8; True if that is only its beginning."""
    path = target.partition(b"?")[0]
    text = path[: 4 * PATH_CHARACTERS].decode("utf-8", "replace").partition("\ufffd")[0][:PATH_CHARACTERS]
    return text, text.encode() != path
