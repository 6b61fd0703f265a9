"""Where findings are: the file and line of an object, and of the field or annotation that a text names.

Takes origins, as discovery has them (`path document 2 line 10 items[3]`). Reads the file again, composes the document
and looks for the field. A place that is not found is that of the object. Large documents are not composed.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from maesh_core.controller.discovery.documents.values import MAX_DEPTH
from maesh_core.controller.discovery.manifests.files import read_content
from maesh_core.errors import ManifestError
from maesh_core.model.annotations import PREFIXES, TRAFFIC_TYPE

DOCUMENT_LIMIT_BYTES = 256 * 1024
"""Larger documents are not composed: it takes about a second for each 4 MiB."""
DOCUMENTS_LIMIT = 1000
"""Limit of composed documents in one check."""
_read_origin = re.compile(r"(?P<path>.*?)(?: document \d+ line (?P<line>\d+)(?P<items>(?: items\[\d+\])*))?", re.DOTALL)
_find_separator = re.compile(rb"^---(?=\s|\Z)", re.MULTILINE).search
_find_steps = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]").finditer
_find_field = re.compile(r"(?<![\w.])([a-z]\w*(?:\[\d+\]|\.[a-z]\w*)+)(?=[: ])").finditer
"""Finds paths of fields with at least one dot or index, such as `spec.backend` and `rules[0].filters`."""
_TYPE_TEXT = "no enabled plugin supports traffic type"
_find_annotation = re.compile(r"annotations? (\S+?)(?=[: ])").search


class Place(NamedTuple):
    """A file as the user wrote it, and a line from 1; 0 if the line is not known."""

    file: str
    line: int = 0


class PlaceFinder:
    """Finds lines; remembers the documents that it has read."""

    def __init__(self) -> None:
        self._files: dict[str, list[bytes]] = {}
        self._documents: dict[tuple[str, int], Any] = {}

    def __repr__(self) -> str:
        return f"<PlaceFinder {len(self._documents)} documents>"

    def find(self, origin: str, text: str = "", field: str = "") -> Place:
        """Find the place of an object or, if it is known, that of a field; `text` may name one."""
        match = _read_origin.fullmatch(origin)
        if match is None or match["line"] is None:
            return Place(origin)
        place = Place(match["path"], int(match["line"]))
        items = [int(each) for each in re.findall(r"\d+", match["items"] or "")]
        fields = list(_list_fields(text, field))
        node = _find_item(self._read_document(place), items) if items or fields else None
        if node is None:
            return place
        lines = [_find_line(node, each) for each in fields]
        found = next((line for line, is_exact in lines if is_exact), 0) or next((line for line, _ in lines if line), 0)
        return Place(place.file, place.line + (found or node.start_mark.line))

    def _read_document(self, place: Place) -> Any:
        """Compose a document; None if that is not possible."""
        key = (place.file, place.line)
        if key not in self._documents:
            if len(self._documents) >= DOCUMENTS_LIMIT:
                return None
            self._documents[key] = self._compose(place)
        return self._documents[key]

    def _compose(self, place: Place) -> Any:
        if place.file not in self._files:
            try:
                self._files[place.file] = read_content(place.file, place.file)[1].splitlines(keepends=True)
            except ManifestError:
                self._files[place.file] = []
        rest = b"".join(self._files[place.file][place.line - 1 :])
        end = _find_separator(rest, 1)
        content = rest[: end.start()] if end else rest
        if len(content) > DOCUMENT_LIMIT_BYTES:
            return None
        try:
            if _measure_depth(content) > MAX_DEPTH:  # composing recurses, and would end the process
                return None
            return yaml.compose(content, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, UnicodeError, RecursionError):
            return None


def _measure_depth(content: bytes) -> int:
    """Measure how deep mappings and lists of YAML nest. Raises yaml.YAMLError."""
    depth = deepest = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                return deepest
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest


def _list_fields(text: str, field: str) -> Iterator[tuple[str, ...]]:
    """List the paths of fields that a finding may mean, the likeliest first."""
    if field:
        yield _split(field)
    annotation = _find_annotation(text)
    name = TRAFFIC_TYPE if _TYPE_TEXT in text else annotation[1] if annotation is not None else ""
    for prefix in ("", *PREFIXES) if name else ():
        yield ("metadata", "annotations", f"{prefix}{name}")
    for match in _find_field(text):
        steps = _split(match[1])
        yield steps
        yield ("spec", *steps)
    port = re.match(r"port (\d+)", text)
    if port is not None:
        yield ("spec", "ports", f"port={port[1]}")


def _split(field: str) -> tuple[str, ...]:
    return tuple(match[1] or match[2] for match in _find_steps(field))


def _find_item(node: Any, items: list[int]) -> Any:
    for index in items:
        node = _step(_step(node, "items"), str(index))
    return node


def _find_line(node: Any, steps: tuple[str, ...]) -> tuple[int, bool]:
    """Find the line of a field in a document, from 0, and whether it is there; else its owner's, and 0 without one."""
    line = 0
    for step in steps:
        is_item = isinstance(node, yaml.SequenceNode)
        key = None if is_item else _find_key(node, step)
        node = _step(node, step)
        if node is None:
            return line, False
        line = int(node.start_mark.line if key is None else key.start_mark.line)
    return line, True


def _find_key(node: Any, name: str) -> Any:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((key for key, _ in node.value if key.value == name), None)


def _step(node: Any, step: str) -> Any:
    """Follow a step of a path: a key, an index, or the item whose field has a value (`port=80`)."""
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode):
        if step.isdecimal():
            return node.value[int(step)] if int(step) < len(node.value) else None
        name, _, wanted = step.partition("=")
        return next((item for item in node.value if getattr(_step(item, name), "value", None) == wanted), None)
    return None
