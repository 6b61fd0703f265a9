"""Parses a line of the annotation `ratelimit-limits`: `NAME: AVERAGE[/PERIOD] [burst=N] [source=S] [store=S]`."""

import re
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from maesh_core.plugin import PositiveDuration, parse_value
from maesh_ratelimit.settings import STORES, Limit

LINE_LIMIT = 2048
"""Limit of a line, in characters."""
FORM = "is not NAME: AVERAGE[/PERIOD] [burst=N] [source=SOURCES] [store=STORE]"
_Count = Annotated[int, Meta(ge=1, le=10**9)]
_match_line = re.compile(r"([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\s*:\s*(\d+)(?:\s*/\s*(\S+))?((?:\s+\S+)*)").fullmatch
_UNITS = ("ms", "s", "m", "h")


def parse_line(line: str, *, parse_sources: Callable[[str], tuple[str, ...]], default_store: str) -> Limit:
    """Parse one limit; raises ValueError with a text that follows the line."""
    match = _match_line(line) if len(line) <= LINE_LIMIT else None
    if match is None:
        raise ValueError(FORM)
    name, average_text, period_text, rest = match.groups()
    options = _parse_options(rest)
    average = _parse_number("average", average_text)
    store = options.get("store", default_store)
    if store not in STORES:
        raise ValueError(f"has an invalid store: {store!r} is not one of {', '.join(STORES)}")
    return Limit(
        name=name,
        average=average,
        burst=_parse_number("burst", options["burst"]) if "burst" in options else average,
        period_s=_parse_period(period_text) if period_text else 1.0,
        sources=parse_sources(options.get("source", "ip")),
        store=store,
    )


def _parse_options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or key not in ("burst", "source", "store"):
            raise ValueError(FORM)
        if key in options:
            raise ValueError(f"has {key} twice")
        options[key] = value
    return options


def _parse_number(what: str, text: str) -> int:
    try:
        number: int = parse_value(text, _Count)
    except ValueError as error:
        raise ValueError(f"has an invalid {what}: {text!r} is not {error}") from error
    return number


def _parse_period(text: str) -> float:
    """Parse a period; a unit alone, as in `100/s`, is one of it."""
    try:
        period_s: float = parse_value(f"1{text}" if text in _UNITS else text, PositiveDuration)
    except ValueError as error:
        raise ValueError(f"has an invalid period: {text!r} is not {error}") from error
    return period_s
