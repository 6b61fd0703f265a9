"""What `maesh up` prints when it is ready: services, where to reach them, and what is wrong with them.

Takes the reports of `/api/services`, and which ports have a server: by service, number and protocol. Gives text for a
person, or one line of JSON.
"""

from collections.abc import Collection, Sequence

import msgspec

from maesh_core.cli.tables import render_table
from maesh_core.model.configuration import PortStatus
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import ServiceReport

_ROWS_LIMIT = 30
"""More would scroll what matters off the screen; the API has them all."""

HINT = "Ctrl-C ends."

Served = Collection[tuple[ObjectKey, int, str]]


def render_report(reports: Sequence[ServiceReport], *, host: str, api_url: str, served: Served) -> str:
    """Render services as a table, a request that works, and below it errors and notices."""
    if not reports:
        return f"No services in these manifests.\n\n{HINT}"
    blocks = [_render_services(reports, host, api_url)]
    if (command := _render_curl(reports, host, served)) is not None:
        blocks.append(f"Try:\n  {command}")
    if remarks := _render_remarks(reports, api_url, served):
        blocks.append(remarks)
    return "\n\n".join([*blocks, HINT])


def _render_services(reports: Sequence[ServiceReport], host: str, api_url: str) -> str:
    rows = [row for report in reports for row in _build_rows(report, host)]
    table = render_table(("SERVICE", "HOST", "TYPE", "PORT", "ENTRYPOINT"), rows[:_ROWS_LIMIT])
    return _add_rest(table, len(rows) - _ROWS_LIMIT, api_url)


def _build_rows(report: ServiceReport, host: str) -> list[tuple[str, str, str, str, str]]:
    name = f"{report.namespace}/{report.name}"
    kind = report.traffic_type or "-"
    rows = [
        (name, report.host, kind, str(port.port), f"{host}:{port.entrypoint}" if port.entrypoint else "-")
        for port in report.ports
    ]
    return rows or [(name, report.host, kind, "-", "-")]


def _add_rest(text: str, rest: int, api_url: str) -> str:
    return f"{text}\n... and {rest} more: {api_url}/api/services" if rest > 0 else text


def _render_curl(reports: Sequence[ServiceReport], host: str, served: Served) -> str | None:
    """Render a request that the mesh answers from an upstream, if there is one."""
    for report in reports:
        if report.traffic_type == "http" and not report.errors:
            for port in report.ports:
                if port.entrypoint is not None and _is_served(report, port, served):
                    return f"curl -H 'Host: {report.host}' http://{host}:{port.entrypoint}/"
    return None


def _is_served(report: ServiceReport, port: PortStatus, served: Served) -> bool:
    return (ObjectKey(report.namespace, report.name), port.port, port.protocol) in served


def _render_remarks(reports: Sequence[ServiceReport], api_url: str, served: Served) -> str:
    errors = [f"error: {report.namespace}/{report.name}: {text}" for report in reports for text in report.errors]
    notices = [f"notice: {report.namespace}/{report.name}: {text}" for report in reports for text in report.notices]
    waiting = [
        f"notice: {report.namespace}/{report.name}: port {port.port} has no server that is ready"
        for report in reports
        for port in report.ports
        if port.entrypoint is not None and not _is_served(report, port, served)
    ]
    remarks = errors + waiting + notices
    return _add_rest("\n".join(remarks[:_ROWS_LIMIT]), len(remarks) - _ROWS_LIMIT, api_url)


def render_report_line(reports: Sequence[ServiceReport]) -> str:
    """Render services as one line of JSON, as `/api/services` does."""
    return msgspec.json.encode(reports).decode()
