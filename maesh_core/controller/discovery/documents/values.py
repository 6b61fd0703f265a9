"""Plain values of a document become typed resources.

Takes dicts, lists and scalars as a parser gave them, gives structs of `model/resources.py` or raises
msgspec.ValidationError, which names the field. What `kubectl` users write loosely is put right here: nulls, and
labels and annotations that are numbers. Must not know files.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from maesh_core.model.resources import Resource, ResourceKind

MAX_DEPTH = 128
"""How deep a document may nest. Kubernetes objects stay under 40; parsers recurse, and deeper is an attack."""

TEXT_FIELDS = ("labels", "annotations")
"""The maps of `metadata` whose values are always text."""


class Head(msgspec.Struct, frozen=True):
    """What says which kind of object a document holds."""

    api_version: str | None = msgspec.field(default=None, name="apiVersion")
    kind: str | None = None


class Body(Protocol):
    """A document, or an item of a list, in the form its parser gave it. What does not fit: msgspec.ValidationError."""

    def read_head(self) -> Head:
        """Read apiVersion and kind."""

    def read_items(self) -> "Iterable[Body]":
        """Read the items of a list; none when there are none."""

    def decode(self, kind: ResourceKind) -> Resource:
        """Decode as a resource of a kind."""


class Document(NamedTuple):
    """One document of a file: its number among the documents that are not empty, from 1, and the line it starts at."""

    number: int
    line: int
    body: Body


def convert_value(value: Any, kind: ResourceKind) -> Resource:
    """Build a resource of a document's plain value. Raises msgspec.ValidationError, which names the field.

    Nulls count as absent, but not in the fields of a kind that reads them strictly: there a null may be a slip.
    """
    if kind.read is None:
        return kind.decode(_with_text_metadata(drop_nulls(value)))
    if isinstance(value, dict) and "metadata" in value:
        value = {**value, "metadata": drop_nulls(value["metadata"])}
    return kind.decode(_with_text_metadata(value))


def drop_nulls(value: Any) -> Any:
    """Leave out the entries of mappings that are null, which Kubernetes takes as absent. Raises RecursionError."""
    return _drop_nulls(value, 0, {})


def _drop_nulls(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """Copy a value; a part that is there several times, as YAML's aliases make it, stays one."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if not isinstance(value, dict | list):
        return value
    if id(value) not in known:
        known[id(value)] = (
            {key: _drop_nulls(item, depth + 1, known) for key, item in value.items() if item is not None}
            if isinstance(value, dict)
            else [_drop_nulls(item, depth + 1, known) for item in value]
        )
    return known[id(value)]


def _with_text_metadata(value: Any) -> Any:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict):
        return value
    texts = {name: metadata[name] for name in TEXT_FIELDS if isinstance(metadata.get(name), dict)}
    if all(isinstance(text, str) for mapping in texts.values() for text in mapping.values()):
        return value
    fixed = {name: {key: _to_text(item) for key, item in mapping.items()} for name, mapping in texts.items()}
    return {**value, "metadata": {**metadata, **fixed}}


def _to_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
