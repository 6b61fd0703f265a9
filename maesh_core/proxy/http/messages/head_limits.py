"""Limits the size of a client's request head while it arrives.

Takes the bytes of a head, complete or partial. Returns nothing, or raises the error that the client receives.
"""

from typing import Final

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.syntax import count_fields, has_bare_line_end
from maesh_core.settings import CarryingSettings

_LINE_TOO_LONG: Final = "the request line is too long"
_HEAD_TOO_LARGE: Final = "the request's head is too large"


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
