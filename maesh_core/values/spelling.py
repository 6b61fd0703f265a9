"""Finds the name that somebody may have meant.

Takes a name that nothing knows and those that there are; gives the nearest one, if one is near. Pure.
"""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.75
"""How alike two names must be, as difflib's ratio: `retry-attemps` and `retry-attempts` have 0.96, while the kinds
`Secret` and `Service`, which are different, have 0.62."""
LENGTH_MARGIN = 4
"""Names that differ more in length are not compared: each comparison takes about 20 microseconds."""
COMPARED_LIMIT = 2000


def find_similar(name: str, known: Iterable[str], *, cutoff: float = CUTOFF) -> str | None:
    """Find the known name that is most like a name, without case, or begins with it; None where none does."""
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
    """Ask whether a similar name was meant, as the end of a sentence; empty where none is similar.

    `cutoff` is how alike they must be, from 0 to 1; a short name that one letter is wrong in needs 0.6.
    """
    found = find_similar(name, known, cutoff=cutoff)
    return f"; did you mean {found}?" if found is not None else ""
