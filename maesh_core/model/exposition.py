"""Renders metric families for Prometheus, and reads the metrics of this process.

A proxy's admin port and the controller's API serve both. Renders the text-based format, version 0.0.4
(prometheus.io/docs/instrumenting/exposition_formats), exactly as prometheus_client does, or OpenMetrics 1.0.0, which
has exemplars, if the client accepts it. That library would cost each process 8 MB, for its servers and OpenSSL.
"""

import math
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from maesh_core.model.metrics import Exemplar, Histogram, MetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text"

_INVALID_CHARACTERS = re.compile(r"[^a-zA-Z0-9_:]")
_TOTAL = "_total"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_EXPONENT_FROM = 1e6
"""Go writes numbers from here on with an exponent, and Prometheus identifies a bucket by the text of its bound."""


def render_page(sources: Iterable[Callable[[], Sequence[MetricFamily]]], accept: str = "") -> tuple[bytes, str]:
    """Read every source, and render what they return; families with the same name are merged.

    `accept` is the field Accept of the request. Returns the page and its content type.
    """
    families: dict[str, list[MetricFamily]] = {}
    for source in sources:
        for family in source():
            families.setdefault(family.name, []).append(family)
    if _OPENMETRICS in accept:
        return render_families(families, is_openmetrics=True) + b"# EOF\n", OPENMETRICS_CONTENT_TYPE
    return render_families(families), CONTENT_TYPE


def render_families(families: Mapping[str, Sequence[MetricFamily]], *, is_openmetrics: bool = False) -> bytes:
    """Render families, sorted by name; families with the same name are merged."""
    lines: list[str] = []
    for name in sorted(families):
        lines.extend(_render_family(families[name], is_openmetrics=is_openmetrics))
    return "".join(f"{line}\n" for line in lines).encode()


def read_process_families() -> list[MetricFamily]:
    """Read the metrics of this process from /proc (proc(5)), with the names that all Prometheus clients use.

    Returns none if /proc cannot be read, as in some sandboxes.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as file:
            booted_s = float(file.read().partition(b"\nbtime ")[2].split(maxsplit=1)[0])
        open_files = len(os.listdir("/proc/self/fd"))
    except (OSError, IndexError):
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files_limit = math.inf if limit == resource.RLIM_INFINITY else limit
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    started_s = int(fields[19]) / _TICKS_PER_S + booted_s
    resident_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return [
        _build_gauge("virtual_memory_bytes", "Virtual memory size in bytes.", float(fields[20])),
        _build_gauge("resident_memory_bytes", "Resident memory size in bytes.", resident_bytes),
        _build_gauge("start_time_seconds", "Start time of the process since unix epoch in seconds.", started_s),
        MetricFamily(
            name="process_cpu_seconds_total",
            type="counter",
            help="Total user and system CPU time spent in seconds.",
            samples=(((), cpu_s),),
        ),
        _build_gauge("open_fds", "Number of open file descriptors.", open_files),
        _build_gauge("max_fds", "Maximum number of open file descriptors.", files_limit),
    ]


def _build_gauge(name: str, text: str, value: float) -> MetricFamily:
    return MetricFamily(name=f"process_{name}", type="gauge", help=text, samples=(((), value),))


def _render_family(families: Sequence[MetricFamily], *, is_openmetrics: bool) -> Iterator[str]:
    """Render the families of one name. The name of a counter's samples ends in `_total`."""
    first = families[0]
    name = title = _INVALID_CHARACTERS.sub("_", first.name)
    if first.type == "counter":
        title = name.removesuffix(_TOTAL)
        name = title + _TOTAL
        title = title if is_openmetrics else name
    text = _escape(first.help) if is_openmetrics else first.help.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {title} {text}"
    yield f"# TYPE {title} {first.type}"
    is_histogram = first.type == "histogram"
    for family in families:
        for values, value in family.samples:
            labels = dict(zip(first.labels, values, strict=False))
            if isinstance(value, Histogram):
                if is_histogram:
                    exemplars = value.exemplars if is_openmetrics else {}
                    yield from _render_histogram(name, labels, value, exemplars)
            elif not is_histogram:
                yield f"{name}{_render_labels(labels)} {_render_number(value)}"


def _render_histogram(
    name: str, labels: Mapping[str, str], histogram: Histogram, exemplars: Mapping[int, Exemplar]
) -> Iterator[str]:
    bounds = [*map(_render_number, histogram.bounds), "+Inf"]
    count = 0
    for bucket, (bound, count) in enumerate(zip(bounds, accumulate(histogram.counts), strict=True)):
        exemplar = _render_exemplar(exemplars[bucket]) if bucket in exemplars else ""
        yield f"{name}_bucket{_render_labels({**labels, 'le': bound})} {_render_number(count)}{exemplar}"
    yield f"{name}_count{_render_labels(labels)} {_render_number(count)}"
    yield f"{name}_sum{_render_labels(labels)} {_render_number(histogram.sum)}"


def _render_exemplar(exemplar: Exemplar) -> str:
    labels = _render_labels({"trace_id": exemplar.trace_id})
    return f" # {labels} {_render_number(exemplar.value)} {round(exemplar.at, 3)}"


def _render_labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{_INVALID_CHARACTERS.sub("_", name)}="{_escape(value)}"' for name, value in sorted(labels.items())]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _render_number(value: float) -> str:
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else f"{'+' if number > 0 else '-'}Inf"
    text = repr(number)
    if number < _EXPONENT_FROM or "e" in text:
        return text
    whole, _, fraction = text.partition(".")
    digits = (whole + fraction).rstrip("0")
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{mantissa}e+{len(whole) - 1:02d}"
