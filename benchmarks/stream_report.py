"""The results of TCP and UDP as tables: medians, ratios to nginx and HAProxy, and in words where Maesh is behind.

Takes what streams_vs_peers.py gives; returns Markdown for report.py.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from tables import render_ms, render_ratio, render_rows

Document = Mapping[str, Any]
REFERENCES = ("nginx", "haproxy")
LOAD_LIMIT = 0.95
"""Above this busy share of the load's core, a rate tells how fast the client and the servers are."""
WORDS = """Each proxy has one worker on one core; the servers and the client share the other core, all on loopback
addresses. Figures are medians of interleaved runs. A round trip is two datagrams: one to the server and one back.
HAProxy does not support UDP. `haproxy-splice` is HAProxy with splicing, which is off by default. The proxies ran as
{user}."""


class StreamFigures:
    """Medians over the runs of the cases."""

    def __init__(self, streams: Document) -> None:
        self.cases: list[dict[str, Any]] = streams["cases"]
        self._runs: list[dict[str, Any]] = streams["runs"]

    def list_names(self, case: str) -> list[str]:
        """List the proxies that a case was measured with."""
        return list(dict.fromkeys(run["proxy"] for run in self._runs if run["case"] == case))

    def list_runs(self, case: str, proxy: str) -> list[dict[str, Any]]:
        """List the runs of one proxy in one case."""
        return [run for run in self._runs if (run["case"], run["proxy"]) == (case, proxy)]

    def get(self, case: str, proxy: str, figure: str) -> float:
        """Get the median of one figure; 0 where it was not measured."""
        runs = self.list_runs(case, proxy)
        return float(statistics.median(run[figure] for run in runs)) if runs else 0.0

    def sum_failed(self, case: str, proxy: str) -> int:
        """Sum what was cut or lost, over all runs."""
        return sum(run["failed"] for run in self.list_runs(case, proxy))

    def list_wrong(self) -> list[str]:
        """List what was wrong with runs, once for each."""
        return list(
            dict.fromkeys(f"{run['case']}, {run['proxy']}: {text}" for run in self._runs for text in run["wrong"])
        )


def render_case(figures: StreamFigures, case: Document) -> str:
    """Render the table of one case."""
    head = ["proxy", *(["offered/s"] if case["is_paced"] else []), case["rate"], "of nginx", "of HAProxy"]
    head += [f"CPU/{case['unit']}", "of nginx", "of HAProxy"]
    head += ["lost, of", "p50", "p99"] if case["transport"] == "udp" else ["cut"]
    head += ["cores busy: proxy, load"]
    rows = [render_proxy(figures, case, proxy) for proxy in figures.list_names(case["name"])]
    return f"### {case['title']}\n\n{render_rows(head, rows)}"


def render_proxy(figures: StreamFigures, case: Document, proxy: str) -> list[str]:
    """Render one proxy's row in the table of a case."""
    name = case["name"]
    row = [proxy, *([f"{figures.get(name, proxy, 'offered_per_s'):,.0f}"] if case["is_paced"] else [])]
    for figure, unit in (("rate_per_s", ""), ("cpu_per_unit", f" {case['cpu']}")):
        value = figures.get(name, proxy, figure)
        row += [f"{value:,.0f}{unit}" if value >= 1000 else f"{value:.3g}{unit}"]
        row += [render_ratio(value, figures.get(name, reference, figure)) for reference in REFERENCES]
    failed = figures.sum_failed(name, proxy)
    if case["transport"] == "udp":
        asked = sum(run["asked"] for run in figures.list_runs(name, proxy))
        row += [
            f"{failed:,} of {asked:,}",
            *(render_ms(figures.get(name, proxy, each)) for each in ("p50_us", "p99_us")),
        ]
    else:
        row += [f"{failed:,}"]
    return [*row, ", ".join(f"{figures.get(name, proxy, f'{core}_core_busy'):.0%}" for core in ("proxy", "load"))]


def list_behind(figures: StreamFigures) -> list[str]:
    """Say in words where Maesh is behind, case by case: by CPU for each unit, or by the share that is lost."""
    found = []
    for case in figures.cases:
        name = case["name"]
        if "maesh" not in figures.list_names(name):
            continue
        if case["is_paced"]:
            if lost := figures.sum_failed(name, "maesh"):
                found.append(f"{case['title']}: {lost:,} lost")
            continue
        ours = figures.get(name, "maesh", "cpu_per_unit")
        ahead = [
            f"{proxy} ({ours / theirs:.2f} of its CPU/{case['unit']})"
            for proxy in figures.list_names(name)
            if proxy != "maesh" and 0 < (theirs := figures.get(name, proxy, "cpu_per_unit")) < ours
        ]
        if ahead:
            found.append(f"{case['title']}: behind {', '.join(ahead)}")
    return found


def render_memory(memory: Document) -> str:
    """Render the memory under clients that are held."""
    held = memory["held"]
    head = ["proxy", "worker, total RSS at the start", f"with {held['tcp']:,} idle TCP connections"]
    head += [f"with {held['udp']:,} UDP sessions", "for each session"]
    rows = []
    for name, found in memory["proxies"].items():
        kinds = [found.get(kind) for kind in ("fresh", "tcp", "udp")]
        row = [name, *(f"{each['worker_mb']:.0f}, {each['total_mb']:.0f} MB" if each else "–" for each in kinds)]
        udp = found.get("udp")
        row += [f"{(udp['worker_mb'] - found['fresh']['worker_mb']) * 1000 / held['udp']:.1f} kB" if udp else "–"]
        rows.append(row)
    words = "Each client has been served once. Pages that processes share count in each.\n\n"
    return "### Memory under idle clients\n\n" + words + render_rows(head, rows)


def render_streams(streams: Document) -> str:
    """Render all cases and the memory."""
    figures = StreamFigures(streams)
    parts = ["## TCP and UDP compared with other proxies", WORDS.format(user=streams["user"])]
    behind = list_behind(figures)
    parts += ["Where Maesh is slower:\n\n" + "\n".join(f"* {line}." for line in behind) if behind else NEVER_BEHIND]
    limited = [
        case["title"]
        for case in figures.cases
        if not case["is_paced"]
        and max(figures.get(case["name"], name, "load_core_busy") for name in figures.list_names(case["name"]))
        > LOAD_LIMIT
    ]
    if limited:
        parts.append(f"Limited by the load's core for some, so compare CPU: {'; '.join(limited)}.")
    if wrong := [*figures.list_wrong(), *streams["memory"]["wrong"]]:
        parts.append("Doubtful runs:\n\n" + "\n".join(f"* {line}" for line in wrong))
    parts += [render_case(figures, case) for case in figures.cases]
    return "\n\n".join([*parts, render_memory(streams["memory"])])


NEVER_BEHIND = "Maesh is slower in none of these cases."
