"""JSON text becomes documents, decoded straight into structs.

Takes the text of one file, gives its documents: one, or several in a row. Raises ManifestError at the first that is
not JSON, since nothing says where the next would start. Must not know kinds.
"""

import json
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from maesh_core.discovery.values import Body, Document, Head, convert_value, drop_nulls
from maesh_core.errors import ManifestError
from maesh_core.model.resources import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)

_WHITESPACE = " \t\r\n"


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


_HEAD_DECODER = msgspec.json.Decoder(Head)
_ITEMS_DECODER = msgspec.json.Decoder(_Items)


class JsonBody:
    """A document that is still JSON."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        self._raw = raw

    def read_head(self) -> Head:
        """Read apiVersion and kind."""
        return _HEAD_DECODER.decode(self._raw)

    def read_items(self) -> Iterable[Body]:
        """Read the items of a list; none when there are none."""
        return [JsonBody(raw) for raw in _ITEMS_DECODER.decode(self._raw).items or ()]

    def decode(self, type_: type[ResourceT]) -> ResourceT:
        """Decode as a resource."""
        try:
            return msgspec.json.decode(self._raw, type=type_)
        except msgspec.ValidationError:
            # Only what does not fit as it stands pays for being put right.
            return convert_value(drop_nulls(msgspec.json.decode(self._raw)), type_)


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
    """Tell the usual case without building the values, which takes ten times the text's size in memory."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _skip_whitespace(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position
