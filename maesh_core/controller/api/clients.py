"""The connections of the API's clients: how many there may be. plain_http/server.py says which one makes room.

Whoever can reach the API can open connections to it. Those that ask for nothing must not keep proxies out, nor take the
descriptors that the controller needs to read files and the cluster and to hold its lease.
"""

CONNECTION_LIMIT = 12_000
"""At most so many: above HELD_PULLS_LIMIT of handlers.py, each of which has one."""
RESERVED_DESCRIPTORS = 256
"""Kept for files, the API server and proxies that are asked, and for connections that are accepted but not counted yet:
a few times ACCEPT_BATCH of plain_http/server.py."""
CONNECTION_MINIMUM = 16


def choose_connection_limit(open_files: int | None) -> int:
    """Choose how many connections there may be in a process that may have so many descriptors; None: any number."""
    if open_files is None:
        return CONNECTION_LIMIT
    return min(CONNECTION_LIMIT, max(CONNECTION_MINIMUM, open_files - RESERVED_DESCRIPTORS))
