"""Where log lines go and how they look: standard error, as text or as one JSON object each.

Takes the level and the format of the settings. Standard output belongs to what a command was asked for, so no log
line ever goes there.
"""

import logging
import sys
import time
from typing import Any

import msgspec

from maesh_core.process.printable import escape_unprintable, show_lines

LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}
"""The names that users of Maesh know (logrus), as Python's levels."""


class _LineFormatter(logging.Formatter):
    """Times in UTC with milliseconds, as RFC 3339 writes them."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Render when the record was made."""
        whole = time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{whole}.{int(record.msecs):03d}Z"


class CommonFormatter(_LineFormatter):
    """`TIME LEVEL LOGGER: TEXT` on one line; a traceback follows on lines that are indented.

    Texts hold names that anybody may have chosen, so no character of them can begin a line or reach a terminal.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Render all but the traceback."""
        return escape_unprintable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Render a traceback, whose last lines may be anybody's text."""
        return "\n".join(f"  {line}" for line in show_lines(super().formatException(ei)).split("\n"))


class JsonFormatter(_LineFormatter):
    """One object a line: time, level, logger, message, and the traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def configure_logging(level: str, log_format: str) -> None:
    """Send log lines of this process from `level` up to standard error; replaces what was set before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else CommonFormatter())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # The watcher logs every change of any file: a log file that lies beside the manifests would feed itself.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
