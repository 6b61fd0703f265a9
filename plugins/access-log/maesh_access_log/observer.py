"""The observer of a worker's traffic: selects records, renders them, and hands them over in batches.

Runs in the event loop, and does nothing there that can wait. A record is rendered at once, because it is cheaper than
keeping the request's head alive.
"""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_access_log.filters import build_filter
from maesh_access_log.rendering import build_renderer
from maesh_access_log.writer import BatchWriter
from maesh_core.plugin import MetricFamily, TrafficRecord, cut_port_key

BATCH_LINES: Final = 1024
"""A batch of this size is handed over at once; a smaller one at the next tick of the clock, four times a second. Each
batch makes two threads compete for the interpreter: batches of 256 lines took 3 us more for each record at 20,000
requests a second than batches of 2048."""
REMEMBERED_SERVICES: Final = 65_536
"""Service ports whose decision is remembered; removed services are forgotten when there are more."""

WRITTEN: Final = "maesh_access_log_written"
DROPPED: Final = "maesh_access_log_dropped"
HELP: Final[Mapping[str, str]] = {
    WRITTEN: "Records that were written to the access log.",
    DROPPED: "Records that were dropped because the access log's output was slow or failed.",
}


class AccessLog:
    """Implements `ConfiguredObserver`, `CountingObserver` and `ClosingObserver`."""

    name = "access-log"
    kind = "access-log"
    settings_type = ServiceAccessLog

    def __init__(self, settings: AccessLogSettings, writer: BatchWriter) -> None:
        self._writer = writer
        self._has_signal = False
        self._lines: list[str] = []
        self._render = build_renderer(settings.format, settings.headers)
        self._selects = build_filter(settings)
        self._is_default = settings.services == "all"
        self._services: Mapping[str, ServiceAccessLog] = {}
        self._known: dict[str, bool] = {}
        """Whether each service port is logged, found at its first record."""

    def __repr__(self) -> str:
        return f"<AccessLog {len(self._lines)} lines, {self._writer!r}>"

    def apply_settings(self, settings: Mapping[str, ServiceAccessLog]) -> None:
        """Use the annotations of these services, by `namespace/name`."""
        self._services = settings
        self._known = {}

    def observe(self, record: TrafficRecord) -> None:
        """Log one record, if it is selected."""
        is_logged = self._known.get(record.service)
        if is_logged is None:
            is_logged = self._find_service(record.service)
        if not is_logged or (self._selects is not None and not self._selects(record)):
            return
        lines = self._lines
        lines.append(self._render(record))
        if len(lines) >= BATCH_LINES:
            self.flush()

    def flush(self, now: float = 0.0) -> None:
        """Hand the lines over to the writer; `now` is the time of the clock, which calls this."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._writer.put("".join(lines).encode(), len(lines))

    def reopen(self) -> None:
        """Open the file again, after all earlier records were written to the old one."""
        self.flush()
        self._writer.reopen()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Count the records that were written and dropped."""
        written, dropped = self._writer.written, self._writer.dropped
        return [
            MetricFamily(name=name, type="counter", help=HELP[name], samples=[((), count)])
            for name, count in ((WRITTEN, written), (DROPPED, dropped))
        ]

    def follow_signal(self) -> None:
        """Open the file again at SIGUSR1; the parent passes the signal on to its workers."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.reopen)
        self._has_signal = True

    def close(self) -> None:
        """Write everything that was accepted, for at most CLOSE_LIMIT_S, and end."""
        if self._has_signal:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        self.flush()
        self._writer.close()

    def _find_service(self, port_key: str) -> bool:
        service, _, _ = cut_port_key(port_key).rpartition(":")
        found = self._services.get(service)
        is_logged = self._is_default if found is None else found.is_logged
        if len(self._known) >= REMEMBERED_SERVICES:
            self._known.clear()
        self._known[port_key] = is_logged
        return is_logged
