"""Limits the size of a head while it arrives: of a client's request, or of a server's response.

Takes the bytes of a head, complete or partial. Returns nothing, or raises the error that the client receives.
"""

from typing import Final

from maesh_core.errors import ClientProtocolError, UpstreamProtocolError
from maesh_core.proxy.http.messages.syntax import count_fields, has_bare_line_end
from maesh_core.settings import CarryingSettings

_LINE_TOO_LONG: Final = "the request line is too long"
_HEAD_TOO_LARGE: Final = "the request's head is too large"
_RESPONSE_TOO_LARGE: Final = "the upstream's response head is too large"
_SETTINGS_START: Final = b"\x04\0\0\0\0\0"
"""What follows the length in the first frame of a server of HTTP/2 (RFC 9113 section 3.4)."""


def check_partial_head(buffer: bytearray, scanned: int, settings: CarryingSettings) -> None:
    """Refuse a partial head that cannot become valid; skip `scanned` bytes. Raises ClientProtocolError."""
    if has_bare_line_end(buffer, max(0, scanned - 1)):
        raise ClientProtocolError("line not ended by CRLF")
    if len(buffer) > settings.target_limit + 1 and buffer.find(b"\r\n", 0, settings.target_limit + 2) < 0:
        raise ClientProtocolError(_LINE_TOO_LONG, 414)
    if len(buffer) > settings.head_limit:
        raise ClientProtocolError(_HEAD_TOO_LARGE, 431)


def check_whole_head(head: bytes, settings: CarryingSettings) -> None:
    """Refuse a complete head that is too large. Raises ClientProtocolError."""
    if head.index(b"\r\n") > settings.target_limit:
        raise ClientProtocolError(_LINE_TOO_LONG, 414)
    if len(head) > settings.head_limit:
        raise ClientProtocolError(_HEAD_TOO_LARGE, 431)
    if count_fields(head) > settings.field_limit:
        raise ClientProtocolError("the request has too many header fields", 431)


def check_partial_response_head(data: bytes, settings: CarryingSettings) -> None:
    """Refuse a partial head of a response that cannot become valid. Raises UpstreamProtocolError."""
    if len(data) > settings.head_limit:
        raise UpstreamProtocolError(_RESPONSE_TOO_LARGE)
    if data[3:9] == _SETTINGS_START:
        raise UpstreamProtocolError("the upstream speaks HTTP/2: its scheme may be h2c")
    if has_bare_line_end(data):
        raise UpstreamProtocolError("the upstream sent a line not ended by CRLF")


def check_whole_response_head(head: bytes, settings: CarryingSettings) -> None:
    """Refuse a complete head of a response that is too large. Raises UpstreamProtocolError."""
    if len(head) > settings.head_limit:
        raise UpstreamProtocolError(_RESPONSE_TOO_LARGE)
    if count_fields(head) > settings.field_limit:
        raise UpstreamProtocolError("the upstream's response has too many header fields")
