"""Converts matches of SMI to matches of an HTTPRoute, and arranges those of several rules so that both choose alike.

SMI tries splits in their order, and an HTTPRoute uses the most specific match of all rules. Where these differ, a match
with the conditions of both is added to the rule that comes first in SMI: it is more specific than either. Knows nothing
of manifests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.plugin import HeaderMatch, HttpMatch

RULE_MATCH_LIMIT = 64
MATCH_LIMIT = 128
"""Limits of a rule and of a route (Gateway API)."""
PATH_LIMIT, HEADER_LIMIT, HEADERS_LIMIT = 1024, 4096, 16
"""Limits of a path, of a header's value, and of the headers of a match (Gateway API)."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
EXACT, PATTERN, PREFIX = "Exact", "RegularExpression", "PathPrefix"

_ANY_PATH = frozenset({"", "/", ".*", "/.*", "^/", "^"})
_plain_path = re.compile(r"\^?((?:/[A-Za-z0-9_-]+)+|/)", re.ASCII).fullmatch
_plain_value = re.compile(r"\^([A-Za-z0-9_/-]+)\$", re.ASCII).fullmatch
_ELEMENT_ENDS = ("(/|$)", "(?:/|$)", "(/.*)?$", "(?:/.*)?$", "($|/)", "(?:$|/)")
"""What follows a path in patterns that match it and everything below it."""


class Match(NamedTuple):
    """A match of an HTTPRoute. `path` is a type and a value; `headers` are a name, a type and a value each."""

    path: tuple[str, str] | None = None
    method: str = ""
    headers: tuple[tuple[str, str, str], ...] = ()

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """The place among matches: lower ones are more specific (HTTPRouteRule.matches)."""
        kind, value = self.path or (PREFIX, "")
        length = {EXACT: 0, PATTERN: -len(value), PREFIX: -len(value)}[kind]
        return (EXACT, PATTERN, PREFIX).index(kind), length, -bool(self.method), -len(self.headers)

    def render(self) -> dict[str, Any]:
        """Render as in a manifest."""
        rendered: dict[str, Any] = {}
        if self.path is not None:
            rendered["path"] = {"type": self.path[0], "value": self.path[1]}
        if self.headers:
            rendered["headers"] = [
                {"type": kind, "name": name, "value": value} if kind != EXACT else {"name": name, "value": value}
                for name, kind, value in self.headers
            ]
        if self.method:
            rendered["method"] = self.method
        return rendered


class InexpressibleError(Exception):
    """No match of an HTTPRoute has this meaning; the text says why."""


class Arrangement(NamedTuple):
    """The matches of each rule, and the pairs whose order differs from SMI's, as texts."""

    rules: tuple[tuple[Match, ...], ...]
    differences: tuple[str, ...]


def convert_match(match: HttpMatch) -> tuple[Match, ...]:
    """Convert a match to one for each of its methods. Raises InexpressibleError."""
    path = _convert_paths(match.paths)
    headers = _convert_headers(match.headers)
    for method in match.methods:
        if method not in METHODS:
            raise InexpressibleError(f"method {method} is not one that an HTTPRoute can match")
    return tuple(Match(path, method, headers) for method in match.methods or ("",))


def _convert_paths(patterns: Sequence[str]) -> tuple[str, str] | None:
    """Convert patterns that must all match at the start of the path."""
    found = [path for pattern in patterns if (path := _convert_path(pattern)) is not None]
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        raise InexpressibleError(f"it has several conditions on the path: {' and '.join(patterns)}")
    return found[0] if found else None


def _convert_path(pattern: str) -> tuple[str, str] | None:
    if pattern in _ANY_PATH:
        return None
    if pattern.endswith("$") and (plain := _plain_path(pattern[:-1])):
        return EXACT, plain[1]
    for end in _ELEMENT_ENDS:
        if pattern.endswith(end) and (plain := _plain_path(pattern.removesuffix(end))) and plain[1] != "/":
            return PREFIX, plain[1]
    plain = _plain_path(pattern)
    converted = f"{plain[1]}.*" if plain else f"(?:{pattern}).*"
    if len(converted) > PATH_LIMIT:
        raise InexpressibleError(f"its path has more than {PATH_LIMIT} characters")
    return PATTERN, converted


def _convert_headers(headers: Sequence[HeaderMatch]) -> tuple[tuple[str, str, str], ...]:
    found: dict[str, tuple[str, str, str]] = {}
    for header in headers:
        converted = (header.name, *_convert_value(header.pattern))
        if found.setdefault(header.name, converted) != converted:
            raise InexpressibleError(f"it has several conditions on the header {header.name}")
    if len(found) > HEADERS_LIMIT:
        raise InexpressibleError(f"it has more than {HEADERS_LIMIT} headers")
    return tuple(sorted(found.values()))


def _convert_value(pattern: str) -> tuple[str, str]:
    """Convert a pattern that may match anywhere in a value."""
    plain = _plain_value(pattern)
    if plain:
        return EXACT, plain[1]
    converted = f".*(?:{pattern}).*" if pattern else ".*"
    if len(converted) > HEADER_LIMIT:
        raise InexpressibleError(f"the condition on a header has more than {HEADER_LIMIT} characters")
    return PATTERN, converted


# --- order


def arrange(rules: Sequence[Sequence[Match]]) -> Arrangement:
    """Arrange the matches of rules, of which the first that matches must decide. Raises InexpressibleError.

    A match that an earlier rule covers completely is left out, because it never decides.
    """
    found = [list(dict.fromkeys(rule)) for rule in rules]
    differences: dict[str, None] = {}
    covered: set[tuple[int, Match]] = set()
    while _arrange_once(found, covered, differences):
        if sum(map(len, found)) > MATCH_LIMIT or any(len(rule) > RULE_MATCH_LIMIT for rule in found):
            raise InexpressibleError(f"it needs more than {RULE_MATCH_LIMIT} matches in a rule or {MATCH_LIMIT} in all")
    if sum(map(len, found)) > MATCH_LIMIT or any(len(rule) > RULE_MATCH_LIMIT for rule in found):
        raise InexpressibleError(f"it needs more than {RULE_MATCH_LIMIT} matches in a rule or {MATCH_LIMIT} in all")
    return Arrangement(tuple(map(tuple, found)), tuple(differences))


def _arrange_once(rules: list[list[Match]], covered: set[tuple[int, Match]], differences: dict[str, None]) -> bool:
    """Repair the first pair in the wrong order; False if there is none.

    `covered` has what was removed from the rules. It never decides, so it is not added again for another pair.
    """
    for first, later in _list_reversed(rules):
        (rule, match), (later_rule, other) = first, later
        try:
            both = combine(match, other)
        except InexpressibleError as error:
            differences.setdefault(f"{show(other)} is decided before {show(match)}, unlike in SMI: {error}")
            continue
        if both is None:
            continue
        if both == other:
            rules[later_rule].remove(other)
            covered.add((later_rule, other))
            return True
        if both not in rules[rule] and (rule, both) not in covered:
            rules[rule].append(both)
            return True
    return False


def _list_reversed(rules: Sequence[Sequence[Match]]) -> Iterator[tuple[tuple[int, Match], tuple[int, Match]]]:
    """List the pairs of matches of which the one of the later rule is more specific."""
    places = [(index, match) for index, rule in enumerate(rules) for match in rule]
    for index, match in places:
        for later, other in places:
            if later > index and other.rank < match.rank:
                yield (index, match), (later, other)
    for index, match in places:  # equal ranks: the earlier rule decides, so the later match may be of no use
        for later, other in places:
            if later > index and other == match:
                yield (index, match), (later, other)


def combine(one: Match, other: Match) -> Match | None:
    """Build the match that holds if both hold; None if no request meets both. Raises InexpressibleError."""
    if one.method and other.method and one.method != other.method:
        return None
    path = _combine_paths(one.path, other.path)
    if path is _DISJOINT:
        return None
    headers = {name: (name, kind, value) for name, kind, value in one.headers}
    for name, kind, value in other.headers:
        if headers.setdefault(name, (name, kind, value)) != (name, kind, value):
            raise InexpressibleError(f"both have a condition on the header {name}")
    if len(headers) > HEADERS_LIMIT:
        raise InexpressibleError(f"together they have more than {HEADERS_LIMIT} headers")
    return Match(path, one.method or other.method, tuple(sorted(headers.values())))


_DISJOINT = ("", "")


def _combine_paths(one: tuple[str, str] | None, other: tuple[str, str] | None) -> tuple[str, str] | None:
    if one is None or other is None or one == other:
        return one or other
    (kind, value), (other_kind, other_value) = one, other
    if PATTERN in (kind, other_kind):
        raise InexpressibleError("both have a condition on the path")
    if kind == other_kind == EXACT:
        return _DISJOINT
    if kind == EXACT:
        return one if _is_below(value, other_value) else _DISJOINT
    if _is_below(other_value, value):
        return other
    return one if other_kind == PREFIX and _is_below(value, other_value) else _DISJOINT


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def show(match: Match) -> str:
    """Describe a match in words."""
    words: list[str] = [f"path {match.path[0]} {match.path[1]}"] if match.path else []
    words += [f"method {match.method}"] if match.method else []
    words += [f"header {name} {kind} {value}" for name, kind, value in match.headers]
    return " and ".join(words) or "every request"


def render_matches(matches: Sequence[Match]) -> Mapping[str, Any]:
    """Render the matches of a rule; empty if every request matches, which is the default."""
    return {} if Match() in matches else {"matches": [match.render() for match in matches]}
