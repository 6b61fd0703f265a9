"""The limit on client connections of the API. plain_http/server.py chooses which one is closed at the limit.

Anyone who can reach the API can open connections to it. Unused ones must not keep proxies out, nor use the descriptors
that the controller needs to read files and the cluster, and to hold its lease.
"""

CONNECTION_LIMIT = 12_000
"""The highest limit; above HELD_PULLS_LIMIT of pulls.py, because each held pull has a connection."""
RESERVED_DESCRIPTORS = 256
"""Descriptors that are reserved for files, the API server, requests to proxies, and connections that are accepted but
not counted yet: a few times ACCEPT_BATCH of plain_http/server.py."""
CONNECTION_MINIMUM = 16


def choose_connection_limit(open_files: int | None) -> int:
    """Choose the connection limit for a process with this descriptor limit; None: no limit."""
    if open_files is None:
        return CONNECTION_LIMIT
    return min(CONNECTION_LIMIT, max(CONNECTION_MINIMUM, open_files - RESERVED_DESCRIPTORS))
