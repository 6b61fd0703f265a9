"""Parses YAML text into documents of plain values, like Kubernetes, but more strictly.

Takes the text of one file; returns its documents, and errors for malformed ones. The text is split first, so that a
malformed document does not affect the others. Only tags of plain values are allowed, no dates and no duplicate keys.
Aliases count at their full size, so that the limits below bound memory and time. Must not know kinds.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from maesh_core.controller.discovery.documents.block_documents import read_block_document
from maesh_core.controller.discovery.documents.values import MAX_DEPTH, TEXT_FIELDS, Body, Document, Head, convert_value
from maesh_core.controller.discovery.documents.yaml_scalars import resolve_scalar
from maesh_core.errors import ManifestError
from maesh_core.model.resources import Resource, ResourceKind

_Event = Any
"""One of yaml.events; its attributes depend on its class, which is checked first."""

MAX_NODES = 4_000_000
"""Limit of values in a file; mappings and lists count twice, aliases at full size. 5,000 services with 10 servers each
are 1,600,000."""

_SEPARATOR = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset({None, *(_TAG + name for name in ("bool", "float", "int", "null"))})
_TEXT_TAGS = frozenset({"!", _TAG + "str"})
_CONTAINER_TAGS = frozenset({None, "!", _TAG + "map", _TAG + "seq"})


class YamlBody:
    """A document as plain values."""

    __slots__ = ("_has_nulls", "_value")

    def __init__(self, value: Any, *, has_nulls: bool = True) -> None:
        self._value = value
        self._has_nulls = has_nulls
        """Whether the value may have nulls."""

    @property
    def value(self) -> Any:
        """The document itself, for readers of files that are no manifests."""
        return self._value

    def read_head(self) -> Head:
        """Read apiVersion and kind."""
        return msgspec.convert(self._value, Head)

    def read_items(self) -> Iterable[Body]:
        """Read the items of a list; none when there are none."""
        return [
            YamlBody(item, has_nulls=self._has_nulls)
            for item in msgspec.convert(self._value.get("items") or [], list[Any])
        ]

    def decode(self, kind: ResourceKind) -> Resource:
        """Decode as a resource of a kind."""
        return convert_value(self._value, kind, has_nulls=self._has_nulls)


def parse_yaml_documents(text: str, path: str) -> Iterator[Document | ManifestError]:
    """Split text into its YAML documents; each is returned, or its error. Empty documents are left out."""
    budget = Budget(MAX_NODES)
    number = 0
    for line, chunk in _split(text):
        try:
            for document_line, body in _read_chunk(chunk, budget):
                number += 1
                yield Document(number, line + document_line, body)
        except yaml.YAMLError as error:
            number += 1
            yield ManifestError(f"{path} document {number} line {line + _find_line(error, chunk)}", _describe(error))
        if budget.left < 0:
            return


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield each part between separators with its first line; the separator stays in it, as its first line."""
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    line, start = 1, 0
    for end in [*starts, len(text)]:
        chunk = text[start:end]
        if not _is_preamble(chunk):
            yield line, chunk
        line += chunk.count("\n")
        start = end


def _is_preamble(chunk: str) -> bool:
    """Whether the text has only comments and directives: `%YAML 1.1` comes before the separator."""
    if not chunk.startswith(("#", "%")):
        return False
    return all(line.startswith(("#", "%")) or not line.strip() for line in chunk.split("\n"))


class Budget:
    """The number of values that are still allowed."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, nodes: int, event: _Event) -> None:
        """Count values. Raises yaml.YAMLError at the limit."""
        self.left -= nodes
        if self.left < 0:
            raise _error(f"holds more than {MAX_NODES} values, aliases counted at full size", event)


def _read_chunk(chunk: str, budget: Budget) -> Iterator[tuple[int, YamlBody]]:
    """Read the documents of a chunk, each with its line. Raises yaml.YAMLError."""
    block = read_block_document(chunk)
    if block is not None and block.nodes <= budget.left:
        budget.left -= block.nodes
        yield block.line, YamlBody(block.value, has_nulls=block.has_nulls)
    else:
        yield from ((line, YamlBody(value)) for line, value in parse_chunk(chunk, budget) if value is not None)


def parse_chunk(chunk: str, budget: Budget) -> Iterator[tuple[int, Any]]:
    """Parse the documents of a chunk, each with its line, by the YAML parser. Raises yaml.YAMLError."""
    get_event: Callable[[], _Event] = yaml.CSafeLoader(chunk).get_event
    while True:
        event = get_event()
        if event.__class__ is StreamEndEvent:
            return
        if event.__class__ is DocumentStartEvent:
            first = get_event()
            yield int(first.start_mark.line), _Builder(get_event, budget).build(first)


class _Frame:
    """A mapping or sequence that is being built. `key` is that of the next value; None if a key comes next."""

    __slots__ = ("anchor", "height", "is_metadata", "is_text", "items", "key", "left", "mapping", "merged")

    def __init__(self, event: _Event, left: int, parent: "_Frame | None") -> None:
        self.anchor: str | None = event.anchor
        self.left = left
        self.height = 1
        self.key: str | None = None
        self.items: list[Any] | None = None
        self.mapping: dict[str, Any] | None = None
        self.merged: list[dict[str, Any]] | None = None
        self.is_text = self.is_metadata = False
        if event.__class__ is MappingStartEvent:
            self.mapping = {}
            if parent is not None and parent.mapping is not None:
                self.is_metadata = parent.key == "metadata"
                self.is_text = parent.is_metadata and parent.key in TEXT_FIELDS
        else:
            self.items = []


class _Builder:
    """Builds the value of one document from the parser's events, without recursion."""

    __slots__ = ("_anchors", "_budget", "_frames", "_get_event")

    def __init__(self, get_event: Callable[[], _Event], budget: Budget) -> None:
        self._get_event = get_event
        self._budget = budget
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        """By name: value, full size in values, and height."""

    def build(self, event: _Event) -> Any:
        """Read events up to the end of the node that starts here. Raises yaml.YAMLError."""
        frame: _Frame | None = None
        budget, get_event = self._budget, self._get_event
        while True:
            budget.left -= 1
            if budget.left < 0:
                budget.spend(0, event)
            kind = event.__class__
            if kind is ScalarEvent:
                value = self._read_scalar(event, frame)
            elif kind is AliasEvent:
                value = self._read_alias(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                frame = self._open(event, frame)
                event = get_event()
                continue
            else:
                value = self._close()
                frame = self._frames[-1] if self._frames else None
            if frame is None:
                return value
            _put(frame, value, event)
            event = get_event()

    def _read_scalar(self, event: _Event, frame: _Frame | None) -> Any:
        text: str = event.value
        if event.tag not in _SCALAR_TAGS and event.tag not in _TEXT_TAGS:
            raise _error(f"tag {event.tag[:80]!r} is not allowed", event)
        is_key = frame is not None and frame.mapping is not None and frame.key is None
        value: Any = text
        if not is_key and _is_plain(event):
            value = resolve_scalar(text)
            if frame is not None and frame.is_text and value is not None:
                value = text
        elif is_key and text == "<<" and event.implicit[0] and frame is not None:
            frame.merged = frame.merged or []
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, 0)
        return value

    def _read_alias(self, event: _Event) -> Any:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise _error(f"alias {event.anchor[:80]!r} names nothing that ended before it", event)
        value, nodes, height = found
        self._budget.spend(nodes, event)
        self._check_depth(height, event)
        if self._frames:
            self._frames[-1].height = max(self._frames[-1].height, height + 1)
        return value

    def _open(self, event: _Event, parent: _Frame | None) -> _Frame:
        if event.tag not in _CONTAINER_TAGS:
            raise _error(f"tag {event.tag[:80]!r} is not allowed", event)
        if parent is not None and parent.mapping is not None and parent.key is None:
            raise _error("a key must be text", event)
        self._check_depth(1, event)
        frame = _Frame(event, self._budget.left, parent)
        self._frames.append(frame)
        return frame

    def _check_depth(self, height: int, event: _Event) -> None:
        if len(self._frames) + height > MAX_DEPTH:
            raise _error(f"nests deeper than {MAX_DEPTH} levels", event)

    def _close(self) -> Any:
        frame = self._frames.pop()
        if self._frames:
            parent = self._frames[-1]
            parent.height = max(parent.height, frame.height + 1)
        value: Any = frame.items
        if frame.mapping is not None:
            value = _finish_mapping(frame, frame.mapping)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (value, frame.left - self._budget.left, frame.height)
        return value


def _is_plain(event: _Event) -> bool:
    return bool(event.implicit[0]) or (event.tag is not None and event.tag not in _TEXT_TAGS)


def _put(frame: _Frame, value: Any, event: _Event) -> None:
    """Insert a value: into a sequence, as a key of a mapping, or as the value of the previous key."""
    mapping = frame.mapping
    if mapping is None:
        frame.items.append(value)  # type: ignore[union-attr]  # a frame has one or the other
    elif frame.key is None:
        if not isinstance(value, str):
            raise _error("a key must be text", event)
        if value in mapping:
            raise _error(f"key {value[:80]!r} appears twice in one mapping", event)
        frame.key = value
    elif frame.merged is not None and frame.key == "<<":
        frame.merged.extend(_read_merged(value, event))
        frame.key = None
    else:
        mapping[frame.key] = value
        frame.key = None


def _read_merged(value: Any, event: _Event) -> list[dict[str, Any]]:
    merged = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in merged):
        raise _error("`<<` takes a mapping or a list of mappings", event)
    return merged


def _finish_mapping(frame: _Frame, mapping: dict[str, Any]) -> dict[str, Any]:
    for merged in frame.merged or ():
        for key, value in merged.items():
            mapping.setdefault(key, value)
    return mapping


def _error(text: str, event: _Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)


def _find_line(error: yaml.YAMLError, chunk: str) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return int(mark.line)
    position = getattr(error, "position", 0)
    return chunk.encode()[:position].count(b"\n")


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        return f"not YAML: {reason}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"not YAML: {error.reason}"
    return "not YAML"
