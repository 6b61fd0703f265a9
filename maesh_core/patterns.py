"""Regular expressions that users write: RE2's, which takes linear time whatever a user writes and a client sends.

Both processes use it: the controller to refuse what is no pattern, the proxy to match. The engine is loaded when the
first pattern needs it; most compare a text as it stands.
"""

import re
from collections.abc import Iterable
from typing import Any

from maesh_core.model.matches import HttpMatch

PATTERN_LIMIT_CHARACTERS = 4096
PATTERN_MEMORY_BYTES = 1 << 20
"""What one pattern's automaton may take; one that needs more is refused, or runs slower, never longer than linear."""
_match_literal = re.compile(r"[A-Za-z0-9_\-/~!@%&=:;, ']*").fullmatch


def is_literal(pattern: str) -> bool:
    """Say whether a pattern has no operators."""
    return _match_literal(pattern) is not None


def compile_pattern(pattern: str) -> Any:
    """Compile a pattern over bytes; gives an object with `match` and `search`. Raises ValueError."""
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
        raise ValueError(f"{pattern[:80]!r} is no pattern: {text}") from error


def find_match_problem(matches: Iterable[HttpMatch]) -> str | None:
    """Say why matches cannot be used."""
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
