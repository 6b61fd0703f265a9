"""Frames of HTTP/2: the numbers of the protocol, and how frames are rendered (RFC 9113 sections 4 to 7).

Contains constants and pure functions. connection.py parses frames.
"""

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of a client (section 3.4)."""
PREFACE_HEAD: Final = PREFACE[:18]
"""The part of the preface that an HTTP/1.1 parser reads as a head."""
PREFACE_REST: Final = PREFACE[18:]

FRAME_HEADER_BYTES: Final = 9
FRAME_LIMIT_BYTES: Final = 16384
"""Largest payload that the mesh accepts or sends: the smallest limit that SETTINGS_MAX_FRAME_SIZE allows. Larger
frames would delay other streams."""
WINDOW_LIMIT_BYTES: Final = (1 << 31) - 1
DEFAULT_WINDOW_BYTES: Final = 65535
STREAM_BITS: Final = 0x7FFFFFFF
"""The bits of a stream's number or of a window; the first bit is reserved."""

# --- frame types (section 6)

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# --- flags

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

# --- settings (section 6.5.2)

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

# --- error codes (section 7)

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

_pack_header: Final = struct.Struct(">IBI").pack
_pack_setting: Final = struct.Struct(">HI").pack
_pack_number: Final = struct.Struct(">I").pack
_pack_numbers: Final = struct.Struct(">II").pack


def render_frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Render the header of a frame whose payload has `size` bytes."""
    return _pack_header(size << 8 | kind, flags, stream_id)


def add_end_stream(header: bytes) -> bytes:
    """Set END_STREAM in the header of a DATA or HEADERS frame."""
    return header[:4] + bytes((header[4] | END_STREAM,)) + header[5:]


def render_settings(*settings: tuple[int, int]) -> bytes:
    """Render a SETTINGS frame."""
    payload = b"".join(_pack_setting(*each) for each in settings)
    return render_frame_header(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = render_frame_header(0, SETTINGS, ACK, 0)


def render_window_update(stream_id: int, size: int) -> bytes:
    """Render a WINDOW_UPDATE frame; stream 0 is the connection."""
    return render_frame_header(4, WINDOW_UPDATE, 0, stream_id) + _pack_number(size)


def render_rst_stream(stream_id: int, code: int) -> bytes:
    """Render a RST_STREAM frame."""
    return render_frame_header(4, RST_STREAM, 0, stream_id) + _pack_number(code)


def render_goaway(last_stream_id: int, code: int, text: str = "") -> bytes:
    """Render a GOAWAY frame; `text` gives the reason as debug data, which the peer can log."""
    debug_data = text.encode("ascii", "replace")
    return render_frame_header(8 + len(debug_data), GOAWAY, 0, 0) + _pack_numbers(last_stream_id, code) + debug_data


def render_ping(payload: bytes, *, is_ack: bool = False) -> bytes:
    """Render a PING frame; its payload has eight bytes."""
    return render_frame_header(8, PING, ACK if is_ack else 0, 0) + payload


def render_headers(stream_id: int, block: bytes, frame_limit: int) -> list[bytes]:
    """Render a header block as HEADERS and CONTINUATION frames: header, payload, header, payload, ..."""
    if len(block) <= frame_limit:
        return [render_frame_header(len(block), HEADERS, END_HEADERS, stream_id), block]
    pieces = [render_frame_header(frame_limit, HEADERS, 0, stream_id), block[:frame_limit]]
    for at in range(frame_limit, len(block), frame_limit):
        piece = block[at : at + frame_limit]
        flags = END_HEADERS if at + frame_limit >= len(block) else 0
        pieces += (render_frame_header(len(piece), CONTINUATION, flags, stream_id), piece)
    return pieces
