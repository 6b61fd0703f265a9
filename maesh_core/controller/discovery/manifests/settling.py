"""Decides when a changed file may be read: when it no longer changes, or at once after a rename to its path.

Takes hints that a path changed, and its signature; returns the paths that are due. A removed path must stay away as
long, because editors remove and recreate files. Pure: the caller provides the clock, and no file is accessed.
"""

from collections.abc import Callable

from maesh_core.controller.discovery.manifests.files import Signature

ReadSignature = Callable[[str], Signature | None]


class Settling:
    """Changed paths that are not due yet."""

    __slots__ = ("_pending", "_settle_s")

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._pending: dict[str, _Pending] = {}

    def __repr__(self) -> str:
        return f"<Settling {len(self._pending)} pending>"

    def note(self, path: str, *, is_put_in_place: bool) -> None:
        """Record that a path changed. `is_put_in_place`: something appeared there, and nothing was removed."""
        pending = self._pending.get(path)
        if pending is None:
            self._pending[path] = _Pending(is_put_in_place=is_put_in_place)
        elif not is_put_in_place:
            pending.is_put_in_place = False

    def pop_due(
        self, now: float, read_signature: ReadSignature, known: Callable[[str], Signature | None]
    ) -> dict[str, Signature | None]:
        """Return and forget the paths that are due; None: the path is gone."""
        due: dict[str, Signature | None] = {}
        for path, pending in list(self._pending.items()):
            signature = read_signature(path)
            if self._is_due(pending, signature, known(path), now):
                due[path] = signature
                del self._pending[path]
        return due

    def next_due(self) -> float | None:
        """Return when something may be due, by the caller's clock; None if nothing is pending, 0 for at once."""
        return min((pending.since + self._settle_s for pending in self._pending.values()), default=None)

    def _is_due(self, pending: "_Pending", signature: Signature | None, known: Signature | None, now: float) -> bool:
        if not pending.is_seen or signature != pending.signature:
            if signature is not None and self._is_renamed(pending, signature, known):
                return True
            pending.is_seen, pending.signature, pending.since = True, signature, now
            return self._settle_s <= 0
        return now - pending.since >= self._settle_s

    def _is_renamed(self, pending: "_Pending", signature: Signature, known: Signature | None) -> bool:
        """Whether a file is complete rather than still being written; must not be wrong about the latter.

        Either a known file was replaced without a removal in between, which only a rename does, or the file was last
        written long before it was last renamed, both by the file system's own clock.
        """
        if known is not None and signature.is_same_file(known):
            return False
        stood_still_s = (signature.changed_ns - signature.modified_ns) / 1e9
        return (known is not None and pending.is_put_in_place) or (
            signature.size > 0 and stood_still_s >= self._settle_s
        )


class _Pending:
    __slots__ = ("is_put_in_place", "is_seen", "signature", "since")

    def __init__(self, *, is_put_in_place: bool) -> None:
        self.is_put_in_place = is_put_in_place
        self.is_seen = False
        self.signature: Signature | None = None
        self.since = float("-inf")
