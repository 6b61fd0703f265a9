"""Results as tables: medians, ratios to nginx, and in plain words where Maesh is behind.

Takes the document that suite.py writes; returns Markdown, and the chart beside it. Run by itself it puts the tables of
each stage between that stage's marks in RESULTS.md and the chart beside that file; what people wrote around the marks
stays, and so do the tables of stages that were not run.
"""

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chart import render_chart
from fairness_report import render_fairness
from http2_report import render_http2
from observation_report import render_dashboard, render_observation
from stream_report import render_streams
from tables import render_ms, render_ratio, render_rows
from tunnel_report import render_mtls, render_mtls_scale

FOLDER = Path(__file__).resolve().parent
BEGIN, END = "<!-- figures of {stage}: written by report.py -->", "<!-- end of figures of {stage} -->"
HELD_SHARE = 0.97
"""A proxy that answers less than this share of what it is offered does not hold the rate."""
LOAD_LIMIT = 0.95
"""Above this busy share of the load's core, requests a second tell how fast the client and the servers are."""

FIGURES = (
    "requests_per_s",
    "cpu_us_per_request",
    "p50_us",
    "p90_us",
    "p99_us",
    "worker_mb",
    "total_mb",
    "proxy_core_busy",
    "load_core_busy",
)

Document = Mapping[str, Any]


class Figures:
    """Medians over the runs of the cases."""

    def __init__(self, http: Document) -> None:
        self.cases: list[dict[str, Any]] = http["cases"]
        self._runs: list[dict[str, Any]] = http["runs"]
        self.names = list(dict.fromkeys(run["proxy"] for run in self._runs))

    def list_names(self, case: str) -> list[str]:
        """List the proxies that a case was measured with."""
        return [name for name in self.names if self.list_runs(case, name)]

    def list_runs(self, case: str, proxy: str) -> list[dict[str, Any]]:
        """List the runs of one proxy in one case."""
        return [run for run in self._runs if (run["case"], run["proxy"]) == (case, proxy)]

    def get(self, case: str, proxy: str, figure: str) -> float:
        """Get the median of one figure."""
        return float(statistics.median(run[figure] for run in self.list_runs(case, proxy)))

    def get_bytes_per_cpu_s(self, case: Document, proxy: str) -> float:
        """Get how many bytes of bodies one second of CPU carries."""
        return float(case["length"]) * 1e6 / max(1e-9, self.get(case["name"], proxy, "cpu_us_per_request"))

    def is_held(self, case: str, proxy: str) -> bool:
        """Return whether a proxy kept up with the rate it was offered."""
        return self.get(case, proxy, "requests_per_s") >= HELD_SHARE * self.get(case, proxy, "offered_per_s")

    def is_offered(self, case: str) -> bool:
        """Return whether the rate was offered at all: where nginx answers less than half of its maximum, the client is
        what could not keep up."""
        return "nginx" not in self.names or self.is_held(case, "nginx")

    def list_wrong(self) -> list[str]:
        """List what was wrong with runs, once for each proxy and case."""
        found: dict[str, int] = {}
        for run in self._runs:
            for text in run["wrong"]:
                key = f"{run['case']}, {run['proxy']}: {text}"
                found[key] = found.get(key, 0) + 1
        return list(found)


def render_case(figures: Figures, case: Document) -> str:
    """Render the table of one case."""
    name, is_paced, is_large = case["name"], case["rate_share"] > 0, case["length"] >= 1 << 20
    head = ["proxy", "answered in time/s" if is_paced else "requests/s", "of nginx", "CPU/request", "of nginx"]
    head += ["MB per CPU second"] if is_large else []
    head += ["p50", "p90", "p99", "p99 of nginx", "failed", "worker, total RSS", "cores busy: proxy, load"]
    title = f"### {case['title'][0].upper()}{case['title'][1:]}\n\n"
    if is_paced:
        title += f"Offered to all: {figures.get(name, figures.names[0], 'offered_per_s'):,.0f} requests/s.\n\n"
        title += "" if figures.is_offered(name) else NOT_OFFERED
    return title + render_rows(head, [render_proxy(figures, case, proxy) for proxy in figures.list_names(name)])


def render_proxy(figures: Figures, case: Document, proxy: str) -> list[str]:
    """Render one proxy's row in the table of a case."""
    name = case["name"]
    figure = {key: figures.get(name, proxy, key) for key in FIGURES}
    base = {key: figures.get(name, "nginx", key) if "nginx" in figures.list_names(name) else 0.0 for key in FIGURES}
    rate, cpu_us = figure["requests_per_s"], figure["cpu_us_per_request"]
    row = [proxy, f"{rate:,.0f}", render_ratio(rate, base["requests_per_s"])]
    row += [f"{cpu_us:,.1f} µs", render_ratio(cpu_us, base["cpu_us_per_request"])]
    row += [f"{figures.get_bytes_per_cpu_s(case, proxy) / 1e6:,.0f}"] if case["length"] >= 1 << 20 else []
    if case["rate_share"] > 0 and not figures.is_held(name, proxy):
        row += ["does not hold it", "–", "–", "–"]
    else:
        row += [render_ms(figure[key]) for key in ("p50_us", "p90_us", "p99_us")]
        row += [render_ratio(figure["p99_us"], base["p99_us"])]
    row += [str(sum(run["failed"] for run in figures.list_runs(name, proxy)))]
    row += [f"{figure['worker_mb']:.0f}, {figure['total_mb']:.0f} MB"]
    return [*row, f"{figure['proxy_core_busy']:.0%}, {figure['load_core_busy']:.0%}"]


def list_behind(figures: Figures) -> list[str]:
    """Say in words where Maesh is behind, case by case: by CPU per request, or by p99 at a held rate."""
    found = []
    for case in figures.cases:
        name = case["name"]
        figure, what = ("p99_us", "p99") if case["rate_share"] > 0 else ("cpu_us_per_request", "CPU a request")
        if "maesh" not in figures.list_names(name):
            continue
        if case["rate_share"] > 0 and not figures.is_offered(name):
            found.append(f"{case['title']}: not known, because the load's core could not offer that rate")
            continue
        if case["rate_share"] > 0 and not figures.is_held(name, "maesh"):
            found.append(f"{case['title']}: Maesh cannot hold the rate")
            continue
        ours = figures.get(name, "maesh", figure)
        ahead = [
            f"{proxy} ({ours / max(1e-9, figures.get(name, proxy, figure)):.2f} of its {what})"
            for proxy in figures.list_names(name)
            if proxy != "maesh"
            and figures.get(name, proxy, figure) < ours
            and (case["rate_share"] == 0 or figures.is_held(name, proxy))
        ]
        if ahead:
            found.append(f"{case['title']}: behind {', '.join(ahead)}")
    return found


def render_http(http: Document) -> str:
    """Render all cases."""
    figures = Figures(http)
    behind = list_behind(figures)
    parts = ["## Where Maesh is slower", "\n".join(f"* {line}." for line in behind) or "In no case that was measured."]
    parts += ["## HTTP compared with other proxies", HTTP_WORDS]
    limited = [
        case["title"]
        for case in figures.cases
        if case["rate_share"] == 0
        and figures.get(case["name"], figures.list_names(case["name"])[0], "load_core_busy") > LOAD_LIMIT
    ]
    if limited:
        parts.append(f"Limited by the load's core, so compare CPU per request: {'; '.join(limited)}.")
    for proxy, missing in http["missing_headers"].items():
        parts.append(f"{proxy} does not set {', '.join(missing)}.")
    wrong = figures.list_wrong()
    parts.append("Doubtful runs:\n\n" + "\n".join(f"* {line}" for line in wrong) if wrong else ALL_WELL)
    parts += [render_case(figures, case) for case in figures.cases]
    parts += [render_middlewares(figures)]
    return "\n\n".join(parts)


def render_middlewares(figures: Figures) -> str:
    """Render what each middleware adds to the same load without it, proxy by proxy: medians of turns."""
    rows = []
    for case in figures.cases:
        name, base = case["name"], case["beside"]
        for proxy in figures.list_names(name) if base and base != name else ():
            turns = list(zip(figures.list_runs(name, proxy), figures.list_runs(base, proxy), strict=True))
            added_us = statistics.median(with_[CPU] - without[CPU] for with_, without in turns)
            share = statistics.median(with_[RATE] / without[RATE] for with_, without in turns)
            rows.append([case["title"], proxy, f"{added_us:+.1f} µs", f"{share:.2f}"])
    if not rows:
        return ""
    head = ["load", "proxy", "added CPU/request", "requests/s, of those without middleware"]
    return "### What middlewares add\n\n" + render_rows(head, rows)


CPU, RATE = "cpu_us_per_request", "requests_per_s"
NOT_OFFERED = """**Void: nginx did not answer half of its own maximum in time, so it was the load's core that could not
keep up. Run it on a quieter machine, or offer less with `--rate`.**\n\n"""
HTTP_WORDS = """Each proxy has one worker on one core; the servers and the client share the other core. Figures are
medians of interleaved runs. Ratios are multiples of nginx's figure."""
ALL_WELL = "In every run, the servers received as many requests as the client sent, and the sampled bodies were equal."


def render_footprint(footprint: Document) -> str:
    """Render starts and memory."""
    head = ["proxy", "start to first request served", f"worker, total RSS after {footprint['requests']:,} requests"]
    head += [f"worker, total RSS with {footprint['connections']:,} idle connections"]
    rows = []
    for name, found in footprint["proxies"].items():
        memory = [f"{found[when]['worker_mb']:.0f}, {found[when]['total_mb']:.0f} MB" for when in ("used", "idle")]
        rows.append([name, f"{found['served_s']:.2f} s", *memory])
    words = "Maesh's start includes the pull of its configuration. Shared memory pages count in each process.\n\n"
    return "## Start and memory\n\n" + words + render_rows(head, rows)


def render_scale(results: Sequence[Document]) -> str:
    """Render the large clusters."""
    head = ["services", "from", "controller ready", "proxy ready", "one change, to routing table"]
    head += ["objects touched", "controller RSS", "proxy RSS: worker, total"]
    rows = []
    for found in results:
        travelled = [change["travelled_ms"] for change in found["changes"]]
        row = [
            f"{found['services']:,}",
            found["kind"],
            f"{found['api_ready_s']:.1f} s",
            f"{found['proxy_ready_s']:.1f} s",
        ]
        row += [f"{statistics.median(travelled):.0f} ms, at worst {max(travelled):.0f} ms"]
        row += [str(max(change["objects"] for change in found["changes"])), f"{found['controller_mb']:.0f} MB"]
        rows.append([*row, f"{found['proxy_worker_mb']:.0f}, {found['proxy_mb']:.0f} MB"])
    words = (
        "Each service has ten servers. The controller and the proxy start at the same time. Manifests have one file for"
        " each service. With `kubernetes`, an API server also has ten pods and a shadow service for each service.\n\n"
    )
    return "## Large configurations\n\n" + words + render_rows(head, rows)


def read_parts(path: Path) -> list[dict[str, Any]]:
    """Read what the benchmarks of parts found."""
    found = json.loads(path.read_text())["benchmarks"]
    return [
        {"name": each["name"], **{key: each["stats"][key] for key in ("min", "median", "rounds")}} for each in found
    ]


def render_parts(parts: Sequence[Document]) -> str:
    """Render the parts."""
    rows = [
        [
            each["name"].removeprefix("test_").replace("_", " "),
            *(f"{each[key] * 1e6:,.1f} µs" for key in ("median", "min")),
        ]
        for each in parts
    ]
    return "## Parts\n\n" + render_rows(["part", "median", "least"], rows)


def render_head(document: Document) -> str:
    """Render what was measured with: the machine, the versions, the options."""
    machine = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    if "options" not in document:
        return f"Machine: {machine}."
    proxies = ", ".join(f"{name} {version}" for name, version in document["proxies"].items())
    options = document["options"]
    head = f"Machine: {machine}.\n\nProxies: {proxies}.\n\n{options['runs']} runs of {options['seconds']} s."
    if options["is_quick"]:
        head += " A quick run: it shows that the suite works, and no figure is to be trusted."
    if document["absent"]:
        head += f" Not installed and therefore not measured: {', '.join(document['absent'])}."
    return head


RENDERERS: Mapping[str, Callable[[Any], str]] = {
    "http": render_http,
    "http2": render_http2,
    "streams": render_streams,
    "footprint": render_footprint,
    "scale": render_scale,
    "parts": render_parts,
    "fairness": render_fairness,
    "mtls": render_mtls,
    "mtls_scale": render_mtls_scale,
    "observation": render_observation,
    "dashboard": render_dashboard,
}


def render_stages(document: Document) -> dict[str, str]:
    """Render every stage that was measured."""
    return {stage: render(document[stage]) for stage, render in RENDERERS.items() if stage in document}


def write_results(document: Document, folder: Path) -> str:
    """Write the tables, and the chart, beside the results; return the tables."""
    tables = "\n\n".join([render_head(document), *render_stages(document).values()])
    (folder / "bench.md").write_text(tables + "\n")
    if "http" in document:
        (folder / "comparison.svg").write_text(render_chart(Figures(document["http"])))
    return tables


def publish(document: Document) -> None:
    """Put the tables of each stage between its marks in RESULTS.md, with what they were measured with; and the chart
    beside it."""
    path = FOLDER / "RESULTS.md"
    text = path.read_text()
    for stage, tables in render_stages(document).items():
        begin, end = BEGIN.format(stage=stage), END.format(stage=stage)
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise SystemExit(f"{path} has no marks to put the figures between: {begin} and {end}")
        text = f"{before}{begin}\n\n{tables}\n\n{render_head(document)}\n\n{end}{after}"
    path.write_text(text)
    if "http" in document:
        (FOLDER / "comparison.svg").write_text(render_chart(Figures(document["http"])))


def main() -> int:
    """Publish the results of a file, by default those of the last run, whatever stages it had."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "results" / "bench.json"
    publish(json.loads(source.read_text()))
    print(f"RESULTS.md and comparison.svg now hold the figures of {source}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
