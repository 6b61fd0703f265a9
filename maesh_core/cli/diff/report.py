"""The text of `maesh diff`: changes of access first, then routes, limits, ports, and what is unclear.

Takes the result of a comparison; returns text. Shows the first changes of many; `--json` has all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from maesh_core.controller.comparing.asking import ANYBODY
from maesh_core.controller.comparing.changes import (
    AccessChange,
    Example,
    LimitChange,
    MeshDiff,
    PortChange,
    Result,
    RouteChange,
    UnclearChange,
)
from maesh_core.process.printable import escape_unprintable

ENTRIES_SHOWN = 50
CLIENTS_SHOWN = 5
_MARKS = {
    "opens": "OPENED",
    "closes": "closed",
    "would-deny": "would be denied (audit)",
    "would-allow": "would no longer be denied (audit)",
}


def render_diff(found: MeshDiff) -> str:
    """Render all changes, and their numbers."""
    blocks = [
        ("Access", [_render_access(each) for each in found.access]),
        ("Routes", [_render_route(each) for each in found.routes]),
        ("Limits", [_render_limit(each) for each in found.limits]),
        ("Ports", [[_render_port(each)] for each in found.ports]),
        ("Unclear", [[_show_port(each), f"  {each.text}"] for each in found.unclear]),
        ("Not read, and therefore without effect", list(_render_problems(found.problems))),
    ]
    parts = [_render_block(title, entries) for title, entries in blocks if entries]
    return "\n\n".join([*parts, _summarise(found)])


def _render_block(title: str, entries: Sequence[Iterable[str]]) -> str:
    lines = [f"  {escape_unprintable(line)}" for entry in entries[:ENTRIES_SHOWN] for line in entry]
    rest = len(entries) - ENTRIES_SHOWN
    return "\n".join([title, *lines, *([f"  ... and {rest} more, see --json"] if rest > 0 else [])])


def _render_access(change: AccessChange) -> list[str]:
    clients = ", ".join(_name_clients(change.clients))
    servers = f" (pods of {', '.join(change.servers)})" if change.servers else ""
    return [
        f"{_MARKS[change.change]}  {clients} -> {_show_port(change)}{servers}  {_show_request(change.example)}",
        f"  was  {_show_result(change.old)}",
        f"  now  {_show_result(change.new)}",
        *_render_more(change),
    ]


def _render_route(change: RouteChange) -> list[str]:
    client = "" if change.example.client == ANYBODY else f"  from namespace {change.example.client.partition('/')[0]}"
    return [
        f"{_show_port(change)}  {_show_request(change.example)}{client}",
        f"  was  {_show_result(change.old)}",
        f"  now  {_show_result(change.new)}",
        *_render_more(change),
    ]


def _render_limit(change: LimitChange) -> list[str]:
    return [
        f"{_show_port(change)}  {_show_request(change.example)}",
        *(f"  -  {line}" for line in change.removed),
        *(f"  +  {line}" for line in change.added),
        *_render_more(change),
    ]


def _render_more(change: AccessChange | RouteChange | LimitChange) -> Iterator[str]:
    if change.is_every:
        if change.example.method:
            yield "  every request"
    elif change.requests:
        yield f"  also {', '.join(change.requests)}"


def _render_port(change: PortChange) -> str:
    mark = "+" if change.change == "added" else "-"
    return f"{mark} {_show_port(change)}  {change.traffic_type}"


def _show_port(change: AccessChange | RouteChange | LimitChange | PortChange | UnclearChange) -> str:
    return f"{change.service}:{change.port.removesuffix('/tcp')}"


def _render_problems(problems: Mapping[str, Mapping[str, str]]) -> Iterator[list[str]]:
    for state, texts in problems.items():
        for origin, text in texts.items():
            yield [f"{state}: {origin}: {' '.join(text.split())}"]


def _name_clients(clients: Sequence[str]) -> Iterator[str]:
    for each in clients[:CLIENTS_SHOWN]:
        yield "every other client" if each == ANYBODY else each
    if len(clients) > CLIENTS_SHOWN:
        yield f"{len(clients) - CLIENTS_SHOWN} more"


def _show_request(example: Example) -> str:
    headers = "".join(f" {name}: {value}" for name, value in example.headers)
    return f"{example.method} {example.path}{headers}" if example.method else "connections"


def _show_result(result: Result) -> str:
    if result.outcome == "absent":
        return "there is no such port"
    if result.outcome == "allowed":
        shares = ", ".join(f"{name} {share}" for name, share in _as_percent(result.goes_to))
        by = [line for line in (*result.by, *result.would_deny) if line]
        return f"goes to {shares}" + (f" ({'; '.join(by)})" if by else "")
    status = f" {result.status}" if result.status else ""
    return f"{result.outcome}{status}: {'; '.join(_strip(line) for line in result.by) or 'no reason is known'}"


def _strip(line: str) -> str:
    """Remove the outcome from the beginning of a reason, which is shown before it."""
    head, colon, rest = line.partition(": ")
    return rest if colon and head in ("denied", "closed", "answered") else line


def _as_percent(shares: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for name, share in shares.items():
        yield name, f"{share:.2%}".replace(".00%", "%")


def _summarise(found: MeshDiff) -> str:
    if found.is_empty:
        return f"No change for traffic between {escape_unprintable(found.old)} and {escape_unprintable(found.new)}."
    numbers = Counter(each.change for each in found.access)
    counts = [
        (numbers["opens"], "opened (warning)"),
        (numbers["closes"], "closed"),
        (numbers["would-deny"] + numbers["would-allow"], "changed in audit mode"),
        (len(found.routes), "route changed" if len(found.routes) == 1 else "routes changed"),
        (len(found.limits), "limit changed" if len(found.limits) == 1 else "limits changed"),
        (len(found.ports), "port added or removed" if len(found.ports) == 1 else "ports added or removed"),
        (len(found.unclear), "unclear"),
    ]
    return ", ".join(f"{count} {what}" for count, what in counts if count)
