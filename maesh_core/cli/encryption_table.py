"""The part of `maesh status` about encryption: what was sent in clear between nodes, by service, and why.

Takes what services have sent by path, and the TLS connections between nodes; returns lines. Pure.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from maesh_core.cli.tables import render_table
from maesh_core.cli.top.numbers import render_bytes
from maesh_core.model.transport import CLEAR, ENCRYPTED, LOCAL
from maesh_core.process.printable import show_line

if TYPE_CHECKING:
    from maesh_core.controller.api_clients.encryption_status import EncryptionStatus, ServicePaths
    from maesh_core.model.traffic import TunnelCounts

EXPOSED_SHOWN: Final = 10
"""Services that sent in clear, those with the most first; --json has all."""
REASONS_SHOWN: Final = 5
_WORDS: Final = {ENCRYPTED: "encrypted", CLEAR: "in clear", LOCAL: "to servers on the same node"}


def render_encryption(status: "EncryptionStatus") -> Sequence[str]:
    """Render what was sent since the proxies' start, and the services that strict encryption would affect."""
    if status.error:
        return [f"what services send in clear is unknown: {show_line(status.error)}"]
    lines = [_render_sum(status), *_render_tunnels(status.tunnels.total)]
    if status.silent:
        names = ", ".join(map(show_line, status.silent[:EXPOSED_SHOWN]))
        lines.append(f"without {len(status.silent)} proxies that did not answer, such as {names}")
    return [*lines, *_render_exposed(status.services)]


def _render_sum(status: "EncryptionStatus") -> str:
    counts, sizes = Counter[str](), Counter[str]()
    for service in status.services:
        counts.update(service.total.paths)
        sizes.update(service.total.path_bytes)
    parts = [f"{counts[path]} {word} ({render_bytes(sizes[path])})" for path, word in _WORDS.items()]
    return f"requests and connections since the proxies' start: {', '.join(parts)}"


def _render_tunnels(counts: "TunnelCounts") -> Sequence[str]:
    done, resumed = sum(counts.handshakes.values()), counts.handshakes.get("resumed", 0)
    lines = [f"tunnels between nodes: {done} handshakes, {resumed} of them resumed"] if done else []
    for failures, where in ((counts.failures, "that nodes opened"), (counts.incoming_failures, "that nodes accepted")):
        if failures:
            lines.append(f"tunnels {where} and that failed: {_render_reasons(failures)}")
    return lines


def _render_reasons(reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    parts = [f"{show_line(reason) or 'unknown'} {number}" for reason, number in ordered[:REASONS_SHOWN]]
    return ", ".join(parts) + (", ..." if len(ordered) > REASONS_SHOWN else "")


def _render_exposed(services: Sequence["ServicePaths"]) -> Sequence[str]:
    """Render the services that sent something in clear to other nodes: strict encryption would refuse it."""
    exposed = [each for each in services if each.total.paths.get(CLEAR) or each.total.path_bytes.get(CLEAR)]
    if not exposed:
        return ()
    exposed.sort(key=lambda each: (-each.last.paths.get(CLEAR, 0), -each.total.paths.get(CLEAR, 0), each.key))
    rows = [
        (
            each.key,
            each.encryption,
            str(each.last.paths.get(CLEAR, 0)),
            str(each.total.paths.get(CLEAR, 0)),
            render_bytes(each.total.path_bytes.get(CLEAR, 0)),
            _render_reasons(each.total.clear_reasons),
        )
        for each in exposed[:EXPOSED_SHOWN]
    ]
    table = render_table(("IN CLEAR TO OTHER NODES", "MODE", "LAST MINUTE", "SINCE START", "BYTES", "WHY"), rows)
    more = [f"and {len(exposed) - EXPOSED_SHOWN} more, see --json"] if len(exposed) > EXPOSED_SHOWN else []
    return [*table.splitlines(), *more]
