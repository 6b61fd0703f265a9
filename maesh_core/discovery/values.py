"""Plain values of a document become typed resources.

Takes dicts, lists and scalars as a parser gave them, gives structs of `model/resources.py` or raises
msgspec.ValidationError, which names the field. What `kubectl` users write loosely is put right here: nulls, and
labels and annotations that are numbers. Must not know files.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from maesh_core.model.resources import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)

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

    def decode(self, type_: type[ResourceT]) -> ResourceT:
        """Decode as a resource."""


class Document(NamedTuple):
    """One document of a file: its number among the documents that are not empty, from 1, and the line it starts at."""

    number: int
    line: int
    body: Body


def convert_value(value: Any, type_: type[ResourceT]) -> ResourceT:
    """Build a resource of a document's plain value. Raises msgspec.ValidationError, which names the field."""
    return msgspec.convert(_with_text_metadata(value), type_)


def drop_nulls(value: Any, depth: int = 0) -> Any:
    """Leave out the entries of mappings that are null, which Kubernetes takes as absent. Raises RecursionError."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {key: drop_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item, depth + 1) for item in value]
    return value


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
