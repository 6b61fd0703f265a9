"""Analyses patterns of paths and headers without running them: what they compare, and whether they can match at all.

Takes patterns in the syntax of RE2, as users write them, and parses them with Python's parser, which knows nearly the
same syntax. A pattern that it cannot parse, or means something else, is not analysed: nothing is claimed about it.
"""

import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

from maesh_core.model.patterns import PATTERN_LIMIT_CHARACTERS

Mode = Literal["start", "whole", "any"]
"""Whether a pattern must match at the start, as a whole, or anywhere."""
ShapeKind = Literal["exact", "elements", "text", "pattern"]

_VISIBLE = frozenset(range(0x21, 0x7F))
PATH_BYTES = _VISIBLE - {ord("#"), ord("?")}
"""The bytes of a path: proxies refuse all others (RFC 9112 section 3.2.1)."""
VALUE_BYTES = frozenset(range(256)) - {0, ord("\r"), ord("\n")}
"""The bytes of a header's value (RFC 9110 section 5.5)."""
_SLASH = frozenset({ord("/")})
_PYTHON_ONLY = ("(?=", "(?!", "(?<=", "(?<!", "(?(", "(?P=", "(?>", "\\Z", "\\u", "\\U", "\\N")
"""What Python reads, but RE2 refuses or reads in another way."""
_CLASSES = {
    "CATEGORY_DIGIT": frozenset(b"0123456789"),
    "CATEGORY_SPACE": frozenset(b" \t\n\r\f\v"),
    "CATEGORY_WORD": frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"),
}
_ALL = frozenset(range(256))
_IGNORE_CASE = 2
"""The flag `re.IGNORECASE`."""

_Node = tuple[Any, Any]


class Shape(NamedTuple):
    """What a pattern compares a path with: the path is `text`, starts with it by whole elements, or starts with it.

    Of a `pattern`, `text` is the start of every path that it matches; it can be empty.
    """

    kind: ShapeKind
    text: str
    pattern: str = ""
    mode: Mode = "start"


class _Context(NamedTuple):
    """Where a match can be: at the start of the text, or where the text must have ended."""

    is_start: bool
    has_ended: bool


_AT_START = _Context(is_start=True, has_ended=False)
_INSIDE = _Context(is_start=False, has_ended=False)


@lru_cache(maxsize=4096)
def parse_tree(pattern: str) -> tuple[_Node, ...] | None:
    """Parse a pattern; None if it is not analysed."""
    if len(pattern) > PATTERN_LIMIT_CHARACTERS or any(each in pattern for each in _PYTHON_ONLY):
        return None
    try:
        with warnings.catch_warnings(
            action="error"
        ):  # such as of a set in a set, which other versions may read otherwise
            tree = import_module("re._parser").parse(pattern)
    except Exception:  # the parser of another version of Python may raise anything; the pattern is then not analysed
        return None
    return None if tree.state.flags & _IGNORE_CASE else tuple(tree)


@lru_cache(maxsize=4096)
def find_shape(pattern: str, mode: Mode) -> Shape:
    """Find what a pattern of paths compares."""
    tree = parse_tree(pattern)
    if tree is None:
        return Shape("pattern", "", pattern, mode)
    nodes = list(tree)
    if nodes and _is_anchor(nodes[0], "AT_BEGINNING", "AT_BEGINNING_STRING"):
        nodes.pop(0)
    characters = []
    while nodes and _name(nodes[0]) == "LITERAL":
        characters.append(chr(nodes.pop(0)[1]))
    text = "".join(characters)
    is_end = bool(nodes) and _is_end(nodes[-1])
    rest = nodes[:-1] if is_end else nodes
    must_end = is_end or mode == "whole"
    if not rest:
        return Shape("exact" if must_end else "text", text)
    if len(rest) == 1 and _is_anything(rest[0]):
        return Shape("text", text)
    if len(rest) == 1 and _is_element_end(rest[0], must_end=must_end):
        return Shape("elements", text)
    return Shape("pattern", text, pattern, mode)


@lru_cache(maxsize=4096)
def can_match(pattern: str, mode: Mode, *, is_path: bool) -> bool:
    """Whether any path, or any value of a header, can match a pattern; True if it is not analysed."""
    tree = parse_tree(pattern)
    if tree is None:
        return True
    bytes_ = PATH_BYTES if is_path else VALUE_BYTES
    starts = frozenset({_AT_START, _INSIDE} if mode == "any" else {_AT_START})
    try:
        ends = _Run(_SLASH if is_path else bytes_, bytes_).follow(tree, starts)
    except RecursionError:  # groups that nest deeply
        return True
    if is_path:  # a path is never empty
        ends -= {_Context(is_start=True, has_ended=True)}
    return bool(ends)


class _Run:
    """Follows the nodes of a pattern: `first` are the bytes that a text can begin with, `others` all others.

    The result for a node depends only on where a match can be before it, of which there are few: each is found once,
    although repetitions follow their bodies twice.
    """

    def __init__(self, first: frozenset[int], others: frozenset[int]) -> None:
        self._first = first
        self._others = others
        self._known: dict[tuple[int, frozenset[_Context]], frozenset[_Context]] = {}

    def follow(self, nodes: Iterable[_Node], contexts: frozenset[_Context]) -> frozenset[_Context]:
        """Find where a match can be after these nodes; empty if they cannot match. Raises RecursionError."""
        for node in nodes:
            place = (id(node), contexts)
            found = self._known.get(place)
            contexts = found if found is not None else self._known.setdefault(place, self._follow_one(node, contexts))
        return contexts

    def _follow_one(self, node: _Node, contexts: frozenset[_Context]) -> frozenset[_Context]:
        name, value = _name(node), node[1]
        allowed = _find_bytes(name, value)
        if allowed is not None:
            ways = (
                allowed & (self._first if each.is_start else self._others) for each in contexts if not each.has_ended
            )
            return frozenset({_INSIDE}) if any(ways) else frozenset()
        if name == "AT":
            return _follow_anchor(node, contexts)
        if name == "SUBPATTERN":
            return self.follow(value[-1], contexts)
        if name == "BRANCH":
            return frozenset().union(*[self.follow(each, contexts) for each in value[1]])
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, _, body = value
            once = self.follow(body, contexts)
            again = once | self.follow(body, once)
            return again | contexts if least == 0 else again
        return frozenset({_AT_START, _INSIDE, *contexts})  # not known: anything is possible


def _follow_anchor(node: _Node, contexts: frozenset[_Context]) -> frozenset[_Context]:
    if _is_anchor(node, "AT_BEGINNING", "AT_BEGINNING_STRING"):
        return frozenset(each for each in contexts if each.is_start)
    if _is_end(node):
        return frozenset(each._replace(has_ended=True) for each in contexts)
    return contexts


def _find_bytes(name: str, value: Any) -> frozenset[int] | None:
    """Find the bytes of which a node matches one; None if it does not match a single byte."""
    if name == "LITERAL":
        return frozenset({value}) if value < 128 else frozenset(range(128, 256))
    if name == "NOT_LITERAL":
        return _ALL - {value}
    if name == "ANY":
        return _ALL - {ord("\n")}
    if name == "IN":
        return _find_set(value)
    return None


def _find_set(items: Sequence[_Node]) -> frozenset[int]:
    found: set[int] = set()
    is_negated = False
    for item in items:
        name, value = _name(item), item[1]
        if name == "NEGATE":
            is_negated = True
        elif name == "LITERAL":
            found |= {value} if value < 128 else set(range(128, 256))
        elif name == "RANGE":
            found |= set(range(value[0], min(value[1], 255) + 1))
            found |= set(range(128, 256)) if value[1] >= 128 else set()
        elif name == "CATEGORY":
            category = str(value)
            plain = _CLASSES.get(category.replace("_NOT_", "_"), _ALL)
            found |= (_ALL - plain) if "_NOT_" in category else plain
        else:
            return _ALL
    if is_negated:
        return (_ALL - found) | frozenset(range(128, 256))
    return frozenset(found)


def _name(node: _Node) -> str:
    return str(node[0])


def _is_anchor(node: _Node, *names: str) -> bool:
    return _name(node) == "AT" and str(node[1]) in names


def _is_end(node: _Node) -> bool:
    return _is_anchor(node, "AT_END", "AT_END_STRING")


def _is_anything(node: _Node) -> bool:
    """Whether a node is `.*`."""
    if _name(node) not in ("MAX_REPEAT", "MIN_REPEAT"):
        return False
    least, most, body = node[1]
    return least == 0 and str(most) == "MAXREPEAT" and [_name(each) for each in body] == ["ANY"]


def _is_element_end(node: _Node, *, must_end: bool) -> bool:
    """Whether a node is `(/|$)` or, at the end of a whole pattern, `(/.*)?`: the next element of the path follows."""
    while _name(node) == "SUBPATTERN":
        inner = list(node[1][-1])
        if len(inner) != 1:
            return False
        node = inner[0]
    if _name(node) == "BRANCH" and not must_end:
        ends = [list(each) for each in node[1][1]]
        return len(ends) == 2 and any(_is_slash(each) for each in ends) and any(map(_is_end_only, ends))
    if _name(node) in ("MAX_REPEAT", "MIN_REPEAT") and must_end:
        least, most, body = node[1]
        return (least, most) == (0, 1) and _is_below(list(body))
    return False


def _is_slash(nodes: Sequence[_Node]) -> bool:
    return len(nodes) == 1 and nodes[0] == (nodes[0][0], ord("/")) and _name(nodes[0]) == "LITERAL"


def _is_end_only(nodes: Sequence[_Node]) -> bool:
    return len(nodes) == 1 and _is_end(nodes[0])


def _is_below(nodes: Sequence[_Node]) -> bool:
    """Whether nodes are `/.*`, in a group or not."""
    while len(nodes) == 1 and _name(nodes[0]) == "SUBPATTERN":
        nodes = list(nodes[0][1][-1])
    return len(nodes) == 2 and _is_slash(nodes[:1]) and _is_anything(nodes[1])
