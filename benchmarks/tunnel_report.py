"""What mtls.py and mtls_scale.py have measured, as tables.

Takes the stages `mtls` and `mtls_scale` of their results; returns Markdown. Figures are medians over the runs.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tables import render_ratio, render_rows

OWN = "maesh"
NOT_COMPARED = ("maesh-clear", "maesh-judged")
"""One hop without TLS, and access control that judges each request on both nodes, for comparison: they are no peers."""
BULK_BYTES = 1024 * 1024

Stage = Mapping[str, Any]
Run = Mapping[str, Any]

WORDS = """Two hops, both on one core: the first one takes requests in clear and routes them by host, the second one
passes them on to two servers. Between them is mutual TLS 1.3 with certificates of ECDSA P-256: HTTP/1.1, HTTP/2 (`h2`)
or Maesh's tunnel. The CPU time is that of both hops. OpenSSL chooses AES-256; Envoy's BoringSSL chooses AES-128.
With `--aes128`, all of them choose AES-128. `maesh-clear` is one hop without TLS; in `maesh-judged`, access control
judges each request at both hops."""
SCALE_WORDS = """One controller, two real proxies, and nodes that consist of a certificate and a listener, all on this
machine."""


def read_cost(run: Run) -> float:
    """Read the CPU time of both hops for a request."""
    return float(run["sender_us"] + run["receiver_us"])


def compute_median(runs: Sequence[Run], stack: str, read: Callable[[Run], float]) -> float:
    """Compute the median of one stack's runs."""
    return statistics.median(read(run) for run in runs if run["stack"] == stack)


def render_case(case: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """Render the medians of each stack for a load, and the ratio to the best peer."""
    names = list(dict.fromkeys(run["stack"] for run in runs))
    costs = {name: compute_median(runs, name, read_cost) for name in names}
    best = min((cost for name, cost in costs.items() if name not in (OWN, *NOT_COMPARED)), default=0.0)
    is_bulk = case["length"] >= BULK_BYTES
    head = ["hops", "requests/s", "CPU µs of both hops", "first + second"]
    head += ["MB per CPU second", "of the best peer's"] if is_bulk else ["p50, p99", "of the best peer's CPU"]
    rows = []
    for name in names:
        first, second, rate, p50, p99 = (
            compute_median(runs, name, lambda run, key=key: float(run[key]))  # type: ignore[misc]
            for key in ("sender_us", "receiver_us", "requests_per_s", "p50_us", "p99_us")
        )
        row = [name, f"{rate:,.0f}", f"{costs[name]:.1f}", f"{first:.1f} + {second:.1f}"]
        if is_bulk:
            row += [f"{case['length'] / costs[name]:,.0f}", render_ratio(best, costs[name])]
        else:
            row += [f"{p50 / 1000:.2f}, {p99 / 1000:.2f} ms", render_ratio(costs[name], best)]
        rows.append(row)
    title = case["title"][0].upper() + case["title"][1:]
    return f"### {title}, two hops with mutual TLS\n\n{render_rows(head, rows)}"


def render_handshakes(found: Sequence[tuple[str, str, float]]) -> str:
    """Render what a connection costs the second hop of each stack."""
    rows = []
    for name in dict.fromkeys(stack for stack, _, _ in found):
        row = [name]
        for kind in ("full", "resumed"):
            cost_us = statistics.median(us for stack, each, us in found if (stack, each) == (name, kind))
            row += [f"{cost_us:,.0f}", f"{1e6 / cost_us:,.0f}"]
        rows.append(row)
    head = ["second hop", "full: CPU µs", "per CPU second", "resumed: CPU µs", "per CPU second"]
    return f"### Handshakes, with the first bytes after them\n\n{render_rows(head, rows)}"


def render_mtls(stage: Stage) -> str:
    """Render the tables of all loads."""
    tables = [
        render_case(case, [run for run in stage["runs"] if run["case"] == case["name"]]) for case in stage["cases"]
    ]
    words = f"## Mutual TLS between two hops\n\n{WORDS}"
    return "\n\n".join([words, *tables, render_handshakes(stage["handshakes"])])


def render_mtls_scale(stage: Sequence[Sequence[str]]) -> str:
    """Render the figures of the large mesh."""
    return f"## A large mesh with encryption\n\n{SCALE_WORDS}\n\n{render_rows(['what', 'figure'], stage)}"
