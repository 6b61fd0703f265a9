"""Routers that are not carried: as `/status` shows them, and as the log tells them, each reason once.

Takes what was refused, by wire path, with why. Judges nothing.
"""

import logging
from collections.abc import Mapping

import msgspec

logger = logging.getLogger(__name__)


class RefusedRouter(msgspec.Struct, frozen=True):
    """A router that is not carried, by its wire path, and why."""

    router: str
    reason: str


def sort_refused(refused: Mapping[str, str]) -> list[RefusedRouter]:
    """List refused routers by wire path."""
    return [RefusedRouter(router, refused[router]) for router in sorted(refused)]


def log_refused(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Log the reasons that were not there before, each with one router that it concerns."""
    known = set(before.values())
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for router, reason in sorted(after.items()):
        if reason not in known:
            first.setdefault(reason, router)
            counts[reason] = counts.get(reason, 0) + 1
    for reason, router in first.items():
        logger.error("refused %s (%d routers): %s", router, counts[reason], reason)
