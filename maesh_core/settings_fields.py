"""The fields of a settings class as flags, variables and file keys, and the one way a raw value becomes a field's.

Takes the classes of maesh_core/settings.py (and the settings structs of plugins) and raw values: text from flags and
variables, TOML values from the file. Gives checked values, or raises ValueError with the rule that was broken. Reads
no source itself.
"""

import dataclasses
import math
import re
import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from maesh_core.settings import DURATION

ENVIRONMENT_PREFIX = "MAESH_"

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h)?\s*", re.ASCII | re.IGNORECASE)
_TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
_FALSE_WORDS = frozenset({"false", "no", "off", "0"})


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One field that users can set. `type` is the whole annotation, with its rules."""

    name: str
    type: Any
    default: Any
    description: str

    @property
    def flag(self) -> str:
        """The flag in its canonical spelling: `--api-port`."""
        return f"--{self.key}"

    @property
    def key(self) -> str:
        """The key in the configuration file: `api-port`."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable: `MAESH_API_PORT`."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value: `--json`, `--no-json`."""
        return split_annotation(self.type)[0] is bool

    @property
    def is_list(self) -> bool:
        """Whether several values are taken, separated by commas."""
        return is_sequence(split_annotation(self.type)[0])

    @property
    def placeholder(self) -> str:
        """What stands for the value in the help text; empty for a switch."""
        base, metas = split_annotation(self.type)
        if base is bool:
            return ""
        if is_duration(metas):
            return "DURATION"
        if get_origin(base) is Literal:
            return "|".join(str(choice) for choice in get_args(base))
        if is_sequence(base):
            return "NAME,..."
        return "NUMBER" if base in (int, float) else "TEXT"

    @property
    def default_text(self) -> str:
        """The default as a user would write it; empty when there is none."""
        return render_value(self.default, self.type)


def normalise_name(name: str) -> str:
    """Cut a name down to what counts: case, dashes and underscores do not."""
    return name.replace("-", "").replace("_", "").lower()


def list_fields(settings_class: type) -> tuple[SettingField, ...]:
    """List the fields of a settings class that users can set: those that have a description."""
    hints = get_type_hints(settings_class, include_extras=True)
    found = []
    for declared in dataclasses.fields(settings_class):
        annotation = hints[declared.name]
        texts = [meta.description for meta in split_annotation(annotation)[1] if meta.description]
        if texts:
            default = declared.default
            found.append(SettingField(name=declared.name, type=annotation, default=default, description=texts[-1]))
    return tuple(found)


def split_annotation(annotation: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """Take an annotation apart: the bare type, and the rules on it."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    base, *extras = get_args(annotation)
    return base, tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))


def is_duration(metas: Sequence[msgspec.Meta]) -> bool:
    """Whether values are written as durations and kept in seconds."""
    return any(meta.extra == DURATION for meta in metas)


def is_sequence(base: Any) -> bool:
    """Whether a bare type holds several values."""
    return (get_origin(base) or base) in (tuple, list, set, frozenset)


def parse_duration(raw: Any) -> float:
    """Read `500ms`, `10s`, `1m`, `1h` or a number of seconds; raises ValueError."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        seconds = float(raw)
    else:
        match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
        if match is None:
            raise ValueError("a duration such as 500ms, 10s or 1m")
        seconds = float(match[1]) * _DURATION_UNITS[(match[2] or "s").lower()]
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("a duration such as 500ms, 10s or 1m")
    return seconds


def render_duration(seconds: float) -> str:
    """Write seconds as a duration: the inverse of parse_duration."""
    if seconds and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f}h"
    if seconds and seconds % 60 == 0:
        return f"{seconds / 60:.0f}m"
    milliseconds = seconds * 1000
    if seconds % 1 and math.isclose(milliseconds, round(milliseconds)):
        return f"{milliseconds:.0f}ms"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def parse_switch(raw: Any) -> bool:
    """Read true or false, also as a word; raises ValueError."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in _TRUE_WORDS:
        return True
    if word in _FALSE_WORDS:
        return False
    raise ValueError("true or false")


def parse_value(raw: Any, annotation: Any) -> Any:
    """Turn a raw value into one of a field; raises ValueError with the rule in words, to stand after `is not`."""
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
        return msgspec.convert(raw, bare, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(describe_rule(bare) or f"valid: {error}") from error


def _strip_none(annotation: Any) -> Any:
    """Take `None` out of an optional type: a value that is written down is a value."""
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [part for part in get_args(annotation) if part is not types.NoneType]
        if len(kept) == 1:
            return kept[0]
    return annotation


def describe_rule(annotation: Any) -> str:
    """Say in words what a value must be; empty for types that have no words here."""
    base, metas = split_annotation(annotation)
    if is_duration(metas):
        return _describe_range("a duration", metas)
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
        return f"{noun} from {lowest:g} to {highest:g}"
    limits = [("of at least", lowest), ("of at most", highest), ("above", above), ("below", below)]
    words = " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
    return f"{noun} {words}".strip()


def render_value(value: Any, annotation: Any) -> str:
    """Write a field's value as a user would."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value is dataclasses.MISSING:
        return ""
    if is_duration(split_annotation(annotation)[1]):
        return render_duration(value)
    if isinstance(value, (tuple, list)):
        return ",".join(str(item) for item in value)
    return str(value)
