"""Regular expressions that users write: the syntax of RE2, over bytes, which match in linear time.

A pattern without operators is a literal, and is compared as text; the RE2 library is loaded by the first pattern that
has operators. Patterns whose repetitions expand too much are refused before they are compiled: a proxy must not compile
or match them on behalf of one service while others wait.
"""

import re
from functools import lru_cache
from typing import Any

from maesh_core.model.pattern_size import has_folded_classes, measure_pattern

PATTERN_LIMIT_CHARACTERS = 4096
PATTERN_MEMORY_BYTES = 1 << 20
"""Memory limit of one pattern's automaton; a larger one is refused, or runs more slowly, but always in linear time."""
EXPANSION_LIMIT = 4096
"""Maximum number of characters after counted repetitions are expanded: 350 times `(a{0,1000})` compile in 0.14 s."""
SIZE_OF_ONE = 64
"""Larger patterns count as several ones where their number is limited."""
VARIABLE_LIMIT = 300
"""Maximum number of these that may repeat or be absent: `(.*a){1000}` takes 0.4 s for a text of 8 kB."""
KNOWN_LIMIT = 512
"""Limit of patterns whose problems are remembered: many rules have the same ones, and each takes 0.2 ms to compile."""
_match_literal = re.compile(r"[A-Za-z0-9_\-/~!@%&=:;, ']*").fullmatch


def is_literal(pattern: str) -> bool:
    """Whether a pattern has no operators."""
    return _match_literal(pattern) is not None


def compile_pattern(pattern: str) -> Any:
    """Compile a pattern over bytes; return an object with `match`, `fullmatch` and `search`. Raises ValueError."""
    import re2

    if (problem := _find_size_problem(pattern)) is not None:
        raise ValueError(problem)
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


def find_pattern_problem(pattern: str) -> str | None:
    """Explain why a pattern cannot be used; None if it can."""
    if is_literal(pattern) or len(pattern) > PATTERN_LIMIT_CHARACTERS:
        return _find_length_problem(pattern)
    return _find_compiling_problem(pattern)


@lru_cache(maxsize=KNOWN_LIMIT)
def _find_compiling_problem(pattern: str) -> str | None:
    try:
        compile_pattern(pattern)
    except ValueError as error:
        return str(error)
    return None


def weigh_pattern(pattern: str) -> int:
    """Return as how many patterns of usual size this one counts."""
    return 1 if is_literal(pattern) else 1 + measure_pattern(pattern).total // SIZE_OF_ONE


def _find_size_problem(pattern: str) -> str | None:
    """Explain why a pattern costs too much; None if it does not."""
    if (problem := _find_length_problem(pattern)) is not None:
        return problem
    if has_folded_classes(pattern):
        return rf"{pattern[:80]!r} has a class of Unicode (\p or \P) and ignores case, which takes too long"
    size = measure_pattern(pattern)
    if size.total > EXPANSION_LIMIT:
        return f"{pattern[:80]!r} is too large: its repetitions expand to more than {EXPANSION_LIMIT} characters"
    if size.variable > VARIABLE_LIMIT:
        return f"{pattern[:80]!r} is too large: more than {VARIABLE_LIMIT} of its characters may repeat or be absent"
    return None


def _find_length_problem(pattern: str) -> str | None:
    if len(pattern) > PATTERN_LIMIT_CHARACTERS:
        return f"a pattern is longer than {PATTERN_LIMIT_CHARACTERS} characters"
    return None
