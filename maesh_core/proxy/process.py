"""What every process of a proxy does to itself: its memory and its open files."""

import contextlib
import gc
import resource

GC_THRESHOLDS = (50_000, 20, 20)
"""Exchanges leave no cycles behind, so the collector may come seldom."""


def settle_memory() -> None:
    """Take what lives now out of the garbage collector's sight: it will stay, and would be walked each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def raise_open_files_limit() -> None:
    """Use all the descriptors that the system grants: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems name a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
