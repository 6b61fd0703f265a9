"""Compiles matches of requests: conditions on path, method and headers become a function that checks them.

Takes `HttpMatch`es; returns closures. Patterns are RE2's, which run in linear time whatever a user writes and a client
sends. A pattern without operators is compared as text; the RE2 library is loaded by the first one that has some. The
controller uses the same rules to refuse invalid patterns.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from maesh_core.model.matches import HeaderMatch, HttpMatch

PATTERN_LIMIT_CHARACTERS = 4096
PATTERN_MEMORY_BYTES = 1 << 20
"""Memory limit of one pattern's automaton; a larger one is refused, or runs more slowly, but always in linear time."""
_match_literal = re.compile(r"[A-Za-z0-9_\-/~!@%&=:;, ']*").fullmatch
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


def compile_matches(matches: Sequence[HttpMatch]) -> Predicate:
    """Compile matches of which any must hold; no matches accept every request. Raises ValueError on a bad pattern."""
    compiled = [_compile_match(match) for match in matches]
    if not compiled or None in compiled:
        return _hold_always
    predicates = [predicate for predicate in compiled if predicate is not None]
    return _join_any(predicates)


def has_paths(matches: Sequence[HttpMatch]) -> bool:
    """Whether any of the matches has conditions on the path."""
    return any(match.paths for match in matches)


def _hold_always(request: Request) -> bool:
    return True


def _compile_match(match: HttpMatch) -> Predicate | None:
    """Compile one match; None if it always holds."""
    conditions = []
    if match.methods:
        conditions.append(_compile_methods(match.methods))
    conditions += [condition for path in match.paths if (condition := _compile_path(path)) is not None]
    conditions += [_compile_header(header) for header in match.headers]
    if not conditions:
        return None
    return _join_all(conditions)


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


def _join_all(predicates: Sequence[Predicate]) -> Predicate:
    """Combine with "and"."""
    if len(predicates) == 1:
        return predicates[0]
    if len(predicates) == 2:
        first, second = predicates
        return lambda request: first(request) and second(request)

    def holds(request: Request) -> bool:
        for predicate in predicates:  # noqa: SIM110 - measured
            if not predicate(request):
                return False
        return True

    return holds


def _compile_methods(methods: Sequence[str]) -> Predicate:
    allowed = frozenset(method.encode() for method in methods)
    return lambda request: request.method in allowed


def _compile_path(pattern: str) -> Predicate | None:
    """Compile a path's pattern; None if it matches every path."""
    prefix = pattern.removeprefix("^").removesuffix(".*")
    if not prefix:
        return None
    if is_literal(prefix):
        literal = prefix.encode()
        return lambda request: request.target.startswith(literal)  # a literal contains no query
    if is_literal(prefix[:-1]) and prefix.endswith("$"):
        exact = prefix[:-1].encode()
        return lambda request: request.target.partition(b"?")[0] == exact
    match = compile_pattern(pattern).match
    return lambda request: match(request.target.partition(b"?")[0]) is not None


def _compile_header(header: HeaderMatch) -> Predicate:
    name = header.name.encode()
    pattern = header.pattern
    if is_literal(pattern):
        literal = pattern.encode()
        return lambda request: any(literal in value for value in request.client_headers.get_all(name))
    search = compile_pattern(pattern).search
    return lambda request: any(search(value) is not None for value in request.client_headers.get_all(name))


def is_literal(pattern: str) -> bool:
    """Whether a pattern has no operators."""
    return _match_literal(pattern) is not None


def compile_pattern(pattern: str) -> Any:
    """Compile a pattern over bytes; return an object with `match` and `search`. Raises ValueError."""
    import re2

    options = re2.Options()
    options.max_mem = PATTERN_MEMORY_BYTES
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        return re2.compile(pattern.encode("utf-8"), options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{pattern[:80]!r} is not a valid pattern: {text}") from error


def find_match_problem(matches: Iterable[HttpMatch]) -> str | None:
    """Explain why matches cannot be used; None if they can."""
    for match in matches:
        for pattern in (*match.paths, *(header.pattern for header in match.headers)):
            if len(pattern) > PATTERN_LIMIT_CHARACTERS:
                return f"a pattern is longer than {PATTERN_LIMIT_CHARACTERS} characters"
            if not is_literal(pattern):
                try:
                    compile_pattern(pattern)
                except ValueError as error:
                    return str(error)
    return None
