"""What fairness.py measured, as a table, and which of its aims are missed.

Takes the stage `fairness` of its results; returns Markdown and sentences. Figures are medians over the runs.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from tables import render_ms, render_ratio, render_rows

SHARE_AIM, P99_AIM = 0.8, 2.0

Stage = Mapping[str, Any]

WORDS = """64 clients keep their connections while another client attacks. Each proxy has one worker on one core. The
fair share is 64 / (64 + the number of attacking client addresses) of the requests per second of the same proxy without
an attack. p50 and p99 are measured at the same rate for both proxies, half of the slower one's rate without an attack,
and count from the time when a request was due. Aims: 0.8 of the fair share, and a p99 within twice nginx's."""


def compute_fair_share(clients: int, attackers: int) -> float:
    """Compute what part of its quiet rate all clients together may expect."""
    return clients / (clients + attackers)


def compute_kept(stage: Stage, scenario: Stage, proxy: str) -> float:
    """Compute how much of their fair share the clients of a proxy kept, 1 for all of it."""
    quiet = _get(stage, "quiet", proxy, "closed", "requests_per_s")
    rate = _get(stage, scenario["name"], proxy, "closed", "requests_per_s")
    return rate / max(1e-9, quiet) / compute_fair_share(stage["clients"], scenario["attackers"])


def find_missed(stage: Stage) -> list[str]:
    """Find the aims that Maesh misses."""
    missed = []
    for scenario in stage["scenarios"]:
        if scenario["attackers"]:
            kept = compute_kept(stage, scenario, "maesh")
            ours, theirs = (_get(stage, scenario["name"], name, "paced", "p99_us") for name in ("maesh", "nginx"))
            if kept < SHARE_AIM:
                missed.append(f"{scenario['name']}: clients keep {kept:.2f} of their fair share, not {SHARE_AIM}")
            if ours > P99_AIM * theirs:
                missed.append(f"{scenario['name']}: p99 is {render_ratio(ours, theirs)} of nginx's, not {P99_AIM}")
    return missed


def render_fairness(stage: Stage) -> str:
    """Render the table of all attacks."""
    head = ["another client", "proxy", "requests/s", "of the fair share", "p50", "p99", "p99 of nginx", "failed"]
    head += ["the attacker's connections, MB sent, MB received", "answers again after", "cores busy: proxy, load"]
    rows = [
        _render_row(stage, scenario, proxy)
        for scenario in stage["scenarios"]
        for proxy in dict.fromkeys(turn["proxy"] for turn in stage["turns"])
    ]
    return f"## One client against others\n\n{WORDS}\n\n{render_rows(head, rows)}"


def _render_row(stage: Stage, scenario: Stage, proxy: str) -> list[str]:
    name = scenario["name"]
    rate, busy, load_busy = (
        _get(stage, name, proxy, "closed", figure) for figure in ("requests_per_s", "proxy_core_busy", "load_core_busy")
    )
    p50, p99, reference = (
        _get(stage, name, each, "paced", figure)
        for each, figure in ((proxy, "p50_us"), (proxy, "p99_us"), ("nginx", "p99_us"))
    )
    failed = sum(turn["failed"] for turn in stage["turns"] if (turn["scenario"], turn["proxy"]) == (name, proxy))
    attacks = [each for each in stage["attacks"] if (each["scenario"], each["proxy"]) == (name, proxy)]
    row = [scenario["title"], proxy, f"{rate:,.0f}"]
    row += [f"{compute_kept(stage, scenario, proxy):.2f}", render_ms(p50), render_ms(p99)]
    row += [render_ratio(p99, reference), str(failed)]
    if attacks:
        made, sent, received = (
            statistics.median(each.get(key, 0) for each in attacks) for key in ("made", "sent_bytes", "received_bytes")
        )
        row += [f"{made:,.0f}, {sent / 1e6:,.1f}, {received / 1e6:,.1f}"]
        row += [f"{max(each['recovery_s'] for each in attacks):.1f} s"]
    else:
        row += ["–", "–"]
    return [*row, f"{busy:.0%}, {load_busy:.0%}"]


def _get(stage: Stage, scenario: str, proxy: str, load: str, figure: str) -> float:
    key = (scenario, proxy, load)
    found = [turn[figure] for turn in stage["turns"] if (turn["scenario"], turn["proxy"], turn["load"]) == key]
    return float(statistics.median(found))
