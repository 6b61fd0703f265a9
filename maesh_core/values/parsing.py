"""Converts a raw value to a declared type: for settings, for plugins' settings, and for annotations.

Takes text or TOML values and a type with its rules (`Annotated[int, Meta(ge=1)]`, `Duration`, a `Literal`, a tuple).
Returns a checked value, or raises ValueError with the rule in words, as text that follows `is not`.
"""

import dataclasses
import math
import re
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from maesh_core.values import networks

DURATION = {"unit": "duration"}
"""Marks a field in seconds that is written as a duration: `500ms`, `10s`, `1m`; a number without unit is seconds."""

NETWORKS = {"unit": "networks"}
"""Marks a list of addresses and networks, see maesh_core/values/networks.py."""

NetworkList = Annotated[tuple[str, ...], Meta(extra=NETWORKS)]
Duration = Annotated[float, Meta(ge=0, extra=DURATION)]
PositiveDuration = Annotated[float, Meta(gt=0, extra=DURATION)]

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?\s*", re.ASCII | re.IGNORECASE)
_TOO_LONG = 10**300
"""Limit of numbers: whole numbers in TOML are unlimited, but too large ones cannot be converted to a float."""
_TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
_FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def split_annotation(annotation: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """Split an annotation into the bare type and its rules."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    base, *extras = get_args(annotation)
    return base, tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))


def is_duration(metas: Sequence[msgspec.Meta]) -> bool:
    """Whether values are written as durations and stored in seconds."""
    return any(meta.extra == DURATION for meta in metas)


def is_networks(metas: Sequence[msgspec.Meta]) -> bool:
    """Whether values are addresses and networks."""
    return any(meta.extra == NETWORKS for meta in metas)


def is_sequence(base: Any) -> bool:
    """Whether a bare type holds several values."""
    return (get_origin(base) or base) in (tuple, list, set, frozenset)


def parse_duration(raw: Any) -> float:
    """Parse `500ms`, `10s`, `1m`, `1h` or a number of seconds; raises ValueError."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        seconds = float(raw) if abs(raw) < _TOO_LONG else math.inf
    else:
        match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
        if match is None:
            raise ValueError("a duration such as 500ms, 10s or 1m")
        seconds = float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration such as 500ms, 10s or 1m")
    return seconds


def render_duration(seconds: float) -> str:
    """Render seconds as a duration: the inverse of parse_duration."""
    if seconds and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f}h"
    if seconds and seconds % 60 == 0:
        return f"{seconds / 60:.0f}m"
    milliseconds = seconds * 1000
    if seconds % 1 and math.isclose(milliseconds, round(milliseconds)):
        return f"{milliseconds:.0f}ms"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def parse_switch(raw: Any) -> bool:
    """Parse true or false, also as a word; raises ValueError."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE_WORDS:
        return True
    if word in _FALSE_WORDS:
        return False
    raise ValueError("true or false")


def parse_value(raw: Any, annotation: Any) -> Any:
    """Convert a raw value to the type of a field; raises ValueError with the rule in words, to follow `is not`."""
    bare = _strip_none(annotation)
    base, metas = split_annotation(bare)
    if is_duration(metas):
        raw = parse_duration(raw)
    elif base is bool:
        return parse_switch(raw)
    elif isinstance(raw, bool) and base in (int, float):
        raise ValueError(describe_rule(bare))
    elif is_sequence(base) and isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    elif isinstance(raw, str) and base is not str:
        raw = raw.strip()
    try:
        value = msgspec.convert(raw, bare, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(describe_rule(bare) or f"valid: {error}") from error
    return networks.parse_networks(value) if is_networks(metas) else value


def _strip_none(annotation: Any) -> Any:
    """Remove `None` from an optional type: a given value is never None."""
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [part for part in get_args(annotation) if part is not types.NoneType]
        if len(kept) == 1:
            return kept[0]
    return annotation


def describe_rule(annotation: Any) -> str:
    """Describe a type's rule in words; empty for types without a description here."""
    base, metas = split_annotation(annotation)
    if is_duration(metas):
        return _describe_range("a duration", metas)
    if is_networks(metas):
        return networks.RULE
    if get_origin(base) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(base))
    if base is bool:
        return "true or false"
    if base is int:
        return _describe_range("a whole number", metas)
    if base is float:
        return _describe_range("a number", metas)
    if base is str:
        pattern = next((meta.pattern for meta in metas if meta.pattern), None)
        return f"text like {pattern}" if pattern else "text"
    return ""


def _describe_range(noun: str, metas: Sequence[msgspec.Meta]) -> str:
    lowest = next((meta.ge for meta in metas if meta.ge is not None), None)
    highest = next((meta.le for meta in metas if meta.le is not None), None)
    above = next((meta.gt for meta in metas if meta.gt is not None), None)
    below = next((meta.lt for meta in metas if meta.lt is not None), None)
    if lowest is not None and highest is not None:
        return f"{noun} from {_show_number(lowest)} to {_show_number(highest)}"
    limits = [("of at least", lowest), ("of at most", highest), ("above", above), ("below", below)]
    words = " and ".join(f"{word} {_show_number(limit)}" for word, limit in limits if limit is not None)
    return f"{noun} {words}".strip()


def _show_number(number: float) -> str:
    """Render a number without an exponent, however large it is."""
    return str(int(number)) if float(number).is_integer() else str(number)


def render_value(value: Any, annotation: Any) -> str:
    """Render a field's value in the user's notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value is dataclasses.MISSING:
        return ""
    if is_duration(split_annotation(annotation)[1]):
        return render_duration(value)
    if isinstance(value, (tuple, list)):
        return ",".join(str(item) for item in value)
    return str(value)
