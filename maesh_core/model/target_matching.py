"""Compiles the conditions of a match on the target of a request: its path, and the parameters of its query.

Literal conditions become one regular expression over path and query, with possessive quantifiers, so that it runs in
linear time whatever a client sends. Patterns of users run in RE2. A target with `%` or `+` is decoded first, and so is
one that a caller has parsed for many matches (`parse_parameters`).
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from maesh_core.model.matches import HttpMatch, QueryMatch
from maesh_core.model.patterns import compile_pattern, is_literal

Test = Callable[[bytes], object]
"""A test of bytes; any value but None means that they match."""

_END = rb"(?:[&]|\Z)"


class TargetCondition:
    """The conditions of one match on path and query, all of which must hold.

    `names` are the decoded names of the query parameters that it reads.
    """

    __slots__ = ("_path_tests", "_queries", "_raw_test", "_simple_path_test", "names")

    def __init__(self, match: HttpMatch) -> None:
        expressions, self._path_tests = _compile_paths(match)
        path_expression = b"".join(b"(?=%b)" % each for each in expressions)
        self._queries = tuple((each.name.encode(), _compile_value(each)) for each in match.queries)
        self.names: frozenset[bytes] = frozenset(name for name, _ in self._queries)
        self._simple_path_test: Test | None = re.compile(path_expression).match if expressions else None
        self._raw_test: Test | None = self._simple_path_test
        if match.queries and all(each.value is not None for each in match.queries):
            query = b"".join(b"(?=%b)" % _build_query_expression(each) for each in match.queries)
            self._raw_test = re.compile(path_expression + rb"[^?]*+\?" + query).match

    def __repr__(self) -> str:
        return f"<TargetCondition on {len(self._path_tests)} patterns and {len(self._queries)} parameters>"

    def holds(self, target: bytes) -> bool:
        """Return whether a target meets the conditions."""
        if self._queries and (self._raw_test is self._simple_path_test or b"%" in target or b"+" in target):
            path, _, query = target.partition(b"?")
            return self.holds_parsed(path, parse_parameters(query, self.names))
        if self._raw_test is not None and self._raw_test(target) is None:
            return False
        return not self._path_tests or self._test_patterns(target.partition(b"?")[0])

    def holds_parsed(self, path: bytes, parameters: Mapping[bytes, bytes]) -> bool:
        """Return whether a path and the first value of each parameter meet the conditions."""
        if self._simple_path_test is not None and self._simple_path_test(path) is None:
            return False
        for name, test in self._queries:
            value = parameters.get(name)
            if value is None or test(value) is None:
                return False
        return self._test_patterns(path)

    def _test_patterns(self, path: bytes) -> bool:
        for test in self._path_tests:  # noqa: SIM110 - a generator for `all` takes half a microsecond longer
            if test(path) is None:
                return False
        return True


def parse_parameters(query: bytes, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Parse the first value of each parameter whose decoded name is in `names`; one without `=` has an empty value."""
    found: dict[bytes, bytes] = {}
    for each in dict.fromkeys(query.split(b"&")):  # without duplicates, in order
        name, _, value = each.partition(b"=")
        if b"%" in name or b"+" in name:
            name = _decode(name)
        if name in names and name not in found:
            found[name] = _decode(value)
    return found


def has_target_conditions(match: HttpMatch) -> bool:
    """Return whether a match has conditions on path or query."""
    return bool(match.queries or has_path_conditions(match))


def has_path_conditions(match: HttpMatch) -> bool:
    """Return whether a match has conditions on the path."""
    return bool(match.paths or match.exact_path or match.path_prefix or match.path_pattern)


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text


def _compile_paths(match: HttpMatch) -> tuple[list[bytes], tuple[Test, ...]]:
    """Compile the conditions on the path: expressions over path and query, and tests of the path alone."""
    expressions: list[bytes] = []
    tests: list[Test] = []
    for pattern in match.paths:
        prefix = pattern.removeprefix("^").removesuffix(".*")
        if not prefix:
            continue
        if is_literal(prefix):
            expressions.append(re.escape(prefix.encode()))  # a literal contains no `?`
        elif prefix.endswith("$") and is_literal(prefix[:-1]):
            expressions.append(re.escape(prefix[:-1].encode()) + rb"(?:\?|\Z)")
        else:
            tests.append(compile_pattern(pattern).match)
    if match.exact_path:
        expressions.append(re.escape(match.exact_path.encode()) + rb"(?:\?|\Z)")
    if match.path_prefix:
        expressions.append(re.escape(match.path_prefix.encode()) + rb"(?:[/?]|\Z)")
    if match.path_pattern:
        tests.append(_compile_whole(match.path_pattern))
    return expressions, tuple(tests)


def _compile_value(query: QueryMatch) -> Test:
    """Compile the condition on a decoded value."""
    if query.value is not None:
        return re.compile(re.escape(query.value.encode())).fullmatch
    return _compile_whole(query.pattern)


def _compile_whole(pattern: str) -> Test:
    """Compile a pattern that must match as a whole."""
    if is_literal(pattern):
        return re.compile(re.escape(pattern.encode())).fullmatch
    compiled: Any = compile_pattern(pattern)
    test: Test = compiled.fullmatch
    return test


def _build_query_expression(query: QueryMatch) -> bytes:
    """Build the expression for the first parameter of a name in a query that needs no decoding.

    Characters that separate parameters are only in decoded names and values, which such a query cannot have.
    """
    name, value = query.name.encode(), (query.value or "").encode()
    if b"&" in name or b"=" in name or b"&" in value:
        return rb"(?!)"
    escaped = re.escape(name)
    found = escaped + (b"=" + re.escape(value) if value else b"=?") + _END
    return b"(?:(?!%b(?:[=&]|\\Z))[^&]*+&)*+%b" % (escaped, found)
