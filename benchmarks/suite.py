"""The whole suite: what `make bench` runs. Measures the parts, the traffic beside the peers, start, memory and scale.

Takes options; returns benchmarks/results/bench.json, and from it the tables and the chart beside it. Figures are worth
something only on a machine that does nothing else. Everything it starts ends with it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cases import CASES
from footprint import estimate_footprint_s, measure_footprint
from http2_vs_peers import estimate_http2_s, measure_http2
from http_vs_peers import estimate_http_s, measure_http
from processes import ProcessGroup, describe_machine, raise_open_files_limit, run_to_end
from proxies import Proxy, Site, build_proxies
from report import read_parts, write_results
from scale import estimate_scale_s, measure_scale
from streams_vs_peers import estimate_streams_s, measure_streams

RESULTS = Path(__file__).resolve().parent / "results"
PARTS_S = 45
STAGES = ("parts", "http", "http2", "streams", "footprint", "scale")
PROGRAMS = ("nginx", "wrk", "taskset", "cc")
Clusters = list[tuple[int, str]]
CLUSTERS: Clusters = [
    (1000, "json"),
    (5000, "json"),
    (10_000, "json"),
    (5000, "yaml"),
    (2000, "kubernetes"),
    (10_000, "kubernetes"),
]
QUICK_CLUSTERS: Clusters = [(1000, "json"), (1000, "kubernetes")]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    names, cases = list(build_proxies()), [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short run of everything: does it work, not how fast")
    parser.add_argument("--runs", type=int, help="runs of each proxy in each case, interleaved (default 5)")
    parser.add_argument("--seconds", type=int, help="length of one run (default 2)")
    parser.add_argument("--rate", type=float, default=0, help="offered rate (default: half of nginx's maximum)")
    parser.add_argument("--only", default=",".join(names), help=f"proxies, out of {', '.join(names)}")
    parser.add_argument("--cases", default=",".join(cases), help=f"cases of HTTP, out of {', '.join(cases)}")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"out of {', '.join(STAGES)}")
    parser.add_argument("--output", type=Path, default=RESULTS / "bench.json", help="the file of results")
    options = parser.parse_args()
    for option, known in (("only", names), ("cases", cases), ("stages", list(STAGES))):
        chosen = getattr(options, option).split(",")
        if unknown := set(chosen) - set(known):
            parser.error(f"--{option}: unknown: {', '.join(sorted(unknown))}")
        setattr(options, option, [each for each in known if each in chosen])
    options.cases = [case for case in CASES if case.name in options.cases]
    options.runs = options.runs or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.starts, options.changes = (1, 3) if options.quick else (3, 20)
    options.clusters = QUICK_CLUSTERS if options.quick else CLUSTERS
    return options


def choose_proxies(options: argparse.Namespace) -> tuple[list[Proxy], list[str]]:
    """Choose the proxies that are asked for and installed; also return the names of those that are not."""
    chosen = [proxy for name, proxy in build_proxies().items() if name in options.only]
    absent = [proxy.name for proxy in chosen if proxy.find() is None]
    return [proxy for proxy in chosen if proxy.name not in absent], absent


def measure_parts() -> list[dict[str, Any]]:
    """Run the benchmarks of parts."""
    output = RESULTS / "parts.json"
    command = [sys.executable, "-m", "pytest", "-q", str(RESULTS.parent), "--benchmark-only"]
    command += ["--benchmark-columns=min,median,mean,rounds", f"--benchmark-json={output}"]
    subprocess.run(command, check=True, cwd=RESULTS.parent.parent)
    return read_parts(output)


def estimate_s(proxies: Sequence[Proxy], options: argparse.Namespace) -> float:
    """Estimate how long all stages take."""
    found = {
        "parts": PARTS_S,
        "http": estimate_http_s(len(proxies), options),
        "http2": estimate_http2_s(proxies, options),
        "streams": estimate_streams_s(proxies, options),
        "footprint": estimate_footprint_s(len(proxies), options),
        "scale": estimate_scale_s(options),
    }
    return sum(found[stage] for stage in options.stages)


def run_stages(site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Any]:
    """Run the stages that are asked for, one after the other, each on an otherwise idle machine."""
    stages: dict[str, Callable[[], Any]] = {
        "parts": measure_parts,
        "footprint": lambda: measure_footprint(site, proxies, options),
        "scale": lambda: measure_scale(site.group, site.folder, options),
        "http": lambda: measure_http(site, proxies, options),
        "http2": lambda: measure_http2(site, proxies, options),
        "streams": lambda: measure_streams(site, proxies, options),
    }
    site.start_upstream()
    found = {}
    for number, (name, measure) in enumerate((name, stages[name]) for name in stages if name in options.stages):
        print(f"\n== {name} ({number + 1} of {len(options.stages)})", flush=True)
        found[name] = measure()
    return found


def main() -> int:
    """Measure, write the results, and print the tables."""
    options = parse_options()
    programs = (*PROGRAMS, *(["h2load"] if "http2" in options.stages else []))
    if missing := [program for program in programs if not shutil.which(program)]:
        print(f"Not installed, so there is nothing to measure with: {', '.join(missing)}", file=sys.stderr)
        return 1
    raise_open_files_limit()
    proxies, absent = choose_proxies(options)
    if absent:
        print(f"Not installed, so left out (`make peers` installs some): {', '.join(absent)}")
    names, minutes = ", ".join(proxy.name for proxy in proxies), estimate_s(proxies, options) / 60
    print(f"Measuring {names}: about {minutes:.0f} min.", flush=True)
    started = time.time()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name, ProcessGroup(Path(name)) as group:
        try:
            found = run_stages(Site(group, Path(name)), proxies, options)
        except (TimeoutError, RuntimeError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            logs = [f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in Path(name).glob("*.log")]
            print(*logs, f"The suite ended early: {error}", sep="\n", file=sys.stderr)
            return 1
    found["machine"] = describe_machine()
    found["proxies"] = {proxy.name: proxy.read_version() for proxy in proxies}
    found["absent"] = absent
    found["options"] = {"runs": options.runs, "seconds": options.seconds, "is_quick": options.quick}
    options.output.write_text(json.dumps(found, indent=1))
    print(f"\nTook {(time.time() - started) / 60:.1f} min. Results are in {options.output}.\n")
    print(write_results(found, options.output.parent))
    return 0


if __name__ == "__main__":
    run_to_end(main)
