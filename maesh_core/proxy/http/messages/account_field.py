"""The field X-Maesh-Client, in which servers get the verified account of the client (`--client-header`).

Renders it from an account, and removes what clients send under its name from a head or a header list that is not
checked yet.
"""

import re
from functools import lru_cache
from typing import Final

from maesh_core.proxy.http.http2.fields import Fields

FIELD: Final = b"X-Maesh-Client"
_NAMES: Final = frozenset({b"x-maesh-client", b"x_maesh_client", b"x_maesh-client", b"x-maesh_client"})
"""The name, and those that CGI and WSGI servers pass to applications as the same (RFC 3875 section 4.1.18)."""
_find_lines: Final = re.compile(rb"(?<=\r\n)x[-_]maesh[-_]client:[^\r\n]*\r\n(?![ \t])", re.IGNORECASE)
"""Matches whole lines. One that continues in the next line stays, and such heads are refused."""


@lru_cache(maxsize=1024)
def render_account(account: str) -> bytes:
    """Render the field of an account that is given as `name@namespace`, as `namespace/name`."""
    name, _, namespace = account.rpartition("@")
    return b"%b: %b\r\n" % (FIELD, f"{namespace}/{name}".encode("ascii", "replace"))


def strip_head(head: bytes) -> bytes:
    """Remove the field from a head of HTTP/1.1."""
    return _find_lines.sub(b"", head)


def strip_fields(fields: Fields) -> Fields:
    """Remove the field from a header list of HTTP/2."""
    return tuple(field for field in fields if field[0] not in _NAMES)
