"""Reads what clients accept, and which responses may be compressed: Accept-Encoding, media types, entity tags.

Pure functions over bytes of header fields, which are untrusted: a field that cannot be read accepts nothing.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

CACHED_VALUES: Final = 256
"""Values of Accept-Encoding, and media types, whose meaning is cached: there are few different ones."""
VALUE_LIMIT_BYTES: Final = 256
"""Longer values of Accept-Encoding accept nothing, and longer media types are in no list."""
_match_item: Final = re.compile(rb"[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*(?:;[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*)?")


@lru_cache(maxsize=CACHED_VALUES)
def choose_coding(accepted: bytes, codings: Sequence[str]) -> str:
    """Return the coding that a client prefers (RFC 9110 section 12.5.3); the first one of equals. Empty: none.

    `codings` are those of the service, in its order. A client that prefers no coding gets none.
    """
    weights = _read_weights(accepted)
    if weights is None:
        return ""
    others = weights.get(b"*", 0.0)
    best, best_weight = "", weights.get(b"identity", 0.0)
    for coding in codings:
        weight = weights.get(coding.encode(), others)
        if coding == "gzip" and b"gzip" not in weights:
            weight = weights.get(b"x-gzip", others)
        if weight and (weight > best_weight or (not best and weight == best_weight)):
            best, best_weight = coding, weight
    return best


def _read_weights(accepted: bytes) -> dict[bytes, float] | None:
    """Return the weights of the codings that a client lists; None if the field is not valid."""
    weights: dict[bytes, float] = {}
    if len(accepted) > VALUE_LIMIT_BYTES:
        return None
    for item in accepted.lower().split(b","):
        if not item.strip(b" \t"):
            continue
        match = _match_item.fullmatch(item)
        if match is None:
            return None
        weights[match[1]] = min(1.0, float(match[2] or b"1"))
    return weights


class MediaTypes:
    """The media types of one service; `includes` finds those of responses."""

    __slots__ = ("_exact", "_suffixes", "_wild")

    def __init__(self, types: Iterable[str]) -> None:
        listed = [each.encode() for each in types]
        self._wild = frozenset(each[:-1] for each in listed if each.endswith(b"/*"))
        pairs = [each.split(b"*") for each in listed if b"*+" in each]
        self._suffixes = tuple((start, end) for start, end in pairs)
        self._exact = frozenset(each for each in listed if b"*" not in each)

    def __repr__(self) -> str:
        return f"<MediaTypes {sorted(self._exact)}>"

    def includes(self, content_type: bytes) -> bool:
        """Whether a response with this Content-Type has one of the types."""
        if len(content_type) > VALUE_LIMIT_BYTES:
            return False
        name = content_type.partition(b";")[0].strip(b" \t").lower()
        if name in self._exact or name[: name.find(b"/") + 1] in self._wild:
            return True
        return any(name.startswith(start) and name.endswith(end) for start, end in self._suffixes)


def has_option(values: Iterable[bytes], option: bytes) -> bool:
    """Whether a list field contains an option, such as `no-transform` in Cache-Control."""
    return any(option == each.strip(b" \t").lower() for value in values for each in value.split(b","))


def weaken_tag(tag: bytes) -> bytes:
    """Return an entity tag as a weak one: the compressed response is equivalent, but not equal byte for byte."""
    return b"W/" + tag if tag.startswith(b'"') else tag
