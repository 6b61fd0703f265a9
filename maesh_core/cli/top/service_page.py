"""One service opened: its responses, branches, servers, callers, answers of the mesh, errors and notices.

Takes a ServiceTraffic and returns lines. Tables are as wide as their content; the view cuts them.
"""

from collections.abc import Mapping, Sequence

from maesh_core.cli.top.columns import STYLES, build_name
from maesh_core.cli.top.numbers import (
    NOTHING,
    render_bytes,
    render_count,
    render_duration,
    render_rate,
    render_share,
    render_weight,
)
from maesh_core.cli.top.services import (
    choose_window,
    compute_rate,
    describe_trouble,
    rate_service,
    rate_success,
)
from maesh_core.cli.top.spans import Line, Span, Style, lay_out_table, span
from maesh_core.model.traffic import (
    BranchTraffic,
    Latency,
    RuleTraffic,
    ServiceTraffic,
    Window,
)
from maesh_core.model.transport import CLEAR, PATHS

_PERCENTILES = ("p50", "p95", "p99")
_MEASURED = ("RATE", "SUCCESS", *_PERCENTILES)
_STREAM_RATES = {"tcp": "CONNECTIONS/S", "udp": "SESSIONS/S"}
"""By traffic type: what its rates count. Streams have neither success nor durations."""
_SIZES = ("RECEIVED", "SENT")
ROWS_LIMIT = 1000
"""Rows of one table; a service with more is read better with --json."""


def build_page(service: ServiceTraffic, *, is_total: bool) -> list[Line]:
    """Build all lines of a service's page."""
    sections = [
        _build_summary(service, choose_window(service, is_total=is_total)),
        _build_texts("ERRORS", service.errors),
        _build_branches(service, is_total=is_total),
        _build_rules(service, is_total=is_total),
        _build_servers(service, is_total=is_total),
        _build_callers(service, is_total=is_total),
        _build_reasons(choose_window(service, is_total=is_total)),
        _build_texts("NOTICES", service.notices),
    ]
    lines: list[Line] = []
    for section in sections:
        if section:
            lines += [[], *section] if lines else section
    return lines


def _build_summary(service: ServiceTraffic, window: Window) -> list[Line]:
    """Build the head: the service, its numbers, and what is wrong."""
    lines: list[Line] = [[span(build_name(service), "title")]]
    success = span(render_share(window.success), STYLES[rate_success(window.success)])
    lines.append([Span(f"rate {render_rate(compute_rate(window))}   success "), success])
    for title, latency in (("whole request", window.total), ("server", window.upstream)):
        if latency.p99 is not None:
            parts = (f"{name} {render_duration(getattr(latency, name))}" for name in _PERCENTILES)
            lines.append([Span(f"{title}: {'   '.join(parts)}")])
    for title, counts in (("status", window.codes), ("gRPC status", window.grpc)):
        if counts:
            lines.append([Span(f"{title}: "), *_build_counts(counts)])
    odd = (("retries", window.retries), ("limited", window.limited), ("denied", window.denied))
    lines.append(
        [
            part
            for name, value in odd
            for part in (Span(f"{name} "), span(render_count(value), "warn" if value else ""), Span("   "))
        ]
        + [Span(f"received {render_bytes(window.received_bytes)}   sent {render_bytes(window.sent_bytes)}")]
    )
    if window.connections:
        lines.append([Span(f"connections {render_count(window.connections)}")])
    if window.paths:
        lines.append(_build_paths(window))
    if trouble := describe_trouble(service, window):
        lines.append([span(trouble, STYLES[rate_service(service, window)])])
    return lines


def _build_paths(window: Window) -> Line:
    """Build what went encrypted, in clear and to servers on the same node, and why it was in clear."""
    line = [Span("encryption: ")]
    for name in PATHS:
        if number := window.paths.get(name, 0):
            text = f"{name} {render_count(number)} ({render_bytes(window.path_bytes.get(name, 0))})   "
            line.append(span(text, "warn" if name == CLEAR else ""))
    reasons = ", ".join(f"{reason} {render_count(count)}" for reason, count in sorted(window.clear_reasons.items()))
    return [*line, span(f"in clear: {reasons}", "warn")] if reasons else line


def _build_counts(counts: Mapping[str, int]) -> list[Span]:
    return [
        span(f"{code} {render_count(count)}   ", "bad" if code.startswith("5") else "")
        for code, count in sorted(counts.items())
    ]


def _is_stream(service: ServiceTraffic) -> bool:
    return service.traffic_type in _STREAM_RATES


def _name_measured(service: ServiceTraffic) -> tuple[str, ...]:
    """Name the columns of `_build_measured`."""
    return (_STREAM_RATES[service.traffic_type],) if _is_stream(service) else _MEASURED


def _build_measured(service: ServiceTraffic, window: Window, latency: Latency) -> tuple[Span, ...]:
    if _is_stream(service):
        return (span(render_rate(compute_rate(window))),)
    success = span(render_share(window.success), STYLES[rate_success(window.success)])
    percentiles = (span(render_duration(getattr(latency, name))) for name in _PERCENTILES)
    return span(render_rate(compute_rate(window))), success, *percentiles


def _build_sizes(window: Window) -> tuple[Span, ...]:
    return span(render_bytes(window.received_bytes)), span(render_bytes(window.sent_bytes))


def _build_branches(service: ServiceTraffic, *, is_total: bool) -> list[Line]:
    if len(service.branches) < 2 and not any(each.destination != service.key for each in service.branches):
        return []
    windows = [(branch, branch.total if is_total else branch.last) for branch in service.branches]
    every = sum(window.requests or window.connections for _, window in windows)
    windows = [(branch, window) for branch, window in windows if not _is_unused(service, branch)]
    rows = [_build_branch(service, branch, window, every) for branch, window in windows[:ROWS_LIMIT]]
    head = ("BRANCH", "WEIGHT", "SHARE", *_name_measured(service), *(_SIZES if _is_stream(service) else ()))
    return lay_out_table(head, rows, right=range(1, len(head)))


def _is_unused(service: ServiceTraffic, branch: BranchTraffic) -> bool:
    """Whether these are the service's own servers, to which its split sends nothing."""
    is_own = branch.destination == service.key
    return is_own and branch.weight == 0 and not (branch.total.requests or branch.total.connections)


def _build_branch(service: ServiceTraffic, branch: BranchTraffic, window: Window, every: int) -> Sequence[Span]:
    share = (window.requests or window.connections) / every if every else None
    names = (span(branch.destination), span(render_weight(branch.weight)), span(render_weight(share)))
    sizes = _build_sizes(window) if _is_stream(service) else ()
    return *names, *_build_measured(service, window, window.total), *sizes


def _build_rules(service: ServiceTraffic, *, is_total: bool) -> list[Line]:
    if not service.rules:
        return []
    rows = [_build_rule(service, each, each.total if is_total else each.last) for each in service.rules[:ROWS_LIMIT]]
    measured = (*_name_measured(service), *(_SIZES if _is_stream(service) else ()))
    head = ("RULE", *measured, *(("FAILURES",) if _is_stream(service) else ()))
    return lay_out_table(head, rows, right=range(1, len(measured) + 1))


def _build_rule(service: ServiceTraffic, rule: RuleTraffic, window: Window) -> Sequence[Span]:
    measured = _build_measured(service, window, window.total)
    if not _is_stream(service):
        return span(rule.rule), *measured
    return span(rule.rule), *measured, *_build_sizes(window), span(_list_counts(window.reasons))


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {render_count(count)}" for name, count in sorted(counts.items())) or NOTHING


def _build_servers(service: ServiceTraffic, *, is_total: bool) -> list[Line]:
    servers = service.servers
    if not servers:
        return [[span("no server is known", "dim")]]
    rows = []
    for server in servers[:ROWS_LIMIT]:
        state = span("set aside", "bad") if server.is_set_aside else span("in use", "dim")
        names = (span(server.server), span(server.pod or NOTHING), span(server.node or NOTHING))
        window = server.total if is_total else server.last
        measured = _build_measured(service, window, window.upstream)
        status = span(_list_counts(window.codes or window.reasons))  # connections of TCP have no status
        rows.append((*names, state, *measured, *_build_sizes(window), status))
    head = ("SERVER", "POD", "NODE", "STATE", *_name_measured(service), *_SIZES, "STATUS")
    return lay_out_table(head, rows, right=range(4, len(head) - 1))


def _build_callers(service: ServiceTraffic, *, is_total: bool) -> list[Line]:
    callers = service.callers
    if not callers:
        return [[span("no caller was seen", "dim")]]
    windows = [(edge, edge.total if is_total else edge.last) for edge in callers]
    windows.sort(key=lambda each: (-compute_rate(each[1]), each[0].caller))
    rows = [
        (
            span(edge.caller),
            span(edge.account or NOTHING),
            span(render_count(len(edge.pods))),
            *_build_measured(service, window, window.total),
            span(render_count(window.denied), "warn" if window.denied else ""),
        )
        for edge, window in windows[:ROWS_LIMIT]
    ]
    head = ("CALLER", "ACCOUNT", "PODS", *_name_measured(service), "DENIED")
    return lay_out_table(head, rows, right=range(2, len(head)))


def _build_reasons(window: Window) -> list[Line]:
    reasons = sorted(window.reasons.items(), key=lambda each: (-each[1], each[0]))
    rows = [(span(render_count(count), "warn"), span(reason)) for reason, count in reasons[:ROWS_LIMIT]]
    return lay_out_table(("COUNT", "ANSWER OF THE MESH"), rows, right=(0,)) if rows else []


def _build_texts(title: str, texts: Sequence[str]) -> list[Line]:
    style: Style = "bad" if title == "ERRORS" else "warn"
    return [[span(title, "head")], *([span(text, style)] for text in texts[:ROWS_LIMIT])] if texts else []
