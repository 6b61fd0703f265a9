"""Metrics at a scrape: plain values that the admin port renders for Prometheus.

The hot path counts in plain integers and lists; nothing here runs while a request is processed. Names and labels are
defined where something is counted: those of requests in proxy/http/request_counters.py.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """Observations by upper bound, not cumulative; `counts` has one more entry than `bounds`, for larger values."""

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


class MetricFamily(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: `samples` pairs label values, in the order of `labels`, with a number or a histogram."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    samples: Sequence[tuple[tuple[str, ...], float | Histogram]] = ()
