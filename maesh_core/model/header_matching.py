"""Compiles the conditions of a match on one header field.

A condition checks the field's values, or the bytes of a whole head in one search, which is ten times as fast. Names are
compared without case, values with it. The field matches if any of its lines does.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from maesh_core.model.matches import HeaderMatch
from maesh_core.model.patterns import compile_pattern, is_literal
from maesh_core.values.field_rules import FORWARDED, HOP_BY_HOP

SEARCHED_LIMIT_BYTES = 64
"""Longer literals are searched in the values: the search of a whole head compares them at each byte of a value."""

Search = Callable[[bytes], Any]


class HeaderCondition:
    """A condition on a field; `name` is in lower case.

    `is_ordinary` is false for fields that the mesh itself writes or does not forward: a head has other bytes for them
    than what the rules may see, so that only their values can be checked.
    """

    __slots__ = ("_accepts", "_find_values", "_search", "is_ordinary", "name")

    mesh_fields: ClassVar[frozenset[bytes]] = HOP_BY_HOP | {b"host", b"content-length", b"expect", *FORWARDED}

    def __init__(self, match: HeaderMatch) -> None:
        self.name = match.name.lower().encode()
        self.is_ordinary = self.name not in self.mesh_fields
        self._accepts: Callable[[bytes], object]
        self._search: Search | None = None
        self._find_values: Callable[[bytes], list[bytes]] | None = None
        line = b"\n%b:" % _build_name_expression(self.name)
        literal = match.pattern.encode()
        if match.value is not None:
            self._accepts = _build_equality(match.value.encode())
            self._search = re.compile(rb"%b[ \t]*+%b[ \t]*+\r" % (line, re.escape(match.value.encode().strip()))).search
            if match.value != match.value.strip():
                self._search = re.compile(rb"(?!)").search  # values have no such white space
        elif (
            is_literal(match.pattern)
            and match.pattern == match.pattern.strip()
            and len(literal) <= SEARCHED_LIMIT_BYTES
        ):
            self._accepts = _build_containment(literal)
            self._search = re.compile(rb"%b[^\r]*?%b" % (line, re.escape(literal)) if literal else line).search
        else:
            self._accepts = _build_containment(literal) if is_literal(match.pattern) else _build_search(match.pattern)
            self._find_values = re.compile(rb"%b[ \t]*+([^\r]*)\r" % line).findall

    def __repr__(self) -> str:
        return f"<HeaderCondition on {self.name.decode()}>"

    def holds(self, values: Sequence[bytes]) -> bool:
        """Return whether any of a field's values meets the condition."""
        for value in values:  # noqa: SIM110 - a generator for `any` takes half a microsecond longer
            if self._accepts(value):
                return True
        return False

    def holds_head(self, head: bytes) -> bool:
        """Return whether a checked head has the field with a value that meets the condition."""
        if self._search is not None:
            return self._search(head) is not None
        return self._find_values is not None and self.holds([value.rstrip(b" \t") for value in self._find_values(head)])


def _build_name_expression(name: bytes) -> bytes:
    """Build an expression for a name in any case, which is faster than a flag for the whole expression."""
    return b"".join(b"[%c%c]" % (each, each - 32) if 97 <= each <= 122 else re.escape(bytes((each,))) for each in name)


def _build_equality(wanted: bytes) -> Callable[[bytes], bool]:
    return lambda value: value == wanted


def _build_containment(literal: bytes) -> Callable[[bytes], bool]:
    return lambda value: literal in value


def _build_search(pattern: str) -> Callable[[bytes], bool]:
    search = compile_pattern(pattern).search
    return lambda value: search(value) is not None
