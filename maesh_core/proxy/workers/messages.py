"""Messages between the parent and its workers: orders, and the reports that answer them.

Frozen structs, no I/O. Each order has a number, which its report repeats; a report with number 0 belongs to no order.
Configurations and sockets are sent along with the message (maesh_core/proxy/workers/channel.py).
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from maesh_core.model.metrics import MetricFamily
from maesh_core.model.tap import TapFilter, TappedRecord
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message of the parent to a worker."""

    number: int = 0


class ApplyUpdate(Order, frozen=True):
    """Apply the update in the payload, which was pulled with `since`. Report: Applied or Failed."""

    since: str | None


class Listen(Order, frozen=True):
    """Serve an entrypoint on the received sockets. Report: Done or Failed."""

    entrypoint: WantedEntrypoint


class Unlisten(Order, frozen=True):
    """Accept waiting clients of an entrypoint, then close it. Report: Done."""

    entrypoint: WantedEntrypoint


class Collect(Order, frozen=True):
    """Send the counters. Report: Counted."""


class CollectReport(Order, frozen=True):
    """Make the report of this name. Report: Reported, or Failed if no plugin makes it."""

    name: str


class Drain(Order, frozen=True):
    """Stop accepting, finish open connections, and end.

    No report with its number: the worker sends Draining if it has to wait, sends Counted at the end, then ends.
    """


class StartTap(Order, frozen=True):
    """Report the records that pass a filter, at most `rate` in a second, until StopTap. It may be repeated.

    No report with its number: the worker sends Tapped while there are records.
    """

    tap: int
    filter: TapFilter
    rate: int


class StopTap(Order, frozen=True):
    """End a tap. No report."""

    tap: int


class HandOver(Order, frozen=True):
    """Pass the payload to the transport of this name; it replaces an earlier one. No report."""

    name: str


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message of a worker to the parent."""

    number: int = 0


class Started(Report, frozen=True):
    """The worker is ready for orders."""


class NotStarted(Report, frozen=True):
    """The worker cannot start, and ends; `text` is the reason for the log."""

    text: str


class Applied(Report, frozen=True):
    """The update was applied: the entrypoints to open, and the refused routers with their reasons.

    If `refused` is None, it has not changed since the last report.
    """

    entrypoints: Sequence[WantedEntrypoint]
    refused: Mapping[str, str] | None = None


class Done(Report, frozen=True):
    """The order was executed."""


class Failed(Report, frozen=True):
    """The order was not executed, and nothing has changed."""

    text: str


class Counted(Report, frozen=True):
    """The counters of this worker."""

    families: Sequence[MetricFamily]


class Reported(Report, frozen=True):
    """A report of a plugin, as JSON."""

    body: bytes


class Draining(Report, frozen=True):
    """The number of connections and sessions that a drain waits for, by protocol."""

    waiting: Mapping[str, int]


class Tapped(Report, frozen=True):
    """Records of a tap, and how many passed its filter but were dropped since the last report."""

    tap: int
    records: Sequence[TappedRecord]
    dropped: int


AnyOrder: TypeAlias = ApplyUpdate | Listen | Unlisten | Collect | CollectReport | Drain | StartTap | StopTap | HandOver
AnyReport: TypeAlias = Started | NotStarted | Applied | Done | Failed | Counted | Reported | Draining | Tapped
