"""The results of HTTP/2 as tables: medians, ratios to Envoy and HAProxy, and in words where Maesh is behind.

Takes what http2_vs_peers.py gives; returns Markdown for report.py.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from tables import render_ms, render_ratio, render_rows

Document = Mapping[str, Any]
REFERENCES = {"envoy": "Envoy", "haproxy": "HAProxy"}
LOAD_LIMIT = 0.95
"""Above this busy share of the load's core, a rate tells how fast the client and the servers are."""
WORDS = """Each proxy has one worker on one core. The servers and the client (h2load, 8 connections with 10 streams
each) share the other core. Figures are medians of interleaved runs. Messages and bodies of 1 MiB are counted as they
arrive, also in requests that the end of a run cuts off. h2load cannot vary a field, so a changing `grpc-timeout` is not
measured."""
NEVER_BEHIND = "Maesh is slower than Envoy in none of these cases."


class Http2Figures:
    """Medians over the runs of the cases."""

    def __init__(self, http2: Document) -> None:
        self.cases: list[dict[str, Any]] = http2["cases"]
        self._runs: list[dict[str, Any]] = http2["runs"]

    def list_names(self, case: str) -> list[str]:
        """List the proxies that a case was measured with."""
        return list(dict.fromkeys(run["proxy"] for run in self._runs if run["case"] == case))

    def get(self, case: str, proxy: str, figure: str) -> float:
        """Get the median of one figure; 0 where it was not measured."""
        values = [run[figure] for run in self._runs if (run["case"], run["proxy"]) == (case, proxy)]
        return float(statistics.median(values)) if values else 0.0

    def sum_failed(self, case: str, proxy: str) -> int:
        """Sum the requests that failed, over all runs."""
        return sum(run["failed"] for run in self._runs if (run["case"], run["proxy"]) == (case, proxy))

    def list_wrong(self) -> list[str]:
        """List what was wrong with runs, once for each."""
        return list(
            dict.fromkeys(f"{run['case']}, {run['proxy']}: {text}" for run in self._runs for text in run["wrong"])
        )


def render_case(figures: Http2Figures, case: Document, direct: Document) -> str:
    """Render the table of one case."""
    unit = case["unit"]
    cost = "MB per CPU second" if unit == "MB" else f"CPU/{unit}"
    head = ["proxy", "MB/s" if unit == "MB" else f"{unit}s/s", *(f"of {name}" for name in REFERENCES.values())]
    head += [cost, *(f"of {name}" for name in REFERENCES.values()), "p50", "p99", "failed", "cores busy: proxy, load"]
    rows = [render_proxy(figures, case, proxy) for proxy in figures.list_names(case["name"])]
    words = ""
    if case["name"] in direct:
        words = f"Without a proxy: {direct[case['name']]['units_per_s']:,.0f} {head[1]}.\n\n"
    return f"### {case['title']}\n\n{words}{render_rows(head, rows)}"


def render_proxy(figures: Http2Figures, case: Document, proxy: str) -> list[str]:
    """Render one proxy's row in the table of a case."""
    name = case["name"]
    rate = figures.get(name, proxy, "units_per_s")
    row = [proxy, f"{rate:,.0f}"]
    row += [render_ratio(rate, figures.get(name, reference, "units_per_s")) for reference in REFERENCES]
    cost = get_cost(figures, case, proxy)
    row += [f"{cost:,.0f}" if case["unit"] == "MB" else f"{cost:,.1f} µs"]
    row += [render_ratio(cost, get_cost(figures, case, reference)) for reference in REFERENCES]
    row += [render_ms(figures.get(name, proxy, figure)) for figure in ("p50_us", "p99_us")]
    row += [f"{figures.sum_failed(name, proxy):,}"]
    return [*row, ", ".join(f"{figures.get(name, proxy, f'{core}_core_busy'):.0%}" for core in ("proxy", "load"))]


def get_cost(figures: Http2Figures, case: Document, proxy: str) -> float:
    """Get what a unit costs in µs of CPU; for bodies, how many MB a second of CPU carries."""
    cpu_us = figures.get(case["name"], proxy, "cpu_us_per_unit")
    return 1e6 / cpu_us if case["unit"] == "MB" and cpu_us else cpu_us


def list_behind(figures: Http2Figures) -> list[str]:
    """Say in words where Maesh is behind Envoy: by its rate, or by CPU for each unit."""
    found = []
    for case in figures.cases:
        name = case["name"]
        if not {"maesh", "envoy"} <= set(figures.list_names(name)):
            continue
        rate, cpu = (
            figures.get(name, "maesh", figure) / max(1e-9, figures.get(name, "envoy", figure))
            for figure in ("units_per_s", "cpu_us_per_unit")
        )
        if rate < 1 or cpu > 1:
            found.append(f"{case['title']}: {rate:.2f} of Envoy's rate, {cpu:.2f} of its CPU for each {case['unit']}")
    return found


def render_memory(memory: Document) -> str:
    """Render the memory with idle clients."""
    connections, streams = memory["connections"], memory["streams"]
    head = ["proxy", f"each of {connections:,} idle connections"]
    head += [f"{connections:,} connections with {streams} idle streams each"]
    rows = []
    for name, found in memory["proxies"].items():
        idle, waiting = found.get("idle connections"), found.get("idle streams")
        row = [name, f"{idle['grown_mb'] * 1e6 / 1024 / max(1, idle['held']):.1f} KiB" if idle else "–"]
        held = "" if not waiting or waiting["held"] >= connections * streams else f" for {waiting['held']:,}"
        rows.append([*row, f"{waiting['grown_mb']:,.0f} MB{held}" if waiting else "–"])
    words = "The growth of the largest process. A connection has been served once; a stream waits for its request.\n\n"
    return "### Memory with idle clients\n\n" + words + render_rows(head, rows)


def render_http2(http2: Document) -> str:
    """Render all cases and the memory."""
    figures = Http2Figures(http2)
    parts = ["## HTTP/2 compared with other proxies", WORDS]
    behind = list_behind(figures)
    parts += ["Where Maesh is slower than Envoy:\n\n" + "\n".join(f"* {line}." for line in behind)] if behind else []
    parts += [] if behind else [NEVER_BEHIND]
    limited = [
        case["title"]
        for case in figures.cases
        if max(
            (figures.get(case["name"], name, "load_core_busy") for name in figures.list_names(case["name"])), default=0
        )
        > LOAD_LIMIT
    ]
    if limited:
        parts.append(f"Limited by the load's core for some, so compare CPU: {'; '.join(limited)}.")
    gaps = [f"* {name}, {case}: {reason}." for name, found in http2["gaps"].items() for case, reason in found.items()]
    parts += ["Not measured:\n\n" + "\n".join(gaps)] if gaps else []
    wrong = figures.list_wrong()
    wrong += [
        f"{kind}, {name}: {text}"
        for name, found in http2["memory"]["proxies"].items()
        for kind, held in found.items()
        for text in held["wrong"]
    ]
    parts += ["Doubtful runs:\n\n" + "\n".join(f"* {line}" for line in wrong)] if wrong else []
    parts += [render_case(figures, case, http2["direct"]) for case in figures.cases]
    return "\n\n".join([*parts, render_memory(http2["memory"])])
