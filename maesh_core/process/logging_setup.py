"""Configures logging: to standard error, as text or as one JSON object per line.

Takes the level and the format from the settings. Standard output is for a command's result, so log lines never go
there.
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
"""The level names of Maesh 1.x (logrus), as Python's levels."""


class _LineFormatter(logging.Formatter):
    """Renders times in UTC with milliseconds, in the format of RFC 3339."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        """Render the time of the record."""
        whole = time.strftime(datefmt or "%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{whole}.{int(record.msecs):03d}Z"


class CommonFormatter(_LineFormatter):
    """`TIME LEVEL LOGGER: TEXT` on one line; the indented lines of a traceback follow.

    Texts contain names that anyone may have chosen, so every character that could start a new line or control a
    terminal is escaped.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Render the record without the traceback."""
        return escape_unprintable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Render a traceback, whose last lines may contain untrusted text."""
        return "\n".join(f"  {line}" for line in show_lines(super().formatException(ei)).split("\n"))


class JsonFormatter(_LineFormatter):
    """One object per line: time, level, logger, message, and the traceback as `error`."""

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
    """Log this process's messages from `level` up to standard error; replaces an earlier configuration."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else CommonFormatter())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # The watcher logs every change of any file: a log file in a watched folder would cause endless messages.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
