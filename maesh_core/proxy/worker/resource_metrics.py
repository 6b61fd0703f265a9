"""The memory and the open descriptors of one worker, as metrics: read from /proc at each scrape."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maesh_core.model.metrics import MetricFamily

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def collect_worker_metrics(slot: int, process: Path = Path("/proc/self")) -> Sequence[MetricFamily]:
    """Return the metrics of this process, as those of the worker in a slot; none where there is no /proc."""
    try:
        resident_pages = int((process / "statm").read_text().split()[1])
        descriptors = len(os.listdir(process / "fd"))
    except (OSError, IndexError, ValueError):
        return []
    return [
        _build_gauge("memory_bytes", "Resident memory, by worker.", slot, resident_pages * PAGE_BYTES),
        _build_gauge("open_descriptors", "Open file descriptors, by worker.", slot, descriptors),
    ]


def _build_gauge(noun: str, text: str, slot: int, value: int) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_worker_{noun}", type="gauge", help=text, labels=("worker",), samples=[((str(slot),), value)]
    )
