"""The command `maesh acl report`: who was denied, and who would be without audit mode.

Takes the APIs of controllers and what was typed; returns text and JSON. The first controller that answers is asked,
because each gathers the reports of all proxies. Changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from maesh_acl.denials.report import REASONS, REPORT_PATH, Denial, DenialReport
from maesh_acl.suggesting import Suggestions, suggest
from maesh_acl.suggesting.command import TOPOLOGY_PATH, decode_topology, fetch_first, parse_service
from maesh_acl.suggesting.reading import parse_report, read_report
from maesh_acl.suggesting.rendering import render_document, render_yaml
from maesh_core.plugin import (
    CommandApi,
    CommandArgument,
    CommandOption,
    CommandResult,
    CommandSwitch,
    CommandValues,
    ConfigurationError,
)

FOUND_STATUS: Final = 3
"""The exit status if something would be denied, or if this cannot be excluded because the report is incomplete."""
ROWS_SHOWN: Final = 200
NODES_SHOWN: Final = 20
COLUMN_LIMIT: Final = 60
"""Characters of a column; longer texts are cut, except in the last column."""
HEADINGS: Final = ("SERVICE", "CLIENT", "REQUEST", "COUNT", "FIRST", "LAST", "RESULT")
_STREAMS: Final = {"tcp": "TCP connection", "udp": "UDP session"}


class ReportCommand:
    """`maesh acl report`."""

    name = "report"
    text = "Show who was denied, and who would be without audit mode: where, how often and since when."
    arguments: Sequence[CommandArgument] = ()
    switches: Sequence[CommandSwitch] = (
        CommandSwitch(name="would-deny", text="Only what passes in audit mode, and not what was denied."),
        CommandSwitch(name="targets", text="Also print the TrafficTargets that would allow it."),
    )
    options: Sequence[CommandOption] = (
        CommandOption(name="service", metavar="SERVICE", text="Only one service, written as name.namespace."),
    )

    async def run(self, apis: Sequence[CommandApi], values: CommandValues) -> CommandResult:
        """Fetch the report, and render it."""
        api, body = await fetch_first(apis, TOPOLOGY_PATH)
        topology = decode_topology(body)
        service = str(values["service"])
        report = select_denials(parse_report(await api.fetch(REPORT_PATH)), service=service)
        if service and not report.denials:
            _check_service(service, topology)
        if values["would-deny"]:
            report = select_denials(report, only_audit=True)
        document: dict[str, Any] = msgspec.to_builtins(report)
        text = render_report(report)
        if values["targets"]:
            found: Suggestions = suggest(topology, read_report(report, with_denied=not values["would-deny"]))
            document.update(render_document(found))
            text = f"{text}\n\n{render_yaml(found, ())}"
        would_deny = any(each.mode == "audit" for each in report.denials)
        return CommandResult(
            text=text, document=document, status=FOUND_STATUS if would_deny or not report.complete else 0
        )


def _check_service(service: str, topology: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if there is no such service: nobody would see that its name is wrong."""
    namespace, _, name = parse_service(service).partition("/")
    if f"{name}@{namespace}" not in topology["services"]:
        raise ConfigurationError(f"--service: the mesh has no service {name[:80]}.{namespace[:80]}")


def select_denials(report: DenialReport, *, service: str = "", only_audit: bool = False) -> DenialReport:
    """Select the denials of one service, or of all. Raises ConfigurationError if its name is invalid."""
    prefix = f"{parse_service(service)}:" if service else ""
    denials = tuple(
        each for each in report.denials if each.service.startswith(prefix) and not (only_audit and each.mode != "audit")
    )
    return msgspec.structs.replace(report, denials=denials)


def render_report(report: DenialReport) -> str:
    """Render the denials as a table, those that only audit mode lets pass first, then what is missing."""
    rows = sorted(report.denials, key=lambda each: (each.mode != "audit", each.service, -each.count))
    lines = [] if rows else ["nothing was denied, and nothing would be without audit mode"]
    if rows:
        lines += _render_table([HEADINGS, *map(_build_row, rows[:ROWS_SHOWN])])
    if len(rows) > ROWS_SHOWN:
        lines.append(f"and {len(rows) - ROWS_SHOWN} more; --json shows all")
    since = f"all proxies have recorded since {report.since}" if report.since else "no proxy has answered"
    lines += ["", since]
    if report.kept_since:
        lost = "proxies and workers that have ended or did not answer"
        lines.append(f"also counted: what {lost} had recorded since {report.kept_since}")
    if not report.complete:
        lines.append("the report is incomplete: proxies did not answer, or have recorded more than they keep")
    failed = [node for node in report.nodes if node.error]
    lines += [" ".join(f"proxy {node.name}: {node.error}".split()) for node in failed[:NODES_SHOWN]]
    if len(failed) > NODES_SHOWN:
        lines.append(f"and {len(failed) - NODES_SHOWN} more proxies")
    return "\n".join(lines)


def _build_row(denial: Denial) -> tuple[str, ...]:
    client = denial.client
    result = "would deny" if denial.mode == "audit" else "denied"
    return (
        denial.service,
        denial.address if client is None else f"{client.service_account}@{client.namespace}",
        _describe_request(denial),
        str(denial.count),
        denial.first,
        denial.last,
        f"{result}: {REASONS[denial.reason]}{_describe_destinations(denial)}{_describe_targets(denial)}",
    )


def _describe_request(denial: Denial) -> str:
    if denial.traffic_type != "http":
        return _STREAMS.get(denial.traffic_type, "connection")
    return f"{denial.method or 'any method'} {denial.path}{'...' if denial.is_path_cut else ''}"


def _describe_destinations(denial: Denial) -> str:
    """Name the services that the client may not reach, unless it is the called one."""
    namespace, _, name = denial.service.rpartition(":")[0].partition("/")
    others = [each for each in denial.destinations if each != f"{name}@{namespace}"]
    return f" ({', '.join(others)})" if others else ""


def _describe_targets(denial: Denial) -> str:
    """Name the TrafficTargets that allow the client other requests, or let this one pass only in audit mode."""
    names = denial.traffic_targets
    if not names:
        return ""
    return f": TrafficTarget {names[0]} does not" if len(names) == 1 else f": TrafficTargets {', '.join(names)} do not"


def _render_table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    shown = [[" ".join(text.split()) for text in row] for row in rows]  # proxies report any text; a row stays one line
    cut = [[*(_cut(text) for text in row[:-1]), row[-1]] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cut]


def _cut(text: str) -> str:
    return text if len(text) <= COLUMN_LIMIT else f"{text[: COLUMN_LIMIT - 3]}..."
