"""Prints what a tap shows: a line of text or of JSON for each record, and notes about what is missing.

Takes decoded items, whose texts come from clients and servers: every unprintable character is escaped. Colours only on
request. Notes go to standard error, so that standard output has records only; with JSON, they are lines as well.
"""

import sys
import time
from typing import TextIO

import msgspec

from maesh_core.cli.top.numbers import render_count, render_duration
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES
from maesh_core.model.tap import TapDrops, TapError, TappedRecord
from maesh_core.process.printable import escape_unprintable, show_line

COLUMN_LIMIT = 40
"""The columns of source and service are as wide as the longest text so far, up to this."""
NOTHING = "-"

_RED, _YELLOW, _GREEN, _DIM = "31", "33", "32", "2"


class LinePrinter:
    """Prints items as they come."""

    def __init__(
        self,
        *,
        is_json: bool,
        is_coloured: bool,
        shows_service: bool,
        out: TextIO | None = None,
        notes: TextIO | None = None,
    ) -> None:
        self._is_json = is_json
        self._is_coloured = is_coloured
        self._shows_service = shows_service
        self._out = out or sys.stdout
        self._notes = notes or sys.stderr
        self._widths: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<LinePrinter {'json' if self._is_json else 'text'}>"

    def show(self, item: TappedRecord | TapDrops | TapError) -> None:
        """Print a record, or what is missing."""
        if self._is_json:
            self._print(escape_json(msgspec.json.encode(item).decode()))
        elif isinstance(item, TappedRecord):
            self._print(self.render(item))
        elif isinstance(item, TapDrops):
            noun = "record" if item.dropped == 1 else "records"
            self.note(f"{item.dropped} {noun} dropped: too many at once; a narrower filter shows more")
        elif item.controller:
            self.note(f"records may be missing, controller {item.controller}: {item.error}")
        else:
            self.note(f"the records of proxy {item.node} are missing: {item.error}")

    def note(self, text: str) -> None:
        """Print a note about the tap itself."""
        print(f"maesh: {show_line(text)}", file=self._notes, flush=True)

    def render(self, record: TappedRecord) -> str:
        """Render a record as one line."""
        parts = [
            self._paint(render_time(record.started_at), _DIM),
            self._pad("source", record.source or record.client or NOTHING),
        ]
        if self._shows_service:
            parts.append(self._pad("service", record.service or NOTHING))
        parts += [self._render_request(record), self._render_status(record), _render_duration(record.duration_s)]
        parts += map(escape_unprintable, _list_details(record))
        return "  ".join(parts)

    def _render_request(self, record: TappedRecord) -> str:
        if not record.method:
            return escape_unprintable(record.kind if record.kind == "refused" else record.protocol)
        kind = " (tunnel)" if record.kind == "tunnel" else ""
        return escape_unprintable(f"{record.method} {record.path}{kind}")

    def _render_status(self, record: TappedRecord) -> str:
        if record.grpc_status is not None:
            number = record.grpc_status
            name = GRPC_STATUS_NAMES[number] if 0 <= number < len(GRPC_STATUS_NAMES) else f"gRPC {number}"
            return self._paint(name, _RED if number in GRPC_SERVER_ERRORS else _YELLOW if number else _GREEN)
        if record.status:
            colour = _RED if record.status >= 500 else _YELLOW if record.status >= 400 else _GREEN
            return self._paint(str(record.status), colour)
        if record.method or record.kind == "refused":
            return NOTHING
        return f"{render_count(record.received_bytes)} B in, {render_count(record.sent_bytes)} B out"

    def _pad(self, column: str, text: str) -> str:
        text = escape_unprintable(text)
        width = self._widths[column] = max(self._widths.get(column, 0), min(len(text), COLUMN_LIMIT))
        return text.ljust(width)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_coloured else text

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def _list_details(record: TappedRecord) -> list[str]:
    """List what only some records have: the branch, the server, further attempts, the mesh's reasons."""
    details = []
    if record.destination and record.destination != record.service:
        details.append(f"to {record.destination}")
    if record.server:
        details.append(f"{record.server} ({record.server_path})" if record.server_path else record.server)
    if record.attempts > 1:
        details.append(f"{record.attempts} attempts")
    if record.reason:
        details.append(record.reason)
    if record.would_deny:
        details.append(f"would-deny: {record.would_deny}")
    return details


def _render_duration(seconds: float) -> str:
    """Render a duration; the proxy's clock has a resolution of a millisecond."""
    return render_duration(seconds) if seconds >= 0.001 else "<1ms"


def render_time(unix_s: float) -> str:
    """Render a Unix time as the time of day here, with milliseconds."""
    try:
        return f"{time.strftime('%H:%M:%S', time.localtime(unix_s))}.{int(unix_s % 1 * 1000):03d}"
    except (OverflowError, ValueError, OSError):  # a time that no calendar has
        return NOTHING


def escape_json(text: str) -> str:
    """Escape what a terminal could interpret in JSON, which has control characters escaped already, as JSON does."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
