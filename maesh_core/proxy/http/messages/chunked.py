"""The chunked transfer coding, scanned for where it ends (RFC 9112 section 7.1).

Takes bytes as they come, cut anywhere; tells how many belong to the body and checks every one of them, so that what
passes can be sent on as it came. Only CRLF ends a line, sizes are plain hexadecimal digits, and nothing is repaired.
"""

import re
from typing import Final

from maesh_core.proxy.http.messages.syntax import NOT_IN_TRAILERS

LINE_LIMIT_BYTES: Final = 4096
"""A chunk-size line with its extensions, or one trailer line; extensions have no use that needs more."""
TRAILER_LIMIT_BYTES: Final = 16384
"""All trailer lines together."""
TURN_LINES: Final = 16
"""Lines scanned in one turn, of which a chunk has two: about the work of one small request."""
FRAMING_LIMIT_BYTES: Final = 16384
"""Framing of one body beyond FRAMING_FACTOR bytes for each byte of content."""
FRAMING_FACTOR: Final = 8
"""A chunk of one byte has five bytes of framing, and passes. Extensions and leading zeros that outweigh the content
cost every reader time and mean nothing to it: Go's net/http and picohttpparser bound them in a similar way."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_match_size: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\"))?+)*+\r\n"
    % (_TOKEN, _TOKEN)
).match
"""chunk-size and chunk-ext of RFC 9112 section 7.1.1. No part can match in two ways, so one pass refuses a bad line."""
_match_partial_size: Final = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;.*)?|\r)", re.DOTALL).fullmatch
_match_trailer: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n").fullmatch

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkedError(ValueError):
    """The bytes are not a chunked body; the text says what is wrong."""


class ChunkedScanner:
    """Follows one chunked body; `is_complete` once its last line has been seen.

    `size_bytes` is what the chunks whose size line has come hold together.
    """

    __slots__ = ("_framing_bytes", "_left", "_line", "_state", "_trailer_bytes", "is_complete", "size_bytes")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0
        self._framing_bytes = 0
        self.size_bytes = 0
        self.is_complete = False

    def __repr__(self) -> str:
        return f"<ChunkedScanner {('size', 'data', 'data end', 'trailer')[self._state]} left={self._left}>"

    def scan(self, data: bytes, payload: list[bytes] | None = None, *, start: int = 0) -> int:
        """Scan `data` from `start` on and return the position behind the last byte that was scanned.

        Bytes are left over in two cases. When the body is complete, they belong to the next message. Otherwise
        TURN_LINES lines were scanned, and the rest is to be scanned in a later turn. The decoded content is appended
        to `payload` where one is given. Raises ChunkedError.
        """
        position, end, lines_left = start, len(data), TURN_LINES
        while position < end and not self.is_complete:
            if self._state == _DATA:
                taken = min(self._left, end - position)
                if payload is not None:
                    payload.append(data[position : position + taken])
                position += taken
                self._left -= taken
                if not self._left:
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
            self._take_size(line)
        elif self._state == _DATA_END:
            if line != b"\r\n":
                raise ChunkedError("chunk not followed by CRLF")
            self._state = _SIZE
        else:
            self._take_trailer(line)
        return stop

    def _check_partial(self, line: bytes) -> None:
        """Refuse early what can no longer become a line, so that nobody waits for its end."""
        if self._state == _DATA_END and not b"\r\n".startswith(line):
            raise ChunkedError("chunk not followed by CRLF")
        if self._state == _SIZE and not _match_partial_size(line):
            raise ChunkedError("malformed chunk size")
        if b"\r" in line[:-1]:
            raise ChunkedError("line ended by something else than CRLF")
        if len(line) > LINE_LIMIT_BYTES:
            raise ChunkedError("line of a chunked body too long")

    def _take_size(self, line: bytes) -> None:
        match = _match_size(line)
        if match is None or match.end() != len(line):
            raise ChunkedError("malformed chunk size")
        self._left = int(match[1], 16)
        self.size_bytes += self._left
        self._framing_bytes += len(line) + 2  # and the CRLF behind the chunk
        if self._framing_bytes > FRAMING_LIMIT_BYTES + FRAMING_FACTOR * self.size_bytes:
            raise ChunkedError("body with far more chunk framing than content")
        self._state = _DATA if self._left else _TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_complete = True
            return
        self._trailer_bytes += len(line)
        match = _match_trailer(line)
        if match is None:
            raise ChunkedError("malformed trailer field")
        if match[1].lower() in NOT_IN_TRAILERS:
            raise ChunkedError("trailer field that may not be one")
        if self._trailer_bytes > TRAILER_LIMIT_BYTES:
            raise ChunkedError("trailers too large")
