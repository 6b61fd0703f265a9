"""The dependency index: it records the reads of each service, and returns the services to rebuild.

Takes the reads of a service's last build, or of an object's last check. The reverse index is exact: a read that no
reader has any more is removed. Readers and reads can be any hashable values.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

ReaderT = TypeVar("ReaderT", bound=Hashable)


class DependencyIndex(Generic[ReaderT]):
    """The reads of every reader, a service or another object, and the readers of every read."""

    __slots__ = ("_readers", "_reads")

    def __init__(self) -> None:
        self._reads: dict[ReaderT, frozenset[Hashable]] = {}
        self._readers: dict[Hashable, set[ReaderT]] = {}

    def __repr__(self) -> str:
        return f"<DependencyIndex services={len(self._reads)} reads={len(self._readers)}>"

    def __contains__(self, service: ReaderT) -> bool:
        return service in self._reads

    def set_reads(self, service: ReaderT, reads: Iterable[Hashable]) -> None:
        """Replace the recorded reads of a service."""
        new = frozenset(reads)
        old = self._reads.get(service, frozenset())
        for read in old - new:
            self._drop(service, read)
        for read in new - old:
            self._readers.setdefault(read, set()).add(service)
        self._reads[service] = new

    def forget(self, service: ReaderT) -> None:
        """Forget a service that no longer exists."""
        for read in self._reads.pop(service, ()):
            self._drop(service, read)

    def find_readers(self, reads: Iterable[Hashable]) -> set[ReaderT]:
        """List the services whose last build made one of these reads."""
        readers: set[ReaderT] = set()
        for read in reads:
            readers |= self._readers.get(read, frozenset())
        return readers

    def list_services(self) -> list[ReaderT]:
        """List all services, in no particular order."""
        return list(self._reads)

    def count_reads(self) -> int:
        """Count the distinct recorded reads."""
        return len(self._readers)

    def _drop(self, service: ReaderT, read: Hashable) -> None:
        readers = self._readers[read]
        readers.discard(service)
        if not readers:
            del self._readers[read]
