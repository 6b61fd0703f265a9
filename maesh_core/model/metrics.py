"""Metrics at a scrape: plain values that the admin port renders for Prometheus.

The hot path counts in plain integers and lists; nothing here runs while a request is processed. Names and labels are
defined where something is counted: those of requests in proxy/http/request_counters.py.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

OTHER: Final = "other"
"""The value of a label in the sum of those that are not counted apart, such as clients above the limit."""


class Exemplar(msgspec.Struct, frozen=True):
    """One observation of a bucket and the trace that it belongs to, as OpenMetrics defines it."""

    trace_id: str
    value: float
    at: float
    """Unix time."""


class Histogram(msgspec.Struct, frozen=True, omit_defaults=True):
    """Observations by upper bound, not cumulative; `counts` has one more entry than `bounds`, for larger values.

    `exemplars` has at most one observation of each bucket, by the bucket's index.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float
    exemplars: Mapping[int, Exemplar] = {}


class MetricFamily(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: `samples` pairs label values, in the order of `labels`, with a number or a histogram."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    samples: Sequence[tuple[tuple[str, ...], float | Histogram]] = ()
