"""Parses ordinary heads with one pattern each. Most heads are ordinary; this takes a fifth of the time of a full parse.

Takes the bytes of a head. A head that matches is valid and is forwarded unchanged except for its Connection line: its
fields are end-to-end fields, Host, and the framing. The patterns are stricter than the rules. A head that does not
match may still be valid; request_parsing.py and response_head.py parse it in full. Compiled code scans heads instead
(scanning.py), which accepts the same heads in less time.
"""

import re
from typing import Final

from maesh_core.proxy.http.messages.scanning import ScannedHead, scan_request, scan_response

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE: Final = rb"[\t -~\x80-\xff]*+"
_HOST: Final = rb"[Hh]ost:[ \t]*+([A-Za-z0-9\-._~!$&'()*+,;=]*+(?::[0-9]{0,5}+)?+)[ \t]*+\r\n"
_LENGTH: Final = rb"[Cc]ontent-[Ll]ength: ?+([0-9]{1,18}+)\r\n"
_CHUNKED: Final = rb"[Tt]ransfer-[Ee]ncoding: (chunked)\r\n"
_CONNECTION: Final = rb"([Cc]onnection: (?:keep-alive|close)\r\n)"
CLOSE: Final = b" close\r\n"
"""How a Connection line that matches ends if it does not end with keep-alive."""
# The first letter is a separate class, since the regex engine tests it before it tries an alternative.
_HOP_BY_HOP: Final = (
    rb"[Cc](?i:onnection):|[Kk](?i:eep-alive):|[Pp](?i:roxy-(?:authenticate|authorization|connection)):"
    rb"|[Tt](?i:e|ransfer[-_]encoding):|[Uu](?i:pgrade):|[Cc](?i:ontent[-_]length):"
)
_REQUEST_ONLY: Final = rb"|[Hh](?i:ost):|[Ee](?i:xpect):|[Xx][-_](?i:forwarded[-_]|real[-_]ip:)|[Ff](?i:orwarded):"


def _once(group: int, pattern: bytes) -> bytes:
    """Build a pattern that matches `pattern` only once; `group` is the number of its only group."""
    return rb"(?(%d)(?!)|%b)" % (group, pattern)


match_request: Final = re.compile(
    rb"([A-Z]++) (/[!\"$-~]*+) HTTP/1\.1\r\n"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_HOP_BY_HOP + _REQUEST_ONLY, _TOKEN, _VALUE, _once(3, _HOST), _once(4, _LENGTH), _once(5, _CONNECTION))
).fullmatch
"""Matches a complete request head. Groups: method, target in origin-form, authority, length, Connection line; or
None."""

match_response: Final = re.compile(
    rb"(HTTP/1\.1 ([2-5][0-9][0-9]) %b\r\n)"
    rb"(?:(?!%b)%b:%b\r\n|%b|%b|%b)*\r\n"
    % (_VALUE, _HOP_BY_HOP, _TOKEN, _VALUE, _once(3, _LENGTH), _once(4, _CHUNKED), _once(5, _CONNECTION))
).fullmatch
"""Matches a complete final response head. Groups: status line, status, length, `chunked`, Connection line; or None."""


_IS_COMPILED: Final = not __file__.endswith(".py")


def parse_ordinary_request(head: bytes) -> ScannedHead | None:
    """Parse a complete request head; None if it is not ordinary."""
    return scan_request(head) if _IS_COMPILED else find_in_request(head)


def parse_ordinary_response(head: bytes) -> ScannedHead | None:
    """Parse a complete final response head; None if it is not ordinary."""
    return scan_response(head) if _IS_COMPILED else find_in_response(head)


def find_in_request(head: bytes) -> ScannedHead | None:
    """Parse a request head with its pattern."""
    match = match_request(head)
    if match is None:
        return None
    found = ScannedHead(match[1], match[2])
    found.authority_start, found.authority_end = match.span(3)
    found.length_start, found.length_end = match.span(4)
    found.connection_start, found.connection_end = match.span(5)
    return found


def find_in_response(head: bytes) -> ScannedHead | None:
    """Parse a final response head with its pattern."""
    match = match_response(head)
    if match is None:
        return None
    found = ScannedHead(match[1], match[2])
    found.length_start, found.length_end = match.span(3)
    found.is_chunked = match[4] is not None
    found.connection_start, found.connection_end = match.span(5)
    return found


def cut_connection(head: bytes, found: ScannedHead) -> bytes:
    """Return an ordinary head without its empty line and its Connection line, if it has one."""
    start = found.connection_start
    return head[:-2] if start < 0 else head[:start] + head[found.connection_end : -2]
