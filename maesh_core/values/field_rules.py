"""Which header fields there may be, and which of them the mesh keeps for itself (RFC 9110 sections 5 and 7.6.1).

The proxy holds to it byte by byte; plugins ask before they promise to set a field.
"""

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
is_token = re.compile(TOKEN).fullmatch
is_field_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that concern one connection and stop here (RFC 9110 section 7.6.1; RFC 2616 section 13.5.1 for `proxy-`)."""

FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-forwarded-server",
)
"""Fields that tell an upstream who called; forwarding.py writes them."""

is_forwarded_name = re.compile(rb"x-forwarded-.*|x-real-ip|forwarded", re.DOTALL).fullmatch
"""Whether a lower-case name is one that tells who called: all `X-Forwarded-*`, and `Forwarded` (RFC 7239)."""

_is_shadowed = re.compile(rb"x-forwarded-.*|x-real-ip|content-length|transfer-encoding", re.DOTALL).fullmatch

UNTOUCHABLE = HOP_BY_HOP | {b"content-length", b"host", b"expect", *FORWARDED}
"""Fields that no middleware sets."""


def is_shadowing_name(name: bytes) -> bool:
    """Whether a lower-case name has an underscore where one that tells who called, or frames a body, has a dash.

    CGI and WSGI servers give an application both under one name (RFC 3875 section 4.1.18).
    """
    return b"_" in name and _is_shadowed(name.replace(b"_", b"-")) is not None


def find_header_problem(name: str, value: str = "") -> str | None:
    """Say why a middleware cannot set a header, to stand after `it`; None where it can. Text is sent as UTF-8."""
    if not is_token(name.encode()):
        return "is not the name of a header"
    if name.lower().encode() in UNTOUCHABLE:
        return "is a header that the mesh itself sets"
    if not is_field_value(value.encode()):
        return "does not fit into a header"
    return None
