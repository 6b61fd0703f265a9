"""The report that `maesh up` prints when it is ready: services, their addresses, and errors and notices.

Takes the reports of `/api/services` and `/api/objects`. Returns text, or one line of JSON.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from maesh_core.cli.tables import render_table
from maesh_core.model.configuration import PortStatus
from maesh_core.model.messages import ObjectReport, ServiceReport
from maesh_core.model.schemes import DEFAULT_SCHEME
from maesh_core.plugin_system.conditions import MeshCondition

_ROWS_LIMIT = 30
"""More rows would not fit on a screen; the API has all of them."""

HINT = "Press Ctrl-C to stop."


def render_report(
    reports: Sequence[ServiceReport],
    *,
    host: str,
    api_url: str,
    objects: Sequence[ObjectReport] = (),
    page_url: str = "",
    top_command: str = "",
    conditions: Sequence[MeshCondition] = (),
) -> str:
    """Render a table of services, a call that works, and what is wrong with the mesh, services and objects."""
    blocks = [_render_services(reports, host, api_url) if reports else "No services in these manifests."]
    if (call := _render_call(reports, host)) is not None:
        blocks.append(f"Try:\n  {call}")
    if page_url:
        blocks.append(f"Look at it in a browser:\n  {page_url}")
    if top_command:
        blocks.append(f"Look at it in a terminal:\n  {top_command}")
    if warnings := [f"warning: {text}" for each in conditions for text in each.problems]:
        blocks.append("\n".join(warnings))
    if remarks := _render_remarks(reports, objects, api_url):
        blocks.append(remarks)
    return "\n\n".join([*blocks, HINT])


def build_top_command(api_url: str) -> str:
    """Build the command that shows the traffic. It works in this folder, and beside a kubeconfig of a cluster."""
    own = Path(sys.executable).with_name("maesh")
    found = shutil.which("maesh")
    name = "maesh" if found and Path(found) == own else shlex.quote(os.path.relpath(own))
    return f"{name} top --endpoint {api_url}"


def _render_services(reports: Sequence[ServiceReport], host: str, api_url: str) -> str:
    """Render the table of services. The column of schemes is only there if a port has another one than http."""
    has_schemes = any(port.scheme != DEFAULT_SCHEME for report in reports for port in report.ports)
    rows = [row for report in reports for row in _build_rows(report, host, has_schemes=has_schemes)]
    head = ("SERVICE", "HOST", "TYPE", "PORT", *(("SCHEME",) if has_schemes else ()), "ENTRYPOINT")
    table = render_table(head, rows[:_ROWS_LIMIT])
    return _add_rest(table, len(rows) - _ROWS_LIMIT, f"{api_url}/api/services")


def _build_rows(report: ServiceReport, host: str, *, has_schemes: bool) -> list[tuple[str, ...]]:
    start = (f"{report.namespace}/{report.name}", report.host)
    rows = []
    for port in report.ports:
        kind = port.traffic_type or report.traffic_type or "-"
        scheme = port.scheme if (kind == "http" or port.scheme != DEFAULT_SCHEME) and port.entrypoint else "-"
        entrypoint = f"{host}:{port.entrypoint}" if port.entrypoint else "-"
        rows.append((*start, kind, str(port.port), *((scheme,) if has_schemes else ()), entrypoint))
    return rows or [(*start, report.traffic_type or "-", "-", *(("-",) if has_schemes else ()), "-")]


def _add_rest(text: str, rest: int, url: str) -> str:
    return f"{text}\n... and {rest} more: {url}" if rest > 0 else text


def _render_call(reports: Sequence[ServiceReport], host: str) -> str | None:
    """Render a request that the mesh answers from an upstream, if there is one."""
    for report in reports:
        if not report.errors:
            for port in report.ports:
                is_http = (port.traffic_type or report.traffic_type) == "http"
                if is_http and port.entrypoint is not None and not port.unserved:
                    return _render_call_of_port(report.host, port, f"{host}:{port.entrypoint}")
    return None


def _render_call_of_port(name: str, port: PortStatus, address: str) -> str:
    """Render a curl command, or for gRPC what a client needs: curl cannot send a gRPC call."""
    if _speaks_grpc(port):
        return f"a gRPC client without TLS: address {address}, authority {name}"
    prior_knowledge = "--http2-prior-knowledge " if port.scheme == "h2c" else ""
    return f"curl {prior_knowledge}-H 'Host: {name}' http://{address}/"


def _speaks_grpc(port: PortStatus) -> bool:
    """Whether the `appProtocol` of a port of HTTP/2 says gRPC, or its name does, as in `grpc` or `grpc-api`."""
    return port.scheme != DEFAULT_SCHEME and "grpc" in (port.app_protocol, port.name.partition("-")[0])


def _render_remarks(reports: Sequence[ServiceReport], objects: Sequence[ObjectReport], api_url: str) -> str:
    errors = [f"error: {report.namespace}/{report.name}: {text}" for report in reports for text in report.errors]
    notices = [f"notice: {report.namespace}/{report.name}: {text}" for report in reports for text in report.notices]
    waiting = [
        f"notice: {report.namespace}/{report.name}: port {port.port} has no ready server: {port.unserved}"
        for report in reports
        for port in report.ports
        if port.unserved
    ]
    shown = {f"{report.namespace}/{report.name}: {text}" for report in reports for text in _list_texts(report)}
    of_services = "\n".join(shown)
    errors += [f"error: {line}" for each in objects for line in _list_lines(each, each.errors, shown, of_services)]
    notices += [f"notice: {line}" for each in objects for line in _list_lines(each, each.notices, shown, of_services)]
    remarks = errors + waiting + notices
    text = "\n".join(remarks[:_ROWS_LIMIT])
    return _add_rest(text, len(remarks) - _ROWS_LIMIT, f"{api_url}/api/services and {api_url}/api/objects")


def _list_texts(report: ServiceReport) -> tuple[str, ...]:
    return (*report.errors, *report.notices)


def _list_lines(report: ObjectReport, texts: Sequence[str], shown: Collection[str], of_services: str) -> Iterator[str]:
    """Return a line for each text that no line of a service has already."""
    name = f"{report.namespace}/{report.name}"
    for text in texts:
        is_own = report.kind == "Service" and f"{name}: {text}" in shown
        is_of_a_service = report.kind not in ("", "Service") and text in of_services
        if not (is_own or is_of_a_service):
            yield f"{report.kind} {name}: {text}" if report.name else f"{report.origin}: {text}"


def render_report_line(reports: Sequence[ServiceReport]) -> str:
    """Render services as one line of JSON, as `/api/services` does."""
    return msgspec.json.encode(reports).decode()
