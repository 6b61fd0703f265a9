"""What a client's request head may hold at most, checked as its bytes come.

Takes the bytes of a head, whole or in part; returns nothing, or raises the refusal that the client gets.
"""

from typing import Final

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.syntax import count_fields, has_bare_line_end
from maesh_core.settings import CarryingSettings

_LINE_TOO_LONG: Final = "the request line is too long"
_HEAD_TOO_LARGE: Final = "the request's head is too large"


def check_partial_head(buffer: bytearray, scanned: int, settings: CarryingSettings) -> None:
    """Refuse what no further byte can mend; `scanned` bytes were looked at before. Raises ClientProtocolError."""
    if has_bare_line_end(buffer, max(0, scanned - 1)):
        raise ClientProtocolError("line ended by something else than CRLF")
    if len(buffer) > settings.target_limit + 1 and buffer.find(b"\r\n", 0, settings.target_limit + 2) < 0:
        raise ClientProtocolError(_LINE_TOO_LONG, 414)
    if len(buffer) > settings.head_limit:
        raise ClientProtocolError(_HEAD_TOO_LARGE, 431)


def check_whole_head(head: bytes, settings: CarryingSettings) -> None:
    """Refuse a whole head that is too large. Raises ClientProtocolError."""
    if head.index(b"\r\n") > settings.target_limit:
        raise ClientProtocolError(_LINE_TOO_LONG, 414)
    if len(head) > settings.head_limit:
        raise ClientProtocolError(_HEAD_TOO_LARGE, 431)
    if count_fields(head) > settings.field_limit:
        raise ClientProtocolError("the request has too many header fields", 431)
