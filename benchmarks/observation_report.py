"""What observation.py and dashboard.py measured, as tables for RESULTS.md.

Takes their documents; returns Markdown. Measures nothing.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tables import render_rows

Document = Mapping[str, Any]

AIMS = {"maesh-all-on": 1.02, "maesh-tap-left": 1.0, "maesh-log": 1.10, "maesh-traces-1%": 1.03}
"""CPU time for a request, as a multiple of the plain form's."""
DRAWN_AIM_MS = 1000
LOADED_AIM_BYTES = 300_000
OBSERVATION_WORDS = """Every proxy has one worker on one core; the CPU time of all its processes counts. The variants
take turns in each round. The last columns compare each run with that of the plain form in the same round.
`maesh-all-on` counts exact codes, and is scraped and watched by a page each second. `maesh-tap-left` had a tap that its
viewer has left, `maesh-tap` has one that is read. Every log is JSON.\n\n"""
DASHBOARD_WORDS = """The page in headless Chromium, with the simulated controller of its tests in the same process as
the benchmark. Figures are medians, with the least and the most. Other programs made a load of {load:.1f} before the
run.\n\n"""


def render_observation(runs: Sequence[Document]) -> str:
    """Render the medians of each variant, and its CPU time beside that of the plain form."""
    head = ["proxy", "requests/s", "CPU/request", "of the plain form", "by rounds", "least to most", "aim"]
    costs: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for run in runs:
        costs.setdefault(run["proxy"], []).append(run["cpu_us_per_request"])
        rates.setdefault(run["proxy"], []).append(run["requests_per_s"])
    rows = []
    for name, cost in costs.items():
        plain = costs.get(name.partition("-")[0], cost)
        ratios = [each / base for each, base in zip(cost, plain, strict=True)]
        row = [name, f"{statistics.median(rates[name]):,.0f}", f"{statistics.median(cost):.1f} µs"]
        row += [f"{statistics.median(cost) / statistics.median(plain):.3f}", f"{statistics.median(ratios):.3f}"]
        rows.append([*row, f"{min(ratios):.2f} to {max(ratios):.2f}", AIMS.get(name, "")])
    return "## Seeing the traffic\n\n" + OBSERVATION_WORDS + render_rows(head, rows)


def render_dashboard(found: Document) -> str:
    """Render how long each view of the page takes."""
    head = ["view", "drawn after the data", "CPU until then", "loaded, compressed"]
    rows: list[list[str]] = []
    for view, runs in found["views"].items():
        drawn, cpu, loaded = ([run[name] for run in runs] for name in ("drawn_ms", "cpu_ms", "loaded_bytes"))
        row = [view, *(_render_ms(each) for each in (drawn, cpu)), f"{statistics.median(loaded) / 1000:.0f} kB"]
        rows.append(row)
    rows.append(["aim", f"{DRAWN_AIM_MS} ms", "", f"{LOADED_AIM_BYTES / 1000:.0f} kB"])
    title = f"## The page with {found['services']:,} services and {found['edges']:,} edges\n\n"
    return title + DASHBOARD_WORDS.format(load=found["load"]) + render_rows(head, rows)


def _render_ms(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})"
