"""The observers of one worker's traffic: plugins' ones for the worker's whole life, and taps while somebody watches.

Takes a record from where traffic ends, and passes it on. Code that creates records checks `is_active` first, so
traffic without an observer costs one check. An observer that raises concerns nobody else.
"""

import logging
from collections.abc import Sequence

from maesh_core.model.metrics import MetricFamily
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.plugin_system.hookspecs import TrafficObserver

_logger = logging.getLogger(__name__)


class Observers:
    """The observers of a worker. `is_active` is true while there is one."""

    __slots__ = ("_failures", "_observers", "is_active")

    def __init__(self, observers: Sequence[TrafficObserver] = ()) -> None:
        self._observers = tuple(observers)
        self._failures: dict[str, int] = {}
        self.is_active = bool(self._observers)

    def __repr__(self) -> str:
        return f"<Observers {[each.name for each in self._observers]}>"

    def add(self, observer: TrafficObserver) -> None:
        """Observe from now on."""
        self._observers = (*self._observers, observer)
        self.is_active = True

    def remove(self, observer: TrafficObserver) -> None:
        """Observe no longer."""
        self._observers = tuple(each for each in self._observers if each is not observer)
        self.is_active = bool(self._observers)

    def observe(self, record: TrafficRecord) -> None:
        """Pass a record to every observer; count one that raises, and log its first exception."""
        for observer in self._observers:
            try:
                observer.observe(record)
            except Exception as error:  # an observer never affects traffic
                self._note_failure(observer, error)

    def _note_failure(self, observer: TrafficObserver, error: Exception) -> None:
        count = self._failures[observer.name] = self._failures.get(observer.name, 0) + 1
        if count == 1:
            _logger.error("observer %s failed; traffic is not affected", observer.name, exc_info=error)

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics of the observers, and how often each has raised."""
        families: list[MetricFamily] = []
        for observer in self._observers:
            collect = getattr(observer, "collect_metrics", None)
            try:
                if collect is not None:
                    families += collect()
            except Exception as error:  # an observer never affects the metrics of others
                self._note_failure(observer, error)
        failures = MetricFamily(
            name="maesh_observer_failures",
            type="counter",
            help="Calls of observers that raised; most are records that the observer missed.",
            labels=("observer",),
            samples=[((name,), count) for name, count in sorted(self._failures.items())],
        )
        return [*families, failures]

    def close(self) -> None:
        """Close the observers that have something to finish; one that raises does not keep others from it."""
        for observer in self._observers:
            close = getattr(observer, "close", None)
            try:
                if close is not None:
                    close()
            except Exception as error:  # the worker ends in any case
                _logger.error("observer %s failed to finish", observer.name, exc_info=error)
        self._observers = ()
        self.is_active = False
