"""The observer of a worker's traffic: selects records, renders them, and hands them over in batches.

Runs in the event loop, and does nothing there that can wait. Records are rendered a few dozen at a time: that takes
half as long as one at a time between requests, whose code replaces the renderer's in the processor's caches.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_access_log.filters import build_filter
from maesh_access_log.rendering import build_renderer
from maesh_access_log.writer import BatchWriter
from maesh_core.plugin import MetricFamily, PodNames, TrafficRecord, cut_port_key

RENDERED_RECORDS: Final = 128
"""Records that are rendered together. Until then they keep the heads of their requests, a few megabytes at most."""
BATCH_LINES: Final = 4096
BATCH_BYTES: Final = 1 << 20
"""A batch of either size is handed over at once; a smaller one at the next tick of the clock, four times a second. Each
batch makes two threads compete for the interpreter, so larger batches cost less."""
REMEMBERED_SERVICES: Final = 65_536
"""Service ports whose decision is remembered; removed services are forgotten when there are more."""

WRITTEN: Final = "maesh_access_log_written"
DROPPED: Final = "maesh_access_log_dropped"
HELP: Final[Mapping[str, str]] = {
    WRITTEN: "Records that were written to the access log.",
    DROPPED: "Records that were dropped because the output was slow or failed, or they could not be rendered.",
}

_logger = logging.getLogger(__name__)


class AccessLog:
    """Implements `ConfiguredObserver`, `CountingObserver` and `ClosingObserver`."""

    name = "access-log"
    kind = "access-log"
    settings_type = ServiceAccessLog

    def __init__(self, settings: AccessLogSettings, writer: BatchWriter, pods: PodNames | None = None) -> None:
        self._writer = writer
        self._has_signal = False
        self._records: list[TrafficRecord] = []
        self._pieces: list[bytes] = []
        self._lines = 0
        self._bytes = 0
        self._failures = 0
        self._renderer = build_renderer(settings.format, settings.headers, pods)
        self._selects = build_filter(settings)
        self._is_default = settings.services == "all"
        self._services: Mapping[str, ServiceAccessLog] = {}
        self._known: dict[str, bool] = {}
        """Whether each service port is logged, found at its first record."""

    def __repr__(self) -> str:
        return f"<AccessLog {self._lines + len(self._records)} lines, {self._writer!r}>"

    def apply_settings(self, settings: Mapping[str, ServiceAccessLog]) -> None:
        """Use the annotations of these services, by `namespace/name` or service port, for records from now on."""
        self._render_records()
        self._services = settings
        self._known = {}

    def observe(self, record: TrafficRecord) -> None:
        """Log one record, if it is selected."""
        records = self._records
        records.append(record)
        if len(records) >= RENDERED_RECORDS:
            self._render_records()

    def flush(self, now: float = 0.0) -> None:
        """Hand the lines over to the writer; `now` is the time of the clock, which calls this."""
        self._render_records()
        if self._lines:
            pieces, lines = self._pieces, self._lines
            self._pieces, self._lines, self._bytes = [], 0, 0
            self._writer.put(b"".join(pieces), lines)

    def _render_records(self) -> None:
        """Render the records that are selected."""
        records = self._records
        if not records:
            return
        self._records = []
        if self._services or not self._is_default:
            records = self._choose(records)
        selects = self._selects
        if selects is not None:
            records = [record for record in records if selects(record)]
        text, count = self._renderer.render_all(records, self._note_failure)
        if not count:
            return
        piece = text.encode()
        self._pieces.append(piece)
        self._lines += count
        self._bytes += len(piece)
        if self._lines >= BATCH_LINES or self._bytes >= BATCH_BYTES:
            self.flush()

    def _choose(self, records: list[TrafficRecord]) -> list[TrafficRecord]:
        """Choose the records of services that are logged."""
        chosen = []
        for record in records:
            service = record.service
            is_logged = self._known.get(service)
            if is_logged is None:
                is_logged = self._find_service(service)
            if is_logged:
                chosen.append(record)
        return chosen

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            _logger.error("access log: a record cannot be rendered; logged once", exc_info=error)

    def reopen(self) -> None:
        """Open the file again, after all earlier records were written to the old one."""
        self.flush()
        self._writer.reopen()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Count the records that were written and dropped."""
        written, dropped = self._writer.written, self._writer.dropped + self._failures
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
        of_port = cut_port_key(port_key)
        found = self._services.get(of_port) or self._services.get(of_port.rpartition(":")[0])
        is_logged = self._is_default if found is None else found.is_logged
        if len(self._known) >= REMEMBERED_SERVICES:
            self._known.clear()
        self._known[port_key] = is_logged
        return is_logged
