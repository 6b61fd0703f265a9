"""What a node's parent and its workers say to each other: orders, and the reports that answer them.

Frozen structs, no I/O. Each order carries a number, and the report that answers it the same; a report with number 0
answers none. The configuration itself and sockets travel beside the message (maesh_core/proxy/workers/channel.py).
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the parent tells a worker."""

    number: int = 0


class ApplyUpdate(Order, frozen=True):
    """Put the update in the payload in force, which was pulled `since` a revision. Answer: Applied or Failed."""

    since: str | None


class Listen(Order, frozen=True):
    """Serve an entrypoint on the sockets that come along. Answer: Done or Failed."""

    entrypoint: WantedEntrypoint


class Unlisten(Order, frozen=True):
    """Accept what waits on an entrypoint, and close it. Answer: Done."""

    entrypoint: WantedEntrypoint


class Collect(Order, frozen=True):
    """Tell the counters. Answer: Counted."""


class Drain(Order, frozen=True):
    """Stop accepting, finish what is under way, and end.

    Answer: none; the worker says by Draining what it waits for, if anything, tells its counters at last, then ends.
    """


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a worker tells the parent."""

    number: int = 0


class Started(Report, frozen=True):
    """The worker takes orders."""


class NotStarted(Report, frozen=True):
    """The worker cannot start, and ends: `text` is a line for a person."""

    text: str


class Applied(Report, frozen=True):
    """The update is in force: what there should be to listen on, and the routers that are not carried, with why.

    `refused` None means: as in the last report.
    """

    entrypoints: Sequence[WantedEntrypoint]
    refused: Mapping[str, str] | None = None


class Done(Report, frozen=True):
    """The order was carried out."""


class Failed(Report, frozen=True):
    """The order was not carried out, and nothing has changed."""

    text: str


class Counted(Report, frozen=True):
    """The counters of this worker."""

    families: Sequence[MetricFamily]


class Draining(Report, frozen=True):
    """What is under way still: connections and sessions, by protocol."""

    waiting: Mapping[str, int]


AnyOrder: TypeAlias = ApplyUpdate | Listen | Unlisten | Collect | Drain
AnyReport: TypeAlias = Started | NotStarted | Applied | Done | Failed | Counted | Draining
