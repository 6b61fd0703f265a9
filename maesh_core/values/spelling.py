"""Finds the name that may have been meant.

Takes an unknown name and the known ones; returns the most similar one, if it is similar enough. Pure.
"""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.75
"""Minimal similarity of two names, as difflib's ratio: `retry-attemps` and `retry-attempts` have 0.96, while the
different kinds `Secret` and `Service` have 0.62."""
LENGTH_MARGIN = 4
"""Names whose lengths differ more are not compared: each comparison takes about 20 microseconds."""
COMPARED_LIMIT = 2000


def find_similar(name: str, known: Iterable[str], *, cutoff: float = CUTOFF) -> str | None:
    """Find the known name that is most similar, ignoring case, or that starts with the name; None if there is none."""
    near: dict[str, str] = {}
    longer: str | None = None
    for each in sorted(known):
        if name and longer is None and each.startswith(f"{name}-"):
            longer = each
        if abs(len(each) - len(name)) <= LENGTH_MARGIN and len(near) < COMPARED_LIMIT:
            near.setdefault(each.lower(), each)
    found = get_close_matches(name.lower(), near, n=1, cutoff=cutoff)
    return near[found[0]] if found else longer


def suggest(name: str, known: Iterable[str], *, cutoff: float = CUTOFF) -> str:
    """Suggest a similar name, as the end of a sentence; empty if none is similar.

    `cutoff` is the minimal similarity, from 0 to 1; a short name with one wrong letter needs 0.6.
    """
    found = find_similar(name, known, cutoff=cutoff)
    return f"; did you mean {found}?" if found is not None else ""
