"""The setting `status`: texts such as `400-599` to the set of statuses that they name. Pure."""

import re
from collections.abc import Iterable

_RANGE = re.compile(r"(\d{3})(?:-(\d{3}))?", re.ASCII)


def parse_statuses(texts: Iterable[str]) -> frozenset[int]:
    """Parse statuses and ranges of statuses; raises ValueError."""
    found: set[int] = set()
    for text in texts:
        match = _RANGE.fullmatch(text.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 100 <= first <= last <= 599:
            raise ValueError(f"status: {text!r} is not a status or a range such as 400-599")
        found.update(range(first, last + 1))
    return frozenset(found)
