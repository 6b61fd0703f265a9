"""Compiles matches of requests: conditions on path, query, method and headers become a function that checks them.

Takes `HttpMatch`es; returns predicates. Patterns are RE2's, which run in linear time whatever a user writes and a
client sends. The controller uses the same rules to refuse invalid patterns.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.model.header_matching import HeaderCondition
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.pattern_size import measure_pattern
from maesh_core.model.patterns import find_pattern_problem, is_literal
from maesh_core.model.target_matching import TargetCondition, has_path_conditions, has_target_conditions

TEXT_LIMIT_CHARACTERS = 4096
"""Limit of a text that is compared; the Gateway API allows as much for the value of a header."""
_find_ambiguous = re.compile(rb"//|/\.\.?(?:[/;]|$)|%(?:2[ef]|5c|00)|\\", re.IGNORECASE).search


class RequestHeaders(Protocol):
    """The header fields that a client sent."""

    def get_all(self, name: bytes) -> list[bytes]:
        """Read every value, in order."""


class Request(Protocol):
    """The request to check: an exchange, or the head of a request."""

    @property
    def method(self) -> bytes:
        """As the client sent it."""

    @property
    def target(self) -> bytes:
        """Path and query."""

    @property
    def client_headers(self) -> RequestHeaders:
        """As the client sent them."""


Predicate = Callable[[Any], bool]


def is_ambiguous(target: bytes) -> bool:
    """Whether a server could read a target as another path than the mesh does.

    This is the case if removing dot segments, decoding `%2e %2f %5c %00` or merging slashes would change the path.
    Rules about paths are not reliable then.
    """
    return _find_ambiguous(target.partition(b"?")[0]) is not None


class CompiledMatch:
    """One match: `holds` checks a request of any kind. Without conditions, `is_always` is true.

    The attributes have the conditions for callers that check the parts of a request themselves: `methods` None means
    any method, `target` None any target. `pattern_size` grows with the time that its patterns take for a byte.
    """

    __slots__ = ("headers", "is_always", "methods", "pattern_size", "target")

    def __init__(self, match: HttpMatch) -> None:
        self.methods = frozenset(method.encode() for method in match.methods) or None
        self.target = TargetCondition(match) if has_target_conditions(match) else None
        self.headers = tuple(HeaderCondition(each) for each in match.headers)
        self.is_always = not (self.methods or self.target or self.headers)
        self.pattern_size = sum(measure_pattern(each).variable + 1 for each in list_patterns(match))

    def __repr__(self) -> str:
        return f"<CompiledMatch {self.methods} {self.target} {self.headers}>"

    def holds(self, request: Any) -> bool:
        """Return whether a `Request` meets all conditions. If it has the bytes of its head, these are searched."""
        if self.methods is not None and request.method not in self.methods:
            return False
        if self.target is not None and not self.target.holds(request.target):
            return False
        return not self.headers or self._has_headers(request)

    def holds_parsed(
        self,
        method: bytes,
        path: bytes,
        parameters: Mapping[bytes, bytes],
        headers: Mapping[bytes, Sequence[bytes]],
    ) -> bool:
        """Return whether the parsed parts of a request meet all conditions; names that no rule reads may be missing."""
        if self.methods is not None and method not in self.methods:
            return False
        if self.target is not None and not self.target.holds_parsed(path, parameters):
            return False
        for condition in self.headers:  # noqa: SIM110 - a generator for `all` takes half a microsecond longer
            if not condition.holds(headers.get(condition.name, ())):
                return False
        return True

    def _has_headers(self, request: Any) -> bool:
        head = getattr(request, "head", None)
        for condition in self.headers:
            if condition.is_ordinary and head is not None:
                if not condition.holds_head(head) or condition.name in request.dropped:
                    return False
            elif not condition.holds(request.client_headers.get_all(condition.name)):
                return False
        return True


def compile_matches(matches: Sequence[HttpMatch]) -> Predicate:
    """Compile matches of which any must hold; no matches accept every request. Raises ValueError on a bad pattern."""
    compiled = [CompiledMatch(match) for match in matches]
    if not compiled or any(each.is_always for each in compiled):
        return _hold_always
    return _join_any([each.holds for each in compiled])


def has_paths(matches: Sequence[HttpMatch]) -> bool:
    """Whether any of the matches has conditions on the path."""
    return any(map(has_path_conditions, matches))


def list_patterns(match: HttpMatch) -> list[str]:
    """List the patterns of a match that have operators."""
    compared: list[HeaderMatch | QueryMatch] = [*match.headers, *match.queries]
    patterns = [*match.paths, match.path_pattern, *(each.pattern for each in compared)]
    return [each for each in patterns if not is_literal(each)]


def _hold_always(request: Request) -> bool:
    return True


def _join_any(predicates: Sequence[Predicate]) -> Predicate:
    """Combine with "or". A generator for `any` takes half a microsecond longer than these loops."""
    if len(predicates) == 1:
        return predicates[0]

    def holds(request: Request) -> bool:
        for predicate in predicates:  # noqa: SIM110 - measured
            if predicate(request):
                return True
        return False

    return holds


def find_match_problem(matches: Iterable[HttpMatch]) -> str | None:
    """Explain why matches cannot be used; None if they can."""
    for match in matches:
        compared: list[HeaderMatch | QueryMatch] = [*match.headers, *match.queries]
        patterns = [*match.paths, match.path_pattern, *(each.pattern for each in compared)]
        texts = [match.exact_path, match.path_prefix, *(each.value or "" for each in compared)]
        if any(len(text) > TEXT_LIMIT_CHARACTERS for text in texts):
            return f"a text is longer than {TEXT_LIMIT_CHARACTERS} characters"
        for pattern in patterns:
            if (problem := find_pattern_problem(pattern)) is not None:
                return problem
    return None
