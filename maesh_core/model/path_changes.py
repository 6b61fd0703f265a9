"""Changes of paths, which redirects and rewrites share: a whole path, or the prefix that a rule has matched.

Takes an annotation or a path modifier of the Gateway API; returns a `PathChange`, or raises ConfigurationError. A
`PathChanger` applies it to targets. Prefixes are compared by path elements, and a slash at the end of a prefix or of
its replacement is ignored, so that the result has neither `//` nor joined elements (Gateway API, HTTPPathModifier).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import build_annotation_error
from maesh_core.model.matches import HttpMatch
from maesh_core.model.matching import is_ambiguous

PATH_LIMIT_CHARACTERS: Final = 1024
"""Limit of a replacement (Gateway API)."""
_SLASH: Final = 0x2F
_is_path = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*)?").fullmatch
"""Matches an empty path, or one of characters that RFC 3986 section 3.3 allows."""
_RULE = "is not a path that starts with / and has no query, no fragment, no // and no . or .. as an element"


class PathModifier(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The path modifier of a filter, in the shape of the Gateway API."""

    type: str = ""
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class PathChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a path: `full` replaces it; if `full` is empty, `replacement` replaces the elements of `prefix`.

    `prefix` and `replacement` do not end with a slash; empty means `/`.
    """

    full: str = ""
    prefix: str = ""
    replacement: str = ""


class PathChanger:
    """Applies a change to targets. With a `prefix`, an ambiguous target must not be changed (`is_ambiguous`)."""

    __slots__ = ("_full", "_prefix", "_replacement", "is_prefix")

    def __init__(self, change: PathChange) -> None:
        self._full = change.full.encode()
        self._prefix = change.prefix.encode()
        self._replacement = change.replacement.encode()
        self.is_prefix = not change.full

    def __repr__(self) -> str:
        if self._full:
            return f"<PathChanger to {self._full!r}>"
        return f"<PathChanger from {self._prefix or b'/'!r} to {self._replacement or b'/'!r}>"

    def change(self, target: bytes) -> bytes | None:
        """Return the target with the new path and the same query; None if the path does not have the prefix."""
        path, mark, query = target.partition(b"?")
        if self._full:
            return self._full + mark + query
        prefix = self._prefix
        if not path.startswith(prefix):
            return None
        rest = path[len(prefix) :]
        if rest and rest[0] != _SLASH:
            return None
        return (self._replacement + rest or b"/") + mark + query


def describe_path_change(change: PathChange) -> str:
    """Describe a change, to follow a verb: `path /new`, or `prefix /old by /new`."""
    if change.full:
        return f"path {change.full}"
    return f"prefix {change.prefix or '/'} by {change.replacement or '/'}"


def check_path_modifier(modifier: PathModifier) -> None:
    """Check that a modifier has a type, the field that belongs to it, and no other. Raises ConfigurationError."""
    full, prefix = modifier.replace_full_path, modifier.replace_prefix_match
    if modifier.type == "ReplaceFullPath":
        if full is None or prefix is not None:
            raise ConfigurationError("path: ReplaceFullPath needs replaceFullPath, and nothing else")
    elif modifier.type == "ReplacePrefixMatch":
        if prefix is None or full is not None:
            raise ConfigurationError("path: ReplacePrefixMatch needs replacePrefixMatch, and nothing else")
    else:
        raise ConfigurationError(f"path.type: {modifier.type[:80]!r} is not ReplaceFullPath or ReplacePrefixMatch")


def build_path_change(modifier: PathModifier, matches: Sequence[HttpMatch]) -> PathChange:
    """Build the change of a filter from its modifier and the matches of its rule. Raises ConfigurationError."""
    check_path_modifier(modifier)
    if modifier.replace_full_path is not None:
        return PathChange(full=_check(modifier.replace_full_path, "path.replaceFullPath") or "/")
    replacement = _check(modifier.replace_prefix_match or "", "path.replacePrefixMatch")
    return PathChange(prefix=_find_prefix(matches), replacement=replacement.rstrip("/"))


def read_path_change(annotations: Mapping[str, str], *, path: str, prefix: str) -> PathChange | None:
    """Read the annotation named `path`, the new path; with the one named `prefix`, it replaces only that prefix.

    A prefix without a new path is removed. None without both annotations. Raises ConfigurationError.
    """
    for name in (path, prefix):
        text = annotations.get(name)
        if text is not None and (not text or _is_bad(text)):
            raise build_annotation_error(name, text, _RULE)
    new, old = annotations.get(path), annotations.get(prefix)
    if old is not None:
        return PathChange(prefix=old.rstrip("/"), replacement=(new or "").rstrip("/"))
    return None if new is None else PathChange(full=new)


def _find_prefix(matches: Sequence[HttpMatch]) -> str:
    """Find the only prefix of a rule; a match without a condition on the path has the prefix `/`."""
    if len(matches) > 1:
        raise ConfigurationError("path: ReplacePrefixMatch needs a rule with exactly one match")
    if any(match.exact_path or match.path_pattern or match.paths for match in matches):
        raise ConfigurationError("path: ReplacePrefixMatch needs a match of type PathPrefix")
    return matches[0].path_prefix.rstrip("/") if matches else ""


def _check(path: str, name: str) -> str:
    if _is_bad(path):
        raise ConfigurationError(f"{name}: {path[:80]!r} {_RULE}")
    return path


def _is_bad(path: str) -> bool:
    """Return whether a path must not replace another; an empty one may, as `/`."""
    return len(path) > PATH_LIMIT_CHARACTERS or not _is_path(path) or is_ambiguous(path.encode())
