"""The columns of the list of services, and which of them fit a terminal.

Takes services and a width; returns lines. The service's name shrinks to NAME_MINIMUM before a column is left out.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from maesh_core.cli.top.numbers import render_count, render_duration, render_rate, render_share
from maesh_core.cli.top.services import (
    Severity,
    choose_window,
    compute_encrypted,
    compute_rate,
    describe_trouble,
    rate_service,
    rate_success,
)
from maesh_core.cli.top.spans import GAP, Line, Span, Style, fit, span
from maesh_core.model.traffic import ServiceTraffic, Window

NAME_MINIMUM = 18
TROUBLE_MINIMUM = 20
"""Columns that the text of what is wrong needs to be shown in a row."""
STYLES: dict[Severity, Style] = {Severity.GOOD: "", Severity.WARN: "warn", Severity.BAD: "bad"}


class Column(NamedTuple):
    """A column of numbers; the one with the lowest `weight` is left out first."""

    name: str
    width: int
    weight: int
    build: Callable[[Window], Span]


def _build_duration(name: str) -> Callable[[Window], Span]:
    return lambda window: span(render_duration(getattr(window.total, name)))


def _build_count(name: str) -> Callable[[Window], Span]:
    def build(window: Window) -> Span:
        value = getattr(window, name)
        return span(render_count(value), "warn" if value else "dim")

    return build


def build_encrypted(window: Window) -> Span:
    """Build the share that was encrypted of what went to other nodes."""
    share = compute_encrypted(window)
    return span(render_share(share), "warn" if share is not None and share < 1 else "")


COLUMNS = (
    Column("rate", 8, 9, lambda window: span(render_rate(compute_rate(window)))),
    Column("success", 7, 8, lambda window: span(render_share(window.success), STYLES[rate_success(window.success)])),
    Column("p50", 6, 5, _build_duration("p50")),
    Column("p95", 6, 1, _build_duration("p95")),
    Column("p99", 6, 7, _build_duration("p99")),
    Column("retries", 7, 2, _build_count("retries")),
    Column("limited", 7, 3, _build_count("limited")),
    Column("denied", 6, 4, _build_count("denied")),
)


ENCRYPTED = Column("encrypted", 9, 6, build_encrypted)
"""Shown if any service has encryption."""


class Layout(NamedTuple):
    """The columns that fit, the width of the name, and of the text of what is wrong (0: not shown)."""

    columns: tuple[Column, ...]
    name_width: int
    trouble_width: int


def choose_layout(width: int, longest_name: int, *, has_paths: bool = False) -> Layout:
    """Choose the columns for a width; the name gets what it needs, if it can."""
    wanted = max(longest_name, len("SERVICE"))
    columns = [*COLUMNS, ENCRYPTED] if has_paths else list(COLUMNS)
    while columns and width - _measure(columns) < min(wanted, NAME_MINIMUM):
        columns.remove(min(columns, key=lambda column: column.weight))
    rest = max(1, width - _measure(columns))
    name_width = min(rest, wanted)
    trouble_width = rest - name_width - len(GAP)
    if trouble_width < TROUBLE_MINIMUM:
        return Layout(tuple(columns), name_width, 0)
    return Layout(tuple(columns), name_width, trouble_width)


def _measure(columns: Sequence[Column]) -> int:
    return sum(len(GAP) + column.width for column in columns)


def build_name(service: ServiceTraffic) -> str:
    """Build the name of a row: the service port, and its traffic type if that is not HTTP."""
    return f"{service.key} ({service.traffic_type})" if service.traffic_type not in ("", "http") else service.key


def build_head(layout: Layout, sort: str, *, is_reversed: bool) -> Line:
    """Build the titles; an arrow marks the column that rows are sorted by."""
    arrow = "\u25b2" if is_reversed else "\u25bc"
    title = f"SERVICE{arrow}" if sort == "service" else "SERVICE"
    parts = [fit(span(title, "head"), layout.name_width)]
    for column in layout.columns:
        title = column.name.upper() if column.name[0] != "p" else column.name
        shown = f"{title}{arrow}" if column.name == sort else title
        # An arrow takes one column of the gap, so that it never makes a column wider.
        parts.append(fit(span(shown, "head"), column.width + len(GAP), is_right=True))
    if layout.trouble_width:
        parts.append(span(f"{GAP}TROUBLE", "head"))
    return parts


def build_row(service: ServiceTraffic, layout: Layout, *, is_total: bool) -> Line:
    """Build the row of a service."""
    window = choose_window(service, is_total=is_total)
    severity = rate_service(service, window)
    is_idle = severity is Severity.GOOD and not window.requests and not window.connections
    style: Style = "dim" if is_idle else "bad" if severity is Severity.BAD else ""
    parts = [fit(span(build_name(service), style), layout.name_width)]
    for column in layout.columns:
        cell = column.build(window)
        if is_idle:
            cell = cell._replace(style="dim")
        parts.append(fit(cell, column.width + len(GAP), is_right=True))
    trouble = describe_trouble(service, window) if layout.trouble_width else ""
    if trouble:
        parts += [Span(GAP), fit(span(trouble, STYLES[severity]), layout.trouble_width)]
    return parts
