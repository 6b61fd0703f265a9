"""Delays log lines about objects until `maesh up` has shown the same errors and notices below its table.

If standard output and standard error are the same terminal, each error and notice of the start would appear twice: in
the log and below the table. Takes the handlers that write the log. Drops a record only after the report has shown it.
"""

import logging
import sys
from collections.abc import Iterable

from maesh_core.controller.reports import finding_log

HELD_LOGGER = finding_log.__name__


class HeldFindings(logging.Filter):
    """A filter that holds the records of findings until `drop` or `release`. Other errors also release them."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[logging.LogRecord] = []
        self._handlers: tuple[logging.Handler, ...] = ()

    def __repr__(self) -> str:
        return f"<HeldFindings {len(self._held)} records>"

    def begin(self, handlers: Iterable[logging.Handler]) -> None:
        """Start to hold the findings of these handlers."""
        self._handlers = tuple(handlers)
        for handler in self._handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold a finding; let every other record pass."""
        if record.name == HELD_LOGGER:
            self._held.append(record)
            return False
        if record.levelno >= logging.ERROR:
            self.release()
        return True

    def drop(self) -> None:
        """Drop the held records, because the report has shown them. From now on everything passes."""
        self._held.clear()
        self.release()

    def release(self) -> None:
        """Write the held records. From now on everything passes."""
        for handler in self._handlers:
            handler.removeFilter(self)
        self._handlers, handlers = (), self._handlers
        self._held, held = [], self._held
        for record in held:
            for handler in handlers:
                handler.handle(record)


def is_one_terminal() -> bool:
    """Whether standard output and standard error are terminals."""
    return sys.stdout.isatty() and sys.stderr.isatty()
