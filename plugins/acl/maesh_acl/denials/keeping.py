"""Keeps what workers of proxies have reported, so that the report of denials survives their end.

Takes the denials of one worker at a time; returns those of workers that have not answered, because they or their
proxies have ended or cannot be reached. Proxies are untrusted, so the memory is limited: the proxy that uses the most
of it loses what was reported longest ago. Does no I/O.
"""

import sys
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from maesh_acl.denials.report import ClientAccount, DenialKey

KEPT_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Limit of the memory for all records, as `_measure` counts it."""
RECORD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Limit for one worker; the denials that were seen last are kept. A worker's 4,000 entries need about 3 MB."""
ENTRY_BYTES: Final = 400
"""What an entry takes without its texts: 220 bytes were measured with CPython 3.11, without the allocator's loss."""
KEPT_S: Final = 31 * 86400.0
"""How long denials are kept after the last one: the traffic of a month shows what monthly jobs do."""


class NamedDenial(msgspec.Struct, frozen=True, gc=False):
    """Equal denials of one address, as one worker has counted them.

    `client` is the account that the address identified, or the address; `key` has no client. Times are Unix times.
    """

    client: ClientAccount | str
    address: str
    key: DenialKey
    count: int
    first: float
    last: float


class _Record:
    """What one worker has reported last."""

    __slots__ = ("denials", "last", "size_bytes")

    def __init__(self, denials: Sequence[NamedDenial]) -> None:
        self.denials: list[NamedDenial] = []
        self.size_bytes = 0
        for each in sorted(denials, key=lambda denial: -denial.last):
            size_bytes = _measure(each)
            if self.size_bytes + size_bytes > RECORD_LIMIT_BYTES:
                break
            self.denials.append(each)
            self.size_bytes += size_bytes
        self.last = max((each.last for each in self.denials), default=0.0)

    def __repr__(self) -> str:
        return f"<_Record {len(self.denials)} denials>"


class KeptDenials:
    """The last report of each worker. A worker is known by its proxy and by the time since which it records."""

    __slots__ = ("_proxies", "_sizes")

    def __init__(self) -> None:
        self._proxies: dict[str, dict[float, _Record]] = {}
        """The records of each proxy, in the order in which they were reported last."""
        self._sizes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<KeptDenials of {len(self._proxies)} proxies, {self.size_bytes} bytes>"

    @property
    def size_bytes(self) -> int:
        """The memory for all records."""
        return sum(self._sizes.values())

    def replace(self, proxy: str, since: float, denials: Sequence[NamedDenial]) -> None:
        """Keep what a worker reports instead of what it reported before."""
        record = _Record(denials)
        if not record.denials:
            return
        self._remove(proxy, since)
        self._proxies.setdefault(proxy, {})[since] = record
        self._sizes[proxy] = self._sizes.get(proxy, 0) + record.size_bytes
        while self.size_bytes > KEPT_LIMIT_BYTES:
            largest = max(self._sizes, key=self._sizes.__getitem__)
            self._remove(largest, next(iter(self._proxies[largest])))

    def find(self, proxy: str, since: float) -> Sequence[NamedDenial]:
        """Find what a worker reported last."""
        record = self._proxies.get(proxy, {}).get(since)
        return () if record is None else record.denials

    def expire(self, now: float) -> None:
        """Remove the records of workers that have denied nothing for `KEPT_S`."""
        old = [
            (proxy, since)
            for proxy, records in self._proxies.items()
            for since, record in records.items()
            if now - record.last > KEPT_S
        ]
        for proxy, since in old:
            self._remove(proxy, since)

    def list_missing(self, answered: Collection[tuple[str, float]]) -> Sequence[tuple[float, Sequence[NamedDenial]]]:
        """List the records of all workers except those that have answered, each with the time since which it records.

        A worker is the name of its proxy and this time.
        """
        return [
            (since, record.denials)
            for proxy, records in self._proxies.items()
            for since, record in records.items()
            if (proxy, since) not in answered
        ]

    def _remove(self, proxy: str, since: float) -> None:
        records = self._proxies.get(proxy, {})
        record = records.pop(since, None)
        if record is None:
            return
        self._sizes[proxy] -= record.size_bytes
        if not records:
            del self._proxies[proxy], self._sizes[proxy]


def _measure(denial: NamedDenial) -> int:
    """Count the bytes that a denial takes in memory."""
    key = denial.key
    texts = (denial.address, key.service, key.traffic_type, key.route, key.method, key.path)
    return ENTRY_BYTES + sum(map(sys.getsizeof, (*texts, *key.destinations, *key.traffic_targets)))
