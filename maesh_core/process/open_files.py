"""How many descriptors this process may have, and a way to be allowed more: each connection takes one."""

import contextlib
import resource


def raise_open_files_limit() -> None:
    """Use all the descriptors that the system grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems name a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def find_open_files_limit() -> int | None:
    """Find how many descriptors this process may have; None for no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
