"""Parses JSON text into documents, which are decoded directly into structs.

Takes the text of one file; returns its documents, one or several in a row. Raises ManifestError at the first one that
is not JSON, because the start of the next one is unknown. Must not know kinds.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from maesh_core.controller.discovery.documents.values import Body, Document, Head, convert_value
from maesh_core.errors import ManifestError
from maesh_core.model.resources import Resource, ResourceKind

_WHITESPACE = " \t\r\n"


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


_HEAD_DECODER = msgspec.json.Decoder(Head)
_ITEMS_DECODER = msgspec.json.Decoder(_Items)


class JsonBody:
    """A document as JSON text."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        self._raw = raw

    def read_head(self) -> Head:
        """Read apiVersion and kind."""
        return _HEAD_DECODER.decode(self._raw)

    def read_items(self) -> Iterable[Body]:
        """Read the items of a list; an absent list has none."""
        return [JsonBody(raw) for raw in _ITEMS_DECODER.decode(self._raw).items or ()]

    def decode(self, kind: ResourceKind) -> Resource:
        """Decode as a resource of a kind."""
        if kind.read is not None:
            return convert_value(self._read_mappings(), kind)
        try:
            return msgspec.json.decode(self._raw, type=kind.type)
        except msgspec.ValidationError:
            # Only objects that do not fit are corrected, which costs time.
            return convert_value(msgspec.json.decode(self._raw), kind)

    def _read_mappings(self) -> Any:
        try:
            return json.loads(bytes(self._raw), object_pairs_hook=_build_mapping)
        except ValueError as error:  # such as a number of more digits than Python reads
            raise msgspec.ValidationError(str(error)) from error


def _build_mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a mapping without duplicate keys, as in YAML: otherwise one of two limits would be lost."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for index, name in enumerate(names) if name in names[:index])
        raise msgspec.ValidationError(f"key {twin[:80]!r} appears twice in one mapping")
    return mapping


def parse_json_documents(text: str, path: str) -> Iterator[Document]:
    """Split text into its JSON documents; nulls count as empty. Raises ManifestError."""
    start = _skip_whitespace(text, 0)
    if text.startswith("{", start) and _is_one_value(text):
        yield Document(1, 1 + text.count("\n", 0, start), JsonBody(text.encode()))
        return
    scan = json.JSONDecoder().raw_decode
    end, number, line, counted = start, 0, 1, 0
    while end < len(text):
        start = end
        line += text.count("\n", counted, start)
        counted = start
        try:
            value, end = scan(text, start)
        except json.JSONDecodeError as error:
            origin = f"{path} document {number + 1} line {line + text.count(chr(10), start, error.pos)}"
            raise ManifestError(origin, f"not JSON: {error.msg}") from error
        except (RecursionError, ValueError) as error:
            raise ManifestError(f"{path} document {number + 1} line {line}", f"not JSON: {error}") from error
        if value is not None:
            number += 1
            yield Document(number, line, JsonBody(text[start:end].encode()))
        end = _skip_whitespace(text, end)


def _is_one_value(text: str) -> bool:
    """Detect the usual case without building the values, which takes ten times the text's size in memory."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _skip_whitespace(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position
