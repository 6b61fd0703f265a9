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
STEP = 1_000
"""Samples that are decoded without a pause, which takes about a millisecond."""


class _Document(msgspec.Struct):
    interval_s: float
    now: list[msgspec.Raw]
    before: list[msgspec.Raw] = []
    uptime_s: float = 0.0


class _Head(msgspec.Struct):
    name: str
    type: str


class _Content(msgspec.Struct):
    labels: tuple[str, ...] = ()
    samples: list[msgspec.Raw] = []


_decode_document = msgspec.json.Decoder(_Document).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_content = msgspec.json.Decoder(_Content).decode
_NUMBER_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(tuple[tuple[str, ...], float])
_SAMPLE_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "counter": _NUMBER_DECODER,
    "gauge": _NUMBER_DECODER,
    "histogram": msgspec.json.Decoder(tuple[tuple[str, ...], Histogram]),
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
        family = yield from _parse_family(raw)
        if family is not None:
            found.append(family)
            yield
    return tuple(found)


def _parse_family(raw: msgspec.Raw) -> Generator[None, None, MetricFamily | None]:
    """Parse a family; None if it is not wanted or cannot be read."""
    try:
        head = _decode_head(raw)
        if head.name not in LABELS_BY_TYPE.get(head.type, ()):
            return None
        content = _decode_content(raw)
        decode = _SAMPLE_DECODERS[head.type].decode
        samples = []
        for start in range(0, len(content.samples), STEP):
            samples += [decode(each) for each in content.samples[start : start + STEP]]
            yield
    except _UNREADABLE:
        return None
    type_: Any = head.type  # one of the keys of LABELS_BY_TYPE
    return MetricFamily(name=head.name, type=type_, help="", labels=content.labels, samples=samples)
