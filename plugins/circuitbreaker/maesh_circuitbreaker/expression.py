"""The expression language of breakers (Traefik, vulcand/predicate): parses text into a condition.

    NetworkErrorRatio() > 0.5 || (LatencyAtQuantileMS(95.0) >= 200 && ResponseCodeRatio(500, 600, 0, 600) > 0.25)

`&&` has precedence over `||`; there is no `!`. A metric is on the left, and a literal of its type on the right. Errors
name the column.
"""

import re
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne

TEXT_LIMIT, DEPTH_LIMIT = 4096, 50
OPERATORS: dict[str, Callable[[float, float], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le, "==": eq, "!=": ne}
ERRORS, CODES, LATENCY = "NetworkErrorRatio", "ResponseCodeRatio", "LatencyAtQuantileMS"
TYPES = {ERRORS: ((), float), CODES: ((int, int, int, int), float), LATENCY: ((float,), int)}
_find_token = re.compile(r"\s*(\|\||&&|[<>=!]=|[()<>,]|[A-Za-z]\w*|\d+\.\d*|\.\d+|\d+|\S|$)", re.ASCII).match
_NUMBERS = {int: (re.compile(r"\d{1,9}"), "500"), float: (re.compile(r"\d{1,9}\.\d*|\.\d+"), "0.5")}

Metric = tuple[str, tuple[float, ...]]
Condition = Callable[[Callable[[Metric], float]], bool]


class Parser:
    """A recursive-descent parser. `token` is the next token, empty at the end. `metrics` are the parsed metrics."""

    def __init__(self, text: str) -> None:
        if len(text) > TEXT_LIMIT:
            raise ValueError(f"column {TEXT_LIMIT + 1}: an expression may have at most {TEXT_LIMIT} characters")
        self.text, self.end = text, 0
        self.metrics: list[Metric] = []
        self._advance()

    def parse(self) -> Condition:
        """Parse the whole text. Raises ValueError with the expected token and the column, from 1 on."""
        condition = self._parse_group(any, "||", 0)
        if self.token:
            raise self._error("the end")
        return condition

    def _advance(self) -> None:
        match = _find_token(self.text, self.end)
        self.token, self.end = (match[1], match.end()) if match else ("", len(self.text))

    def _error(self, wanted: str) -> ValueError:
        found = repr(self.token) if self.token else "the end"
        return ValueError(f"column {self.end - len(self.token) + 1}: expected {wanted}, found {found}")

    def _take(self, wanted: str) -> None:
        if self.token != wanted:
            raise self._error(repr(wanted))
        self._advance()

    def _parse_group(self, judge: Callable[..., bool], word: str, depth: int) -> Condition:
        """Parse the operands of `||`, and within them those of `&&`."""
        parts: list[Condition] = []
        while not parts or self.token == word:
            if parts:
                self._advance()
            parts.append(self._parse_group(all, "&&", depth) if word == "||" else self._parse_unit(depth))
        return parts[0] if len(parts) == 1 else lambda read: judge(part(read) for part in parts)

    def _parse_unit(self, depth: int) -> Condition:
        if self.token == "(" and depth < DEPTH_LIMIT:  # noqa: S105 - a word of the language
            self._advance()
            condition = self._parse_group(any, "||", depth + 1)
            self._take(")")
            return condition
        name = self.token
        if name not in TYPES:
            raise self._error(f"one of {', '.join(TYPES)}")
        self._advance()
        self._take("(")
        types, value_type = TYPES[name]
        metric = (name, tuple(self._parse_number(type_, is_first=index == 0) for index, type_ in enumerate(types)))
        self._take(")")
        compare = OPERATORS.get(self.token)
        if compare is None:
            raise self._error(f"one of {' '.join(OPERATORS)}")
        self._advance()
        value = self._parse_number(value_type)
        self.metrics.append(metric)
        return lambda read: compare(read(metric), value)

    def _parse_number(self, type_: type, *, is_first: bool = True) -> float:
        if not is_first:
            self._take(",")
        pattern, example = _NUMBERS[type_]
        if not pattern.fullmatch(self.token):
            raise self._error(f"a number such as {example}")
        number: float = type_(self.token)
        self._advance()
        return number
