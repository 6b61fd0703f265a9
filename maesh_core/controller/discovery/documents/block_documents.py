"""Reads YAML documents in the plain block style, which kubectl, Helm and most people write, without a YAML parser.

Takes the text of one document; returns its value, or None if the text has anything else, such as anchors, tags, block
scalars, nested flow collections, characters outside ASCII, or an error. The caller then uses the YAML parser, which
must return the same value for every document that is read here. Most manifests have only such lines, and reading them
here needs a third of the time (benchmarks/check.py). Pure.
"""

import re
from typing import Any, NamedTuple

from maesh_core.controller.discovery.documents.values import TEXT_FIELDS
from maesh_core.controller.discovery.documents.yaml_scalars import resolve_scalar

MAX_LEVELS = 64
"""Deeper documents are left to the parser, which has the limit of all documents."""

_WIDE = " " * 200
"""A document with this many spaces in a row is left to the parser: the time to find that a line does not match grows
with the square of its spaces."""

_KEY = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,250}"
_QUOTED = r"'[^'\n]*'|\"[^\"\\\n]*\""
_PLAIN = r"(?:[A-Za-z0-9_./~]|[-+](?=[0-9.]))[^ :#\n]*(?:(?::(?=[^ \n])|#| +(?=[^ #\n]))[^ :#\n]*)*"
"""A scalar in one line: `: ` would make it a key, and ` #` begins a comment."""
_ITEM = rf"(?:{_QUOTED}|[A-Za-z0-9_./~][A-Za-z0-9_./~-]*)"
_PAIR = rf"{_KEY}: +{_ITEM}"
_LIST = rf"\[ *(?:{_ITEM}(?: *, *{_ITEM})*)? *\]"
_MAPPING = rf"\{{ *(?:{_PAIR}(?: *, *{_PAIR})*)? *\}}"
_VALUE = rf"{_QUOTED}|{_LIST}|{_MAPPING}|{_PLAIN}"
_find_lines = re.compile(
    rf"^( *)(- +)?(?:({_KEY}):(?: +({_VALUE}))?|({_VALUE}))?(?: +#[^\n]*| *)$|^ *#[^\n]*$|^([^\n]+)$", re.MULTILINE
).findall
"""Each line as indentation, dash, key, value of the key, value without a key, and what is none of these."""
_find_items = re.compile(_ITEM).findall
_find_pairs = re.compile(rf"({_KEY}): +({_ITEM})").findall
_find_unusual = re.compile(r"[^\n -~]").search
_is_separator = re.compile(r"---(?: +#[^\n]*| *)").fullmatch

_SEQUENCE, _MAPPING_OF_VALUES, _METADATA, _MAPPING_OF_TEXTS = range(4)
"""What a collection is; the values of `labels` and `annotations` of `metadata` are texts."""
_Frame = tuple[int, Any, int]
"""A collection that may continue: its column, its value, and what it is."""


class _UnusualError(Exception):
    """A document is not in plain block style."""


class BlockDocument(NamedTuple):
    """A document: the line of its first key, from 0, its value, the number of its values, and whether one is null.

    Mappings and sequences count twice.
    """

    line: int
    value: Any
    nodes: int
    has_nulls: bool


def read_block_document(chunk: str) -> BlockDocument | None:
    """Read a document, which may begin with its separator; None if it is not in plain block style."""
    if not chunk.isascii() or _WIDE in chunk or _find_unusual(chunk) is not None:
        return None
    first = 0
    if chunk.startswith("---"):
        separator, _, chunk = chunk.partition("\n")
        if _is_separator(separator) is None:
            return None
        first = 1
    try:
        return _Reader().read(chunk, first)
    except _UnusualError:
        return None


class _Reader:
    """Builds the value of one document from its lines."""

    __slots__ = ("_frames", "_has_nulls", "_nodes", "_open_key")

    def __init__(self) -> None:
        self._frames: list[_Frame] = [(0, {}, _MAPPING_OF_VALUES)]
        self._open_key: str | None = None
        """The key of the innermost mapping whose value is in the next lines, or is null."""
        self._nodes = 2
        self._has_nulls = False

    def read(self, text: str, first: int) -> BlockDocument | None:
        """Read lines, of which the first one has the number `first`."""
        begin = -1
        for number, (indentation, dash, key, value, item, other) in enumerate(_find_lines(text), first):
            if dash:
                is_read = self._add_item(len(indentation), dash, key, value, item)
            elif key:
                is_read = self._enter(len(indentation), is_item=False) and self._add_entry(key, value)
            elif item or other:
                return None
            else:
                continue  # blank, or a comment
            if not is_read:
                return None
            begin = number if begin < 0 else begin
        if begin < 0:
            return None
        self._enter(0, is_item=False)
        return BlockDocument(begin, self._frames[0][1], self._nodes, self._has_nulls)

    def _add_item(self, column: int, dash: str, key: str, value: str, item: str) -> bool:
        if not self._enter(column, is_item=True):
            return False
        items = self._frames[-1][1]
        if key:
            items.append(self._push(column + len(dash), {}, _MAPPING_OF_VALUES))
            return self._add_entry(key, value)
        if item:
            items.append(self._read_value(item, _SEQUENCE, ""))
        return bool(item)

    def _add_entry(self, key: str, value: str) -> bool:
        _, mapping, kind = self._frames[-1]
        if key in mapping:
            return False
        self._nodes += 1
        if value:
            mapping[key] = self._read_value(value, kind, key)
        else:
            self._open_key = key
        return True

    def _enter(self, column: int, *, is_item: bool) -> bool:
        """Open or close collections for a line that begins at a column; False if the line fits to none."""
        frames = self._frames
        if self._open_key is not None:
            self._open_value(self._open_key, column, is_item=is_item)
            self._open_key = None
        top = frames[-1]
        while column < top[0] or (column == top[0] and top[2] == _SEQUENCE and not is_item):
            frames.pop()
            top = frames[-1]
        return column == top[0] and is_item == (top[2] == _SEQUENCE) and len(frames) <= MAX_LEVELS

    def _open_value(self, key: str, column: int, *, is_item: bool) -> None:
        """Begin the value of a key, a collection at this column; without one it is null."""
        parent_column, mapping, kind = self._frames[-1]
        if column > parent_column or (is_item and column == parent_column):
            child: Any = [] if is_item else {}
            mapping[key] = self._push(column, child, _SEQUENCE if is_item else _choose_kind(kind, key))
        else:
            mapping[key] = None
            self._has_nulls = True
            self._nodes += 1

    def _push(self, column: int, value: Any, kind: int) -> Any:
        self._frames.append((column, value, kind))
        self._nodes += 2
        return value

    def _read_value(self, text: str, kind: int, key: str) -> Any:
        """Read a value in one line: of a key in a mapping of a kind, or an item."""
        begin = text[0]
        if begin == "[":
            return self._read_flow_list(text)
        if begin == "{":
            return self._read_flow_mapping(text, _choose_kind(kind, key))
        self._nodes += 1
        if begin in "'\"":
            return text[1:-1]
        value = resolve_scalar(text)
        if value is None:
            self._has_nulls = True
        return value if value is None or kind != _MAPPING_OF_TEXTS else text

    def _read_flow_list(self, text: str) -> list[Any]:
        self._nodes += 2
        return [self._read_value(item, _SEQUENCE, "") for item in _find_items(text[1:-1])]

    def _read_flow_mapping(self, text: str, kind: int) -> dict[str, Any]:
        """Read a mapping in one line. Raises _UnusualError if a key is repeated."""
        pairs = _find_pairs(text[1:-1])
        self._nodes += 2 + len(pairs)
        mapping = {key: self._read_value(value, kind, key) for key, value in pairs}
        if len(mapping) < len(pairs):
            raise _UnusualError
        return mapping


def _choose_kind(parent: int, key: str) -> int:
    """Choose the kind of a mapping from that of its parent, and its key there."""
    if parent == _METADATA and key in TEXT_FIELDS:
        return _MAPPING_OF_TEXTS
    return _METADATA if key == "metadata" and parent != _SEQUENCE else _MAPPING_OF_VALUES
