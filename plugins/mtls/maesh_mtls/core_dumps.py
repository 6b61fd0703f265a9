"""Turns core dumps off in a process that has keys in its memory: a core dump would write them to a disk.

Every half calls it when it is loaded.
"""

import resource


def forbid_core_dumps() -> None:
    """Let this process, and those that it starts, write no core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
