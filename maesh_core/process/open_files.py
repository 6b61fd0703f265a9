"""The limit of open descriptors of this process, and a way to raise it: each connection uses one."""

import contextlib
import resource


def raise_open_files_limit() -> None:
    """Raise the limit to the one that the system grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems report a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def find_open_files_limit() -> int | None:
    """Return the limit of open descriptors of this process; None for no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
