"""Converts the plain values of a document to typed resources.

Takes dicts, lists and scalars from a parser; returns structs of `model/resources.py`, or raises
msgspec.ValidationError, which names the field. Corrects what `kubectl` tolerates: nulls, and labels and annotations
that are numbers. Must not know files.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from maesh_core.model.resources import Resource, ResourceKind

MAX_DEPTH = 128
"""Limit of nesting in a document. Kubernetes objects have less than 40 levels; parsers recurse, and deeper documents
are attacks."""

TEXT_FIELDS = ("labels", "annotations")
"""The maps of `metadata` whose values are always text."""


class Head(msgspec.Struct, frozen=True):
    """The fields that name a document's kind."""

    api_version: str | None = msgspec.field(default=None, name="apiVersion")
    kind: str | None = None


class Body(Protocol):
    """A document, or an item of a list, as its parser returned it. Its methods raise msgspec.ValidationError."""

    def read_head(self) -> Head:
        """Read apiVersion and kind."""

    def read_items(self) -> "Iterable[Body]":
        """Read the items of a list; none when there are none."""

    def decode(self, kind: ResourceKind) -> Resource:
        """Decode as a resource of a kind."""


class Document(NamedTuple):
    """One document of a file: its number among the non-empty documents, from 1, and its first line."""

    number: int
    line: int
    body: Body


def convert_value(value: Any, kind: ResourceKind, *, has_nulls: bool = True) -> Resource:
    """Build a resource from a document's plain value. Raises msgspec.ValidationError, which names the field.

    Nulls count as absent, except in the fields of a kind that is read strictly, where a null may be a mistake.
    `has_nulls`: whether there may be nulls; if not, they are not looked for.
    """
    if not has_nulls:
        return kind.decode(_with_text_metadata(value))
    if kind.read is None:
        return kind.decode(_with_text_metadata(drop_nulls(value)))
    if isinstance(value, dict) and "metadata" in value:
        value = {**value, "metadata": drop_nulls(value["metadata"])}
    return kind.decode(_with_text_metadata(value))


def drop_nulls(value: Any) -> Any:
    """Remove the entries of mappings that are null, which Kubernetes treats as absent. Raises RecursionError."""
    return _drop_nulls(value, 0, {})


def _drop_nulls(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """Copy a value; a part that is shared, as by YAML's aliases, stays shared."""
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
