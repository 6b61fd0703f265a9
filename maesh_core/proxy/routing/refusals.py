"""Lists refused routers for `/status`, and logs each reason once.

Takes the refused routers by wire path, with their reasons. It makes no decisions.
"""

import logging
from collections.abc import Mapping

import msgspec

logger = logging.getLogger(__name__)


class RefusedRouter(msgspec.Struct, frozen=True):
    """A refused router: its wire path, and the reason."""

    router: str
    reason: str


def sort_refused(refused: Mapping[str, str]) -> list[RefusedRouter]:
    """Return the refused routers sorted by wire path."""
    return [RefusedRouter(router, refused[router]) for router in sorted(refused)]


def log_refused(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Log each new reason once, with the first router and the number of routers that it concerns.

    A reason that is gone for all routers is logged once more.
    """
    known = set(before.values())
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for router, reason in sorted(after.items()):
        if reason not in known:
            first.setdefault(reason, router)
            counts[reason] = counts.get(reason, 0) + 1
    for reason, router in first.items():
        logger.error("refused %s (%d routers): %s", router, counts[reason], reason)
    for reason in sorted(known - set(after.values())):
        logger.warning("no router is refused any more because: %s", reason)
