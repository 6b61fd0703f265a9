"""Ordinary heads, each read by one pattern: what most messages are, at a fifth of the price of the long way.

A head that matches is valid to the last byte, and passes as it came but for its Connection line: all else in it are
end-to-end fields, Host, and what frames the body. It is stricter than it need be. Whatever does not match, right or
wrong, is judged by request_head.py and response_head.py, which know every rule.
"""

import re
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE: Final = rb"[\t -~\x80-\xff]*+"
_HOST: Final = rb"[Hh]ost:[ \t]*+([A-Za-z0-9\-._~!$&'()*+,;=]*+(?::[0-9]{0,5}+)?+)[ \t]*+\r\n"
_LENGTH: Final = rb"[Cc]ontent-[Ll]ength: ?+([0-9]{1,18}+)\r\n"
_CHUNKED: Final = rb"[Tt]ransfer-[Ee]ncoding: (chunked)\r\n"
_CONNECTION: Final = rb"([Cc]onnection: (?:keep-alive|close)\r\n)"
CLOSE: Final = b" close\r\n"
"""What a Connection line that matches ends with, or with keep-alive."""
# The first letter stands as a class of its own: the engine tests it before it tries an alternative.
_HOP_BY_HOP: Final = (
    rb"[Cc](?i:onnection):|[Kk](?i:eep-alive):|[Pp](?i:roxy-(?:authenticate|authorization|connection)):"
    rb"|[Tt](?i:e|ransfer[-_]encoding):|[Uu](?i:pgrade):|[Cc](?i:ontent[-_]length):"
)
_REQUEST_ONLY: Final = rb"|[Hh](?i:ost):|[Ee](?i:xpect):|[Xx][-_](?i:forwarded[-_]|real[-_]ip:)|[Ff](?i:orwarded):"


def _once(group: int, pattern: bytes) -> bytes:
    """Build what matches `pattern`, whose one group has that number, unless it has matched before."""
    return rb"(?(%d)(?!)|%b)" % (group, pattern)


match_request: Final = re.compile(
    rb"([A-Z]++) (/[!\"$-~]*+) HTTP/1\.1\r\n"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_HOP_BY_HOP + _REQUEST_ONLY, _TOKEN, _VALUE, _once(3, _HOST), _once(4, _LENGTH), _once(5, _CONNECTION))
).fullmatch
"""A request's whole head. Groups: method, target in origin-form, authority, length, Connection line; or None."""

match_response: Final = re.compile(
    rb"(HTTP/1\.1 ([2-5][0-9][0-9]) %b\r\n)"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_VALUE, _HOP_BY_HOP, _TOKEN, _VALUE, _once(3, _LENGTH), _once(4, _CHUNKED), _once(5, _CONNECTION))
).fullmatch
"""A final response's whole head. Groups: status line, status, length, `chunked`, Connection line; or None."""


def cut_connection(match: re.Match[bytes]) -> bytes:
    """Give a head that matched, without its end and its Connection line, if it has one."""
    head = match.string
    start, end = match.span(5)
    return head[:-2] if start < 0 else head[:start] + head[end:-2]
