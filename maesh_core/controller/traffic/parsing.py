"""Parses a proxy's answer for `/traffic`: takes bytes, and returns a `ProxyTraffic` or raises NodeUnreachableError.

The answer is untrusted. Families that are not wanted are skipped without being decoded, and one that cannot be decoded
is left out, so that a proxy of another version still counts.
"""

from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from maesh_core.controller.traffic.wanted_metrics import LABELS_BY_TYPE
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic

FAMILIES_LIMIT = 1_000
"""Limit of families that are examined; a proxy has a few dozen."""


class _Document(msgspec.Struct):
    interval_s: float
    now: list[msgspec.Raw]
    before: list[msgspec.Raw] = []
    uptime_s: float = 0.0


class _Head(msgspec.Struct):
    name: str
    type: str


class _Numbers(msgspec.Struct):
    labels: tuple[str, ...] = ()
    samples: list[tuple[tuple[str, ...], float]] = []


class _Histograms(msgspec.Struct):
    labels: tuple[str, ...] = ()
    samples: list[tuple[tuple[str, ...], Histogram]] = []


_decode_document = msgspec.json.Decoder(_Document).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "counter": msgspec.json.Decoder(_Numbers),
    "gauge": msgspec.json.Decoder(_Numbers),
    "histogram": msgspec.json.Decoder(_Histograms),
}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_traffic(body: bytes) -> Generator[None, None, ProxyTraffic]:
    """Parse an answer, family by family; raises NodeUnreachableError if it is not one for `/traffic`."""
    try:
        document = _decode_document(body)
    except _UNREADABLE as error:
        raise NodeUnreachableError("the proxy's answer is not its traffic") from error
    return ProxyTraffic(
        interval_s=document.interval_s,
        uptime_s=document.uptime_s,
        now=(yield from _parse_families(document.now)),
        before=(yield from _parse_families(document.before)),
    )


def _parse_families(raws: Sequence[msgspec.Raw]) -> Generator[None, None, tuple[MetricFamily, ...]]:
    found = []
    for raw in raws[:FAMILIES_LIMIT]:
        family = _parse_family(raw)
        if family is not None:
            found.append(family)
            yield
    return tuple(found)


def _parse_family(raw: msgspec.Raw) -> MetricFamily | None:
    """Parse a family; None if it is not wanted or cannot be read."""
    try:
        head = _decode_head(raw)
        if head.name not in LABELS_BY_TYPE.get(head.type, ()):
            return None
        content = _DECODERS[head.type].decode(raw)
    except _UNREADABLE:
        return None
    type_: Any = head.type  # one of the keys of LABELS_BY_TYPE
    return MetricFamily(name=head.name, type=type_, help="", labels=content.labels, samples=content.samples)
