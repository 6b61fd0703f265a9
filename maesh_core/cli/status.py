"""`maesh status`: an overview of the mesh, from one controller's API or, through the API server, from all of them.

Prints tables or JSON. The exit status is 0 if every controller and proxy is ready and answered, everything could be
read, and every service has a ready server; otherwise it is 3.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import typer

from maesh_core.cli.encryption_table import render_encryption
from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.running import run_to_end
from maesh_core.cli.tables import render_table
from maesh_core.model.transport import MODES, OFF
from maesh_core.plugin_system.conditions import MeshCondition
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_line, show_lines
from maesh_core.settings import InstalledPlugin, StatusSettings

if TYPE_CHECKING:
    from maesh_core.controller.api_clients.status import MeshStatus
    from maesh_core.model.messages import NodeReport

NOT_READY_STATUS = 3
ERRORS_SHOWN = 3
"""Errors of one service; --json has all."""
UNENCRYPTED_SHOWN = 10
"""Services whose mode is `off`; --json has all."""
TRANSPORT_PROBLEMS_SHOWN = 10
"""Proxies whose transport has a problem; --json has all."""
LINES_SHOWN = 30
"""Errors and notices of objects."""


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    application.command("status", cls=GroupedCommand)(build_command(StatusSettings, run, installed=installed))


def run(settings: StatusSettings) -> None:
    """Show controllers, proxies with their revisions, errors of services and other objects, and what is not encrypted.

    With --endpoint, the command queries one controller. Otherwise it queries all controllers of the cluster through the
    API server, or http://127.0.0.1:9000 if there is no cluster.
    """
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.controller.api_clients.status import ask_mesh  # aiohttp, only for this command

    status = run_to_end(lambda: ask_mesh(settings), stopped="stopped before all controllers had answered")
    print(msgspec.json.encode(status).decode() if settings.json else show_lines(render_status(status)))  # noqa: T201
    if not is_well(status):
        raise typer.Exit(NOT_READY_STATUS)


def is_well(status: "MeshStatus") -> bool:
    """Whether all controllers are ready and read everything, one leads, and all proxies and services are usable."""
    reports = [each.report for each in status.controllers]
    is_led = any(report is not None and report.leads for report in reports)
    is_ready = all(report and report.ready and not report.problems for report in reports)
    is_served = not (status.failing_services or status.unserved_ports)
    return is_led and is_ready and is_served and all(each.ready for each in status.proxies)


def render_status(status: "MeshStatus") -> str:
    """Render the tables."""
    parts = [
        _render_controllers(status),
        _render_proxies(status),
        _render_conditions(status.conditions),
        _render_services(status),
        _render_objects(status),
    ]
    return "\n\n".join(part for part in parts if part)


def _render_controllers(status: "MeshStatus") -> str:
    rows, notes = [], []
    for each in status.controllers:
        report = each.report
        if report is None:
            rows.append((each.name, "unknown", "", ""))
            notes.append(f"{each.name}: {each.error}")
            continue
        leads = "leader" if report.leads else ""
        rows.append((report.name, "ready" if report.ready else "not ready", leads, report.revision))
        notes += [f"{report.name}: {origin}: {show_line(text)}" for origin, text in report.problems.items()]
    return "\n".join([render_table(("CONTROLLER", "STATE", "ROLE", "REVISION"), rows), *notes])


def _render_proxies(status: "MeshStatus") -> str:
    if status.service_count is None:
        return "proxies: unknown"
    if not status.proxies:
        return "no proxy has pulled within the last hour"
    rows = [[each.name, _describe_state(each), each.ip, each.revision or "", each.last_seen] for each in status.proxies]
    head = ["PROXY", "STATE", "ADDRESS", "REVISION", "LAST SEEN"]
    reports = [each.transport for each in status.proxies]
    if any(report is not msgspec.UNSET for report in reports):
        head.insert(4, "TRANSPORT")
        for row, report in zip(rows, reports, strict=True):
            row.insert(4, "" if report is msgspec.UNSET else report.summary)
    return "\n".join([render_table(head, rows), *_list_transport_problems(status)])


def _list_transport_problems(status: "MeshStatus") -> Sequence[str]:
    """List what proxies report of their transport that is a problem, such as a certificate that ends soon."""
    found = [
        f"{each.name}: {show_line(each.transport.problem)}"
        for each in status.proxies
        if each.transport is not msgspec.UNSET and each.transport.problem and each.is_active
    ]
    more = [f"and {len(found) - TRANSPORT_PROBLEMS_SHOWN} more"] if len(found) > TRANSPORT_PROBLEMS_SHOWN else []
    return [*found[:TRANSPORT_PROBLEMS_SHOWN], *more]


def _describe_state(proxy: "NodeReport") -> str:
    if proxy.ready:
        return "ready"
    return "pulls refused" if proxy.refused else "not ready"


def _render_conditions(conditions: Iterable[MeshCondition]) -> str:
    """Render a line for each problem of the mesh, with its hint; empty without any."""
    lines = [f"  warning: {text}\n    {each.hint}" for each in conditions for text in each.problems]
    return "\n".join(["mesh", *lines]) if lines else ""


def _render_services(status: "MeshStatus") -> str:
    if status.service_count is None:
        return "services: unknown"
    count = status.service_count
    unserved = {(port.namespace, port.name) for port in status.unserved_ports}
    without = f", {len(unserved)} without a ready server" if unserved else ""
    lines = [f"{count} service{'s' if count != 1 else ''}, {len(status.failing_services)} with errors{without}"]
    for service in status.failing_services:
        lines += [f"  {service.name}.{service.namespace}: {text}" for text in service.errors[:ERRORS_SHOWN]]
        if len(service.errors) > ERRORS_SHOWN:
            lines.append(f"  {service.name}.{service.namespace}: and {len(service.errors) - ERRORS_SHOWN} more")
    for port in status.unserved_ports:
        lines.append(f"  {port.name}.{port.namespace}: port {port.port} has no ready server: {port.reason}")
    lines += _render_modes(status)
    return "\n".join(lines)


def _render_modes(status: "MeshStatus") -> Sequence[str]:
    """Render the number of services by mode, and the names of those that are not encrypted."""
    modes = status.modes or ()
    counts = Counter(each.encryption for each in modes)
    if not counts:
        return ()
    lines = ["encryption: " + ", ".join(f"{counts[mode]} {mode}" for mode in reversed(MODES) if counts[mode])]
    names = [f"{each.name}.{each.namespace}" for each in modes if each.encryption == OFF]
    lines += [f"  {name}: off" for name in names[:UNENCRYPTED_SHOWN]]
    if len(names) > UNENCRYPTED_SHOWN:
        lines.append(f"  and {len(names) - UNENCRYPTED_SHOWN} more")
    return lines if status.encryption is msgspec.UNSET else [*lines, *render_encryption(status.encryption)]


def _render_objects(status: "MeshStatus") -> str:
    """Render errors and notices of objects, without errors that are listed above."""
    above = {text for service in status.failing_services for text in service.errors}
    above |= {text for each in status.controllers if each.report for text in each.report.problems.values()}
    found = [(each, "error", text) for each in status.objects for text in each.errors if text not in above]
    found += [(each, "notice", text) for each in status.objects for text in each.notices]
    lines = [
        f"  {sort}: {f'{each.kind} {each.namespace}/{each.name}' if each.name else each.origin}: {text}"
        for each, sort, text in found[:LINES_SHOWN]
    ]
    if len(found) > LINES_SHOWN:
        lines.append(f"  and {len(found) - LINES_SHOWN} more, see --json")
    return "\n".join(["objects", *lines]) if lines else ""
