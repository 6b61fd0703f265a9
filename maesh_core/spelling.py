"""Finds the name that somebody may have meant.

Takes a name that nothing knows and those that there are; gives the nearest one, if one is near. Pure.
"""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.75
"""How alike two names are, as difflib's ratio: `retry-attemps` and `retry-attempts` have 0.96."""
LENGTH_MARGIN = 4
"""Names that differ more in length are not compared: each comparison takes about 20 microseconds."""
COMPARED_LIMIT = 2000


def find_similar(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is most like a name, without case; None where none is like it."""
    near: dict[str, str] = {}
    for each in sorted(known):
        if abs(len(each) - len(name)) <= LENGTH_MARGIN:
            near.setdefault(each.lower(), each)
            if len(near) == COMPARED_LIMIT:
                break
    found = get_close_matches(name.lower(), near, n=1, cutoff=CUTOFF)
    return near[found[0]] if found else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Ask whether a similar name was meant, to stand at the end of a sentence; empty where none is similar."""
    found = find_similar(name, known)
    return f"; did you mean {found}?" if found is not None else ""
