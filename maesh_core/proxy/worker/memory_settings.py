"""Memory settings of every process of a proxy."""

import gc

GC_THRESHOLDS = (50_000, 20, 20)
"""Exchanges create no reference cycles, so the garbage collector can run rarely."""


def settle_memory() -> None:
    """Exclude all current objects from garbage collection: they stay, and would be traversed each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
