"""Rules for header fields: valid names and values, and fields that only the mesh sets (RFC 9110).

The proxy enforces them byte by byte; plugins check them before they configure a field.
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
"""Hop-by-hop fields, which are not forwarded (RFC 9110 section 7.6.1; RFC 2616 section 13.5.1 for `proxy-`)."""

FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-forwarded-server",
)
"""Forwarded fields, which tell an upstream about the client; forwarding.py writes them."""

is_forwarded_name = re.compile(rb"x-forwarded-.*|x-real-ip|forwarded", re.DOTALL).fullmatch
"""Whether a lower-case name is a forwarded field: any `X-Forwarded-*`, or `Forwarded` (RFC 7239)."""

search_trace_context = re.compile(rb"\n(?:[bB]3:|[xX]-[bB]3-|[tT][rR][aA][cC][eE][pP][aA][rR][eE][nN][tT]:)").search
"""Finds a field of a trace context in a head (W3C Trace Context, B3 single and multi); most heads have none. With
re.IGNORECASE it would take twice as long."""

_is_shadowed = re.compile(rb"x-forwarded-.*|x-real-ip|content-length|transfer-encoding", re.DOTALL).fullmatch

UNTOUCHABLE = HOP_BY_HOP | {b"content-length", b"host", b"expect", b"x-maesh-client", *FORWARDED}
"""Fields that middlewares cannot set."""


def is_shadowing_name(name: bytes) -> bool:
    """Whether a lower-case name is that of a forwarded or framing field with underscores in place of dashes.

    CGI and WSGI servers pass both to an application under one name (RFC 3875 section 4.1.18).
    """
    return b"_" in name and _is_shadowed(name.replace(b"_", b"-")) is not None


def find_header_problem(name: str, value: str = "") -> str | None:
    """Explain why a middleware cannot set a header, to follow the word `it`; None if it can. Text is sent as UTF-8."""
    raw = name.lower().encode("ascii", "replace")
    if not name.isascii() or not is_token(raw):
        return "is not the name of a header"
    if raw in UNTOUCHABLE:
        return "is a header that the mesh itself sets"
    if b"_" in raw and (is_shadowing_name(raw) or raw.replace(b"_", b"-") in UNTOUCHABLE):
        return "is for some servers a header that the mesh itself sets"
    try:
        is_valid = is_field_value(value.encode())
    except UnicodeEncodeError:
        is_valid = None
    return None if is_valid else "does not fit into a header"
