"""Draws the view as the lines of a screen.

Takes a View and a size; returns exactly as many lines as the screen has, none wider than it. Sets the view's page size
and keeps its first row in range, which only the size of the screen decides.
"""

import time

from maesh_core.cli.top.columns import build_head, build_name, build_row, choose_layout
from maesh_core.cli.top.service_page import build_page
from maesh_core.cli.top.services import choose_window, describe_trouble, has_paths
from maesh_core.cli.top.spans import Line, Span, cut_line, span, wrap_line
from maesh_core.cli.top.view import View
from maesh_core.model.traffic import TrafficReport

LIST_KEYS = "q quit  \u2191\u2193 select  Enter open  / filter  s sort  r reverse  t since start"
PAGE_KEYS = "Esc back  \u2191\u2193 scroll  t since start  q quit"
FILTER_KEYS = "Enter keep the filter  Esc remove it"
NAMES_SHOWN = 3


def draw_screen(view: View, width: int, height: int, *, now_s: float) -> list[Line]:
    """Draw everything: a head, the list or the opened service, and a foot."""
    head = _draw_head(view, now_s)
    foot = _draw_foot(view)
    rows = max(0, height - len(head) - len(foot))
    body = _draw_list(view, width, rows) if view.opened is None else _draw_service(view, width, rows)
    body += [[]] * (rows - len(body))
    return [cut_line(line, width) for line in (*head, *body, *foot)][:height]


def describe_report(report: TrafficReport, *, is_total: bool) -> str:
    """Describe what a report covers."""
    count, nodes = len(report.services), len(report.nodes)
    span_text = "since start" if is_total else f"last {report.interval_s:.0f} s"
    return f"{_count(count, 'service port')}, {_count(nodes, 'proxy', 'proxies')}, {span_text}"


def describe_gaps(report: TrafficReport) -> str:
    """Describe what is missing in a report, or was refused before it was routed; empty if there is nothing."""
    parts = []
    silent = [node for node in report.nodes if node.error]
    if silent:
        told = "; ".join(f"{node.name}: {node.error}" for node in silent[:NAMES_SHOWN])
        parts.append(f"{len(silent)} of {len(report.nodes)} proxies did not answer: {told}")
    if report.missing:
        told = "; ".join(f"{each.name}: {each.error}" for each in report.missing[:NAMES_SHOWN])
        parts.append(f"proxies may be missing, as {_count(len(report.missing), 'controller')} did not answer: {told}")
    refused = sum(node.is_refused for node in report.nodes)
    if refused:
        proxies = _count(refused, "proxy", "proxies")
        parts.append(f"{proxies} cannot pull, as controllers have no contact with the cluster")
    if any(report.refused.values()):
        told = ", ".join(f"{count} x {code}" for code, count in sorted(report.refused.items()) if count)
        parts.append(f"refused before routing, since start: {told}")
    return "; ".join(parts)


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _draw_head(view: View, now_s: float) -> list[Line]:
    report = view.report
    told = describe_report(report, is_total=view.is_total) if report else "no data yet"
    lines: list[Line] = [[span("maesh top", "title"), span(f"  {view.source}  {told}")]]
    if view.failure:
        age = f" (data are {now_s - view.received_at_s:.0f} s old)" if report else ""
        lines.append([span(f"controller lost{age}: {view.failure}", "bad")])
    elif report and (gaps := describe_gaps(report)):
        lines.append([span(gaps, "warn")])
    else:
        lines.append([span(time.strftime("%H:%M:%S", time.localtime(now_s)), "dim")])
    return lines


def _draw_foot(view: View) -> list[Line]:
    if view.is_filtering:
        return [[span(f"filter: {view.filter_text}"), Span("_", "selected")], [Span(FILTER_KEYS, "dim")]]
    if view.opened is not None:
        return [[Span(PAGE_KEYS, "dim")]]
    told: Line = []
    if view.rows:
        service = view.rows[view.selected_row]
        trouble = describe_trouble(service, choose_window(service, is_total=view.is_total))
        told = [span(f"{build_name(service)}: {trouble}", "warn")] if trouble else []
    return [told, [Span(LIST_KEYS, "dim")]]


def _draw_list(view: View, width: int, height: int) -> list[Line]:
    rows = view.rows
    filtered = f", filter: {view.filter_text}" if view.filter_text else ""
    title = span(f"{len(rows)} shown, sorted by {view.sort}{', reversed' if view.is_reversed else ''}{filtered}", "dim")
    if not rows:
        found: list[Line] = [[title], [], [span("no service matches" if view.filter_text else "no service yet")]]
        return found[:height]
    view.page_rows = max(1, height - 2)
    selected = view.selected_row
    view.first_row = min(view.first_row, selected, max(0, len(rows) - view.page_rows))
    view.first_row = max(view.first_row, selected - view.page_rows + 1)
    shown = rows[view.first_row : view.first_row + view.page_rows]
    layout = choose_layout(width, max(span(build_name(each)).width for each in rows), has_paths=has_paths(rows))
    lines: list[Line] = [[title], build_head(layout, view.sort, is_reversed=view.is_reversed)]
    for place, service in enumerate(shown, view.first_row):
        line = build_row(service, layout, is_total=view.is_total)
        lines.append(_select(line) if place == selected else line)
    return lines[:height]


def _select(line: Line) -> Line:
    return [part._replace(style="selected bad" if part.style == "bad" else "selected") for part in line]


def _draw_service(view: View, width: int, height: int) -> list[Line]:
    service = view.find_opened()
    if service is None:
        return [[span(f"{view.opened}: the controller does not report this service any more", "warn")]]
    lines = [part for line in build_page(service, is_total=view.is_total) for part in wrap_line(line, width)]
    view.page_rows = max(1, height)
    view.first_row = min(view.first_row, max(0, len(lines) - height))
    shown = lines[view.first_row : view.first_row + height]
    left = len(lines) - view.first_row - len(shown)
    if left > 0 and shown:
        shown[-1] = [span(f"... {left + 1} more lines, scroll with the arrow keys", "dim")]
    return shown
