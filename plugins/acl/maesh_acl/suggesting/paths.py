"""Turns observed paths into the patterns of rules: exactly, or as a template if there is enough evidence for one.

Takes paths without queries. Returns a pattern (RE2) for each, which matches it as a whole. A segment becomes a variable
if a template says so, or if at least `EVIDENCE` of its values look like identifiers of one kind, such as numbers. A
pattern for `/users/17` never matches `/users/17/keys`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from maesh_core.plugin import ConfigurationError

EVIDENCE = 5
"""Number of different identifiers at the same place that make a variable. Fewer could be fixed names, as versions."""
TEMPLATE_LIMIT_CHARACTERS = 1024
SEGMENT_LIMIT = 100
"""A path with more segments is only matched exactly."""
ANY_SEGMENT = "[^/]+"

_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_VARIABLE = re.compile(r"\{[A-Za-z0-9_.-]{1,64}\}").fullmatch


class Kind(NamedTuple):
    """A kind of identifiers: which segments look like one, the pattern of them all, and its name in a template."""

    name: str
    fits: Callable[[str], object]
    pattern: str


KINDS: Sequence[Kind] = (
    Kind("number", re.compile(r"[0-9]+").fullmatch, "[0-9]+"),
    Kind(
        "uuid",
        re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch,
        "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    ),
    Kind("hex", re.compile(r"(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}").fullmatch, "[0-9A-Fa-f]{8,}"),
    Kind("token", re.compile(r"(?=[^0-9]*[0-9][^0-9]*[0-9])[0-9A-Za-z_-]{16,}").fullmatch, "[0-9A-Za-z_-]{16,}"),
)
"""The first kind that a segment fits is its own. A word is none of them, because words name different things."""


class Segment(NamedTuple):
    """A segment of a pattern; `label` is what a name of the pattern says."""

    pattern: str
    label: str


class PathPattern(NamedTuple):
    """The pattern of one or more paths, and whether it has a variable; `label` is made of its segments."""

    pattern: str
    label: str
    is_template: bool = False
    is_prefix: bool = False


class Template(NamedTuple):
    """A template that somebody wrote, such as `/users/{id}`: each of its segments is fixed, or None for a variable."""

    segments: tuple[str | None, ...]

    def asks(self, segments: Sequence[str], depth: int) -> bool:
        """Whether the template has a variable at a depth, and the segments of a path begin as it does."""
        return (
            depth < len(self.segments) <= len(segments)
            and self.segments[depth] is None
            and all(
                bool(found) if each is None else each == found
                for each, found in zip(self.segments, segments, strict=False)
            )
        )


def parse_template(text: str) -> Template:
    """Parse a template. Raises ConfigurationError."""
    segments = text.split("/")
    if not text.startswith("/") or len(text) > TEMPLATE_LIMIT_CHARACTERS:
        raise ConfigurationError(f"template {text[:80]!r} is not a path such as /users/{{id}}")
    if not any(_VARIABLE(each) for each in segments):
        raise ConfigurationError(f"template {text[:80]!r} has no variable such as {{id}}, which is a whole segment")
    for each in segments:
        if not _VARIABLE(each) and ("{" in each or "}" in each):
            raise ConfigurationError(f"template {text[:80]!r}: {each!r} is not a whole segment {{name}}")
    return Template(tuple(None if _VARIABLE(each) else each for each in segments[1:]))


def escape(text: str) -> str:
    """Escape text for a pattern of RE2, in which it means itself."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def build_patterns(
    paths: Iterable[str], *, evidence: int = EVIDENCE, templates: Sequence[Template] = ()
) -> Mapping[str, PathPattern]:
    """Build the pattern of each path; `evidence` 0 makes no variable unless a template has it."""
    found: dict[str, PathPattern] = {}
    rooted: dict[str, Sequence[str]] = {}
    for path in dict.fromkeys(paths):
        if path.startswith("/") and path.count("/") <= SEGMENT_LIMIT:
            rooted[path] = path[1:].split("/")
        else:  # also the * of OPTIONS
            found[path] = PathPattern(f"{_anchor(path)}{escape(path)}$", path)
    found.update(_build_level(rooted, (), evidence, templates))
    return found


def build_prefix(path: str) -> PathPattern:
    """Build the pattern of all paths that begin as this one does."""
    return PathPattern(f"{_anchor(path)}{escape(path)}", path, is_prefix=True)


def _anchor(path: str) -> str:
    """Return what keeps a slash from being added to a pattern that begins with a letter or digit."""
    return "" if path.startswith("/") else "^"


def _build_level(
    paths: Mapping[str, Sequence[str]],
    before: tuple[Segment, ...],
    evidence: int,
    templates: Sequence[Template],
) -> Mapping[str, PathPattern]:
    """Build the patterns of paths whose first segments are decided, by deciding about the next one."""
    depth = len(before)
    found: dict[str, PathPattern] = {}
    places: dict[str, dict[str, Sequence[str]]] = {}
    for path, segments in paths.items():
        if len(segments) == depth:
            found[path] = _join(before)
        else:
            places.setdefault(segments[depth], {})[path] = segments
    decided = _decide(places, depth, evidence, templates)
    groups: dict[Segment, dict[str, Sequence[str]]] = {}
    for value, members in places.items():
        for path, segments in members.items():
            segment = (
                Segment(ANY_SEGMENT, "{any}")
                if any(each.asks(segments, depth) for each in templates)
                else decided[value] or Segment(escape(value), value)
            )
            groups.setdefault(segment, {})[path] = segments
    for segment, members in groups.items():
        found.update(_build_level(members, (*before, segment), evidence, templates))
    return found


def _decide(
    places: Mapping[str, Mapping[str, Sequence[str]]], depth: int, evidence: int, templates: Sequence[Template]
) -> Mapping[str, Segment | None]:
    """Decide for each value of a segment whether it is one of several identifiers; None if it is not."""
    by_kind: dict[Kind, list[str]] = {}
    for value in places:
        kind = next((each for each in KINDS if each.fits(value)), None)
        if kind is not None:
            by_kind.setdefault(kind, []).append(value)
    decided: dict[str, Segment | None] = dict.fromkeys(places)
    for kind, values in by_kind.items():
        if evidence and len(values) >= evidence:
            decided.update(dict.fromkeys(values, Segment(kind.pattern, f"{{{kind.name}}}")))
    return decided


def _join(segments: Sequence[Segment]) -> PathPattern:
    is_template = any(each.label.startswith("{") and each.pattern != escape(each.label) for each in segments)
    return PathPattern(
        f"/{'/'.join(each.pattern for each in segments)}$", "/" + "/".join(each.label for each in segments), is_template
    )
