"""`maesh top --once`: prints one report as plain text, without colours.

Takes a report and the width of the terminal; None means that the output goes to a file or a program, which gets all
columns at full width.
"""

from maesh_core.cli.top.columns import build_head, build_name, build_row, choose_layout
from maesh_core.cli.top.drawing import describe_gaps, describe_report
from maesh_core.cli.top.service_page import build_page
from maesh_core.cli.top.services import filter_services, has_paths, sort_services
from maesh_core.cli.top.spans import Line, join_plain, span
from maesh_core.model.traffic import TrafficReport
from maesh_core.settings.traffic import TopSettings

UNLIMITED_WIDTH = 500


def render_once(report: TrafficReport, settings: TopSettings, *, width: int | None, is_opened: bool) -> str:
    """Render the list of services, or with `is_opened` the page of every service in the report."""
    lines = _build_pages(report) if is_opened else _build_list(report, settings, width or UNLIMITED_WIDTH)
    if gaps := describe_gaps(report):
        lines += [[], [span(gaps)]]
    return "\n".join(map(join_plain, lines))


def _build_list(report: TrafficReport, settings: TopSettings, width: int) -> list[Line]:
    found = filter_services(report.services, settings.filter)
    services = sort_services(found, settings.sort)
    told: Line = [span(describe_report(report, is_total=False))]
    if not services:
        return [told, [span("no service matches the filter" if settings.filter else "no service yet")]]
    layout = choose_layout(width, max(span(build_name(each)).width for each in services), has_paths=has_paths(services))
    head = build_head(layout, settings.sort, is_reversed=False)
    return [told, head, *(build_row(each, layout, is_total=False) for each in services)]


def _build_pages(report: TrafficReport) -> list[Line]:
    lines: list[Line] = []
    for service in report.services:
        lines += [*([[]] if lines else []), *build_page(service, is_total=False)]
    return lines
