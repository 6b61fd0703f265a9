"""Parses the payloads of frames that carry no message, and checks them by the rules of RFC 9113 section 6.

Takes the bytes of a frame from `start` to `end`; returns values. Raises Http2ConnectionError. Connections of clients
and servers and tunnels between nodes use it; they decide what the values change.
"""

from maesh_core.proxy.http.http2.errors import Http2ConnectionError
from maesh_core.proxy.http.http2.frames import (
    ACK,
    ENABLE_PUSH,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PROTOCOL_ERROR,
    STREAM_BITS,
    WINDOW_LIMIT_BYTES,
)


def cut_padding(data: bytes | memoryview, start: int, end: int) -> tuple[int, int]:
    """Return where the payload of a padded frame starts and ends; its first byte is the length of the padding."""
    if start == end:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "a padded frame without its length")
    padding: int = data[start]
    if padding >= end - start:
        raise Http2ConnectionError(PROTOCOL_ERROR, "more padding than payload")
    return start + 1, end - padding


def check_priority(stream_id: int, data: bytes, start: int, end: int) -> None:
    """Check PRIORITY, which is deprecated and changes nothing (section 5.3.2)."""
    if stream_id == 0:
        raise Http2ConnectionError(PROTOCOL_ERROR, "PRIORITY on stream 0")
    if end - start != 5:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "PRIORITY of another size")
    if int.from_bytes(data[start : start + 4], "big") & STREAM_BITS == stream_id:
        raise Http2ConnectionError(PROTOCOL_ERROR, "a stream that depends on itself")


def parse_rst_stream(data: bytes, start: int, end: int) -> int:
    """Return the code of RST_STREAM."""
    if end - start != 4:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "RST_STREAM of another size")
    return int.from_bytes(data[start:end], "big")


def parse_window_update(data: bytes, start: int, end: int) -> int:
    """Return by how many bytes WINDOW_UPDATE widens a window; the caller refuses 0."""
    if end - start != 4:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "WINDOW_UPDATE of another size")
    return int.from_bytes(data[start:end], "big") & STREAM_BITS


def parse_settings(flags: int, stream_id: int, data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return names and values of SETTINGS, in order; an acknowledgement has none."""
    if stream_id != 0:
        raise Http2ConnectionError(PROTOCOL_ERROR, "SETTINGS of a stream")
    if (end - start) % 6 or (flags & ACK and end != start):
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "SETTINGS of another size")
    settings = [
        (data[at] << 8 | data[at + 1], int.from_bytes(data[at + 2 : at + 6], "big")) for at in range(start, end, 6)
    ]
    for name, value in settings:
        if name == INITIAL_WINDOW_SIZE and value > WINDOW_LIMIT_BYTES:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, "an invalid SETTINGS_INITIAL_WINDOW_SIZE")
        if name == MAX_FRAME_SIZE and not 16384 <= value <= 16777215:
            raise Http2ConnectionError(PROTOCOL_ERROR, "an invalid SETTINGS_MAX_FRAME_SIZE")
        if name == ENABLE_PUSH and value > 1:
            raise Http2ConnectionError(PROTOCOL_ERROR, "an invalid SETTINGS_ENABLE_PUSH")
    return settings


def check_ping(stream_id: int, payload: bytes) -> None:
    """Check PING."""
    if stream_id != 0:
        raise Http2ConnectionError(PROTOCOL_ERROR, "PING of a stream")
    if len(payload) != 8:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "PING of another size")


def parse_goaway(stream_id: int, data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the last stream that the peer processes, and the code of GOAWAY."""
    if stream_id != 0:
        raise Http2ConnectionError(PROTOCOL_ERROR, "GOAWAY of a stream")
    if end - start < 8:
        raise Http2ConnectionError(FRAME_SIZE_ERROR, "GOAWAY of another size")
    last = int.from_bytes(data[start : start + 4], "big") & STREAM_BITS
    return last, int.from_bytes(data[start + 4 : start + 8], "big")
