"""Ordinary heads, each read by one pattern: what most messages are, at a fifth of the price of the long way.

A head that matches is valid to the last byte, and may pass as it came: its fields are end-to-end ones, Host, one plain
Content-Length and `Connection: keep-alive`. It is stricter than it need be. Whatever does not match, right or wrong, is
judged by request_head.py and response_head.py, which know every rule.
"""

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t -~\x80-\xff]*+"
_HOST = rb"[Hh]ost:[ \t]*+([A-Za-z0-9\-._~!$&'()*+,;=]*+(?::[0-9]{0,5}+)?+)[ \t]*+\r\n"
_LENGTH = rb"[Cc]ontent-[Ll]ength: ?+([0-9]{1,18}+)\r\n"
_CHUNKED = rb"[Tt]ransfer-[Ee]ncoding: (chunked)\r\n"
_KEEP_ALIVE = rb"[Cc]onnection: (keep-alive)\r\n"
# The first letter stands as a class of its own: the engine tests it before it tries an alternative.
_HOP_BY_HOP = (
    rb"[Cc](?i:onnection):|[Kk](?i:eep-alive):|[Pp](?i:roxy-(?:authenticate|authorization|connection)):"
    rb"|[Tt](?i:e|ransfer-encoding):|[Uu](?i:pgrade):|[Cc](?i:ontent-length):"
)
_REQUEST_ONLY = rb"|[Hh](?i:ost):|[Ee](?i:xpect):|[Xx]-(?i:forwarded-(?:for|host|port|proto|server)|real-ip):"


def _once(group: int, pattern: bytes) -> bytes:
    """Build what matches `pattern`, whose one group has that number, unless it has matched before."""
    return rb"(?(%d)(?!)|%b)" % (group, pattern)


match_request = re.compile(
    rb"([A-Z]++) (/[!\"$-~]*+) HTTP/1\.1\r\n"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_HOP_BY_HOP + _REQUEST_ONLY, _TOKEN, _VALUE, _once(3, _HOST), _once(4, _LENGTH), _once(5, _KEEP_ALIVE))
).fullmatch
"""A request's whole head. Groups: method, target in origin-form, authority (None: no Host), length or None, -."""

match_response = re.compile(
    rb"(HTTP/1\.1 ([2-5][0-9][0-9]) %b\r\n)"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_VALUE, _HOP_BY_HOP, _TOKEN, _VALUE, _once(3, _LENGTH), _once(4, _CHUNKED), _once(5, _KEEP_ALIVE))
).fullmatch
"""A final response's whole head. Groups: status line, status, length or None, `chunked` or None, -; maybe both."""
