"""Reads which metrics and labels a PromQL expression uses, so that tests can compare them with those that exist.

Takes an expression without variables of Grafana. Splits it into tokens as Prometheus' lexer does, so that texts,
durations and names of functions are never taken for metrics. Whether the expression is valid is left to promtool.
"""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
    |(?P<comment>\#[^\n]*)
    |(?P<range>\[[^\]]*\])
    |(?P<number>0x[0-9a-fA-F]+|(?:\d+(?:ms|[smhdwy]))+|\d*\.?\d+(?:[eE][+-]?\d+)?)
    |(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){},@])
    |(?P<space>\s+)""",
    re.VERBOSE,
)
LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan", *LABEL_LISTS}
MAKES_LABEL = {"label_replace", "label_join"}


class Usage(NamedTuple):
    """The labels by which each metric is selected, the labels in lists such as `by (...)`, and those that are made."""

    selected: dict[str, set[str]]
    listed: set[str]
    made: set[str]


def split_tokens(expression):
    """Split an expression into pairs of kind and text, without spaces and comments; ValueError for anything else."""
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"no token at {expression[at : at + 20]!r}")
        at = match.end()
        if match.lastgroup not in ("space", "comment"):
            found.append((match.lastgroup, match.group()))
    return found


def read_usage(expression):
    """Read the metrics and labels of an expression."""
    return _Reader([*split_tokens(expression), ("end", "")]).read()


class _Reader:
    def __init__(self, tokens):
        self.tokens = tokens
        self.at = 0
        self.calls = []  # [name of the function, number of the argument] for each open parenthesis
        self.usage = Usage({}, set(), set())

    def read(self):
        while self.tokens[self.at][0] != "end":
            kind, text = self.next()
            if kind == "name":
                self.read_name(text)
            elif text == "(":
                self.calls.append(["", 0])
            elif text == ")":
                self.calls.pop()
            elif text == ",":
                self.calls[-1][1] += 1
            elif text == "{":
                self.read_matchers("")
            elif kind == "text" and self.calls and self.calls[-1][0] in MAKES_LABEL and self.calls[-1][1] == 1:
                self.usage.made.add(text[1:-1])
        return self.usage

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def skip(self, text):
        """Skip a token if it is the next one; return whether it is."""
        is_next = self.tokens[self.at][1] == text
        self.at += is_next
        return is_next

    def read_name(self, name):
        following = self.tokens[self.at][1].lower()
        if name.lower() in LABEL_LISTS:
            if self.skip("("):
                self.read_labels()
        elif following == "(":
            self.next()
            self.calls.append([name, 0])
        elif name.lower() not in WORDS and following not in ("by", "without"):  # otherwise an aggregation
            self.usage.selected.setdefault(name, set())
            if self.skip("{"):
                self.read_matchers(name)

    def read_labels(self):
        while not self.skip(")"):
            kind, text = self.next()
            if kind == "name":
                self.usage.listed.add(text)

    def read_matchers(self, metric):
        """Read what is between braces; `__name__` selects metrics, of which each alternative counts."""
        metrics, labels = [metric] if metric else [], set()
        while not self.skip("}"):
            _, label = self.next()
            if label == ",":
                continue
            self.next()
            _, value = self.next()
            if label == "__name__":
                metrics += value[1:-1].split("|")
            else:
                labels.add(label)
        for name in metrics:
            self.usage.selected.setdefault(name, set()).update(labels)
