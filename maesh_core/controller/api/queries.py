"""Reads the targets of requests to the controller's API: their paths, and the parameters of their queries.

Takes requests and texts of clients; returns values, or None for what is invalid. No I/O.
"""

import re
from urllib.parse import parse_qsl, unquote

from maesh_core.plain_http.messages import Request

WAIT_LIMIT_S = 60.0
"""The longest time for which a pull is held; a longer `wait` is reduced to this."""
PORT_LIMIT = 65535

_PORT_PATTERN = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_WAIT_PATTERN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def read_path(request: Request) -> str:
    """Read the path of a request's target, decoded; invalid UTF-8 becomes U+FFFD."""
    return unquote(request.target.partition(b"?")[0].decode("ascii", "replace"))


def read_query(request: Request) -> dict[str, str]:
    """Read the parameters of a request's target; the first one counts if a name is repeated."""
    text = request.target.partition(b"?")[2].decode("ascii", "replace")
    return dict(reversed(parse_qsl(text, keep_blank_values=True)))


def parse_wait(text: str) -> float | None:
    """Parse a number of seconds; None if it is invalid."""
    return min(float(text), WAIT_LIMIT_S) if _WAIT_PATTERN.fullmatch(text) else None


def parse_port(text: str) -> int | None:
    """Parse a port; None if it is invalid."""
    port = int(text) if _PORT_PATTERN.fullmatch(text) else 0
    return port if 0 < port <= PORT_LIMIT else None
