"""Finds the end of a body in the chunked transfer coding (RFC 9112 section 7.1).

Takes bytes in pieces of any size, and returns how many of them belong to the body. It validates every byte, so that the
body can be forwarded unchanged. Only CRLF ends a line, and sizes are plain hexadecimal digits; the scanner never
repairs a body.
"""

import re
from typing import Final

from maesh_core.proxy.http.messages.syntax import FORBIDDEN_TRAILERS

LINE_LIMIT_BYTES: Final = 4096
"""Limit of a chunk-size line with its extensions, and of one trailer line. No real use of extensions needs more."""
TRAILER_LIMIT_BYTES: Final = 16384
"""Limit of all trailer lines together."""
TURN_LINES: Final = 16
"""Lines scanned in one turn, two per chunk: about the work of one small request."""
FRAMING_LIMIT_BYTES: Final = 16384
"""A body may have FRAMING_FACTOR bytes of framing per byte of content, and this number of bytes in addition."""
FRAMING_FACTOR: Final = 8
"""A chunk of one byte has five bytes of framing, which is allowed. Extensions and leading zeros beyond this cost
every recipient time and have no use: Go's net/http and picohttpparser limit them similarly."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_match_size: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\"))?+)*+\r\n"
    % (_TOKEN, _TOKEN)
).match
"""chunk-size and chunk-ext of RFC 9112 section 7.1.1. No part can match in two ways, so a bad line is refused in
one pass."""
_match_partial_size: Final = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;.*)?|\r)", re.DOTALL).fullmatch
_match_trailer: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n").fullmatch

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkedError(ValueError):
    """The bytes are not a valid chunked body; the text gives the reason."""


class ChunkedScanner:
    """Scans one chunked body. `is_complete` is set after its last line.

    `size_bytes` is the total size of all chunks whose size line was scanned; `left_bytes` of it have not arrived yet.
    `trailers` has the trailer lines that were scanned, each with its CRLF.
    """

    __slots__ = (
        "_framing_bytes",
        "_line",
        "_state",
        "_trailer_bytes",
        "is_complete",
        "left_bytes",
        "size_bytes",
        "trailers",
    )

    def __init__(self) -> None:
        self._state = _SIZE
        self.left_bytes = 0
        self._line = b""
        self._trailer_bytes = 0
        self._framing_bytes = 0
        self.size_bytes = 0
        self.is_complete = False
        self.trailers = b""

    def __repr__(self) -> str:
        return f"<ChunkedScanner {('size', 'data', 'data end', 'trailer')[self._state]} left={self.left_bytes}>"

    def scan(self, data: bytes, payload: list[bytes] | None = None, *, start: int = 0) -> int:
        """Scan `data` from `start` on, and return the position after the last scanned byte.

        Not all bytes are scanned in two cases. If the body is complete, the rest belongs to the next message. Otherwise
        TURN_LINES lines were scanned, and the caller must scan the rest in a later turn. The decoded content is
        appended to `payload` if it is given. Raises ChunkedError.
        """
        position, end, lines_left = start, len(data), TURN_LINES
        while position < end and not self.is_complete:
            if self._state == _DATA:
                taken = min(self.left_bytes, end - position)
                if payload is not None:
                    payload.append(data[position : position + taken])
                position += taken
                self.left_bytes -= taken
                if not self.left_bytes:
                    self._state = _DATA_END
            elif lines_left:
                lines_left -= 1
                position = self._scan_line(data, position)
            else:
                break
        return position

    def _scan_line(self, data: bytes, position: int) -> int:
        newline = data.find(b"\n", position)
        stop = len(data) if newline < 0 else newline + 1
        line = self._line + data[position:stop] if self._line else data[position:stop]
        if newline < 0:
            self._check_partial(line)
            self._line = line
            return stop
        self._line = b""
        if len(line) > LINE_LIMIT_BYTES:
            raise ChunkedError("line of a chunked body too long")
        if self._state == _SIZE:
            self._parse_size(line)
        elif self._state == _DATA_END:
            if line != b"\r\n":
                raise ChunkedError("chunk not followed by CRLF")
            self._state = _SIZE
        else:
            self._parse_trailer(line)
        return stop

    def _check_partial(self, line: bytes) -> None:
        """Refuse a partial line that cannot become valid, instead of waiting for its end."""
        if self._state == _DATA_END and not b"\r\n".startswith(line):
            raise ChunkedError("chunk not followed by CRLF")
        if self._state == _SIZE and not _match_partial_size(line):
            raise ChunkedError("malformed chunk size")
        if b"\r" in line[:-1]:
            raise ChunkedError("line not ended by CRLF")
        if len(line) > LINE_LIMIT_BYTES:
            raise ChunkedError("line of a chunked body too long")

    def _parse_size(self, line: bytes) -> None:
        match = _match_size(line)
        if match is None or match.end() != len(line):
            raise ChunkedError("malformed chunk size")
        self.left_bytes = int(match[1], 16)
        self.size_bytes += self.left_bytes
        self._framing_bytes += len(line) + 2  # includes the CRLF after the chunk
        if self._framing_bytes > FRAMING_LIMIT_BYTES + FRAMING_FACTOR * self.size_bytes:
            raise ChunkedError("body with far more chunk framing than content")
        self._state = _DATA if self.left_bytes else _TRAILER

    def _parse_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_complete = True
            return
        self._trailer_bytes += len(line)
        match = _match_trailer(line)
        if match is None:
            raise ChunkedError("malformed trailer field")
        if match[1].lower() in FORBIDDEN_TRAILERS:
            raise ChunkedError("field not allowed in trailers")
        if self._trailer_bytes > TRAILER_LIMIT_BYTES:
            raise ChunkedError("trailers too large")
        self.trailers += line
