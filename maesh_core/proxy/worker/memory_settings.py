"""What every process of a proxy does to itself: its memory."""

import gc

GC_THRESHOLDS = (50_000, 20, 20)
"""Exchanges leave no cycles behind, so the collector may come seldom."""


def settle_memory() -> None:
    """Take what lives now out of the garbage collector's sight: it will stay, and would be walked each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
