"""The whole of the HTTP path beside its peers: a Maesh proxy, nginx and HAProxy, interleaved in the same run.

Every proxy stands alone on one core; nginx as server behind it and wrk as client share the other. Takes options, gives
benchmarks/results/http_vs_peers.json and a Markdown table. Figures are medians over runs; nothing passes or fails.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import (
    ProcessGroup,
    build_controller_command,
    build_proxy_command,
    choose_cores,
    compute_busy_share,
    describe_machine,
    fetch,
    find_free_port,
    measure_cores,
    measure_cpu_s,
    measure_rss_mb,
    wait_until,
)

FOLDER = Path(__file__).resolve().parent
PEERS, RESULTS = FOLDER / "peers", FOLDER / "results"
HOST = "bench.bench.maesh"
ADDRESSES = ("127.0.3.1", "127.0.3.2")
NAMES = ("maesh", "nginx", "haproxy")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of one proxy gave."""

    proxy: str
    requests: int
    requests_per_s: float
    cpu_us_per_request: float
    upstream_requests: int
    failed: int
    proxy_core_busy: float
    load_core_busy: float
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    rss_mb: float


class Bench:
    """The servers, the proxies and the client of one benchmark."""

    def __init__(self, group: ProcessGroup, folder: Path, options: argparse.Namespace) -> None:
        self._group, self._folder, self._options = group, folder, options
        self._proxy_core, self._load_core = choose_cores()
        self._upstream_port, self._status_port = find_free_port(), find_free_port()
        self._proxies: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Start the servers, then each proxy that is asked for and installed."""
        path = self._write("upstream.conf", {})
        self._group.start("upstream", ["nginx", "-c", path, "-p", self._folder], core=self._load_core)
        wait_until(lambda: fetch(self._status_port)[0] == 200, "nginx as server")
        for name in self._options.only:
            port = find_free_port()
            pid = self._start_maesh(port) if name == "maesh" else self._start_peer(name, port)
            wait_until(lambda port=port: fetch(port, host=HOST)[0] == 200, name)  # type: ignore[misc]
            self._proxies[name] = (pid, port)

    def _write(self, template: str, values: dict[str, object]) -> Path:
        text = (PEERS / template).read_text()
        values |= {"FOLDER": self._folder, "HOST": HOST, "ADDRESS_1": ADDRESSES[0], "ADDRESS_2": ADDRESSES[1]}
        values |= {"UPSTREAM_PORT": self._upstream_port, "STATUS_PORT": self._status_port}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = self._folder / template
        path.write_text(text)
        return path

    def _start_peer(self, name: str, port: int) -> int:
        if name == "nginx":
            path = self._write("nginx.conf", {"PORT": port})
            command: list[str | Path] = ["nginx", "-c", path, "-p", self._folder]
        else:
            command = ["haproxy", "-f", self._write("haproxy.cfg", {"PORT": port})]
        return self._group.start(name, command, core=self._proxy_core).pid

    def _start_maesh(self, port: int) -> int:
        manifests = self._folder / "manifests"
        manifests.mkdir()
        (manifests / "bench.json").write_text(json.dumps(build_manifests(self._upstream_port)))
        api_port, admin_port = find_free_port(), find_free_port()
        command = build_controller_command(manifests, api_port=api_port, http_port=port)
        self._group.start("controller", command, core=self._load_core)
        wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
        command = build_proxy_command(api_port=api_port, admin_port=admin_port)
        return self._group.start("maesh", command, core=self._proxy_core).pid

    def run_all(self) -> list[Run]:
        """Warm every proxy up, then measure them in turn, run after run."""
        for name in self._proxies:
            self.run_once(name, seconds=1)
        done = []
        for number in range(self._options.runs):
            for name in self._proxies:
                run = self.run_once(name, seconds=self._options.seconds)
                done.append(run)
                print(f"run {number + 1}/{self._options.runs}  {render_run(run)}", flush=True)
        return done

    def run_once(self, name: str, *, seconds: int) -> Run:
        """Load one proxy for some seconds and read everything before and after."""
        pid, port = self._proxies[name]
        upstream, cpu_s, cores = self._count_upstream_requests(), measure_cpu_s(pid), measure_cores()
        report = self._run_wrk(port, seconds)
        cores_after, cpu_after_s = measure_cores(), measure_cpu_s(pid)
        requests = report["requests"]
        return Run(
            proxy=name,
            requests=requests,
            requests_per_s=requests / report["duration_us"] * 1e6,
            cpu_us_per_request=(cpu_after_s - cpu_s) * 1e6 / max(1, requests),
            upstream_requests=self._count_upstream_requests() - upstream - 1,
            failed=sum(report[kind] for kind in ("connect", "read", "write", "status", "timeout")),
            proxy_core_busy=compute_busy_share(cores[self._proxy_core], cores_after[self._proxy_core]),
            load_core_busy=compute_busy_share(cores[self._load_core], cores_after[self._load_core]),
            rss_mb=sum(measure_rss_mb(pid).values()),
            **{name: report[name] for name in ("p50_us", "p90_us", "p99_us", "p999_us")},
        )

    def _run_wrk(self, port: int, seconds: int) -> dict[str, int]:
        command = ["taskset", "-c", str(self._load_core), "wrk", "-t1", f"-c{self._options.connections}"]
        command += [f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}", "-s", str(PEERS / "wrk.lua")]
        command += [f"http://127.0.0.1:{port}/", "--", str(self._options.targets)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True)
        report: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        time.sleep(0.2)  # what wrk has left under way ends before the servers' count is read
        return report

    def _count_upstream_requests(self) -> int:
        return int(fetch(self._status_port)[1].splitlines()[2].split()[2])


def build_manifests(port: int) -> dict[str, object]:
    """Build the benchmark's service with its two servers."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "bench", "namespace": "bench"},
        "spec": {"ports": [{"name": "web", "port": 80, "targetPort": port}]},
    }
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in ADDRESSES]
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "bench-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": "bench"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": port}],
        "endpoints": endpoints,
    }
    return {"apiVersion": "v1", "kind": "List", "items": [service, slice_]}


def render_run(run: Run) -> str:
    """Render one run as a line of progress."""
    return (
        f"{run.proxy:8}{run.requests_per_s:8.0f} req/s {run.cpu_us_per_request:6.1f} us CPU/req  p50 {run.p50_us} us"
        f"  p99 {run.p99_us} us  failed {run.failed}  upstream-client {run.upstream_requests - run.requests:+d}"
        f"  cores busy {run.proxy_core_busy:.0%} proxy, {run.load_core_busy:.0%} load"
    )


def compute_median(runs: list[Run], proxy: str, field: str) -> float:
    """Compute the median of one figure over a proxy's runs."""
    values: list[float] = [getattr(run, field) for run in runs if run.proxy == proxy]
    return statistics.median(values)


def render_table(runs: list[Run]) -> str:
    """Render medians as a Markdown table, with ratios to nginx where it was measured.

    The last column is the busy share of the proxy's core and of the load's.
    """
    names = list(dict.fromkeys(run.proxy for run in runs))
    lines = [
        "| proxy | requests/s | of nginx | CPU/request | of nginx | p50 | p90 | p99 | failed | RSS | busy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        rate, cpu = compute_median(runs, name, "requests_per_s"), compute_median(runs, name, "cpu_us_per_request")
        ratios = ["", ""]
        if "nginx" in names:
            ratios[0] = f"{rate / compute_median(runs, 'nginx', 'requests_per_s'):.2f}"
            ratios[1] = f"{cpu / compute_median(runs, 'nginx', 'cpu_us_per_request'):.2f}"
        p50, p90, p99 = (compute_median(runs, name, field) / 1000 for field in ("p50_us", "p90_us", "p99_us"))
        failed = sum(run.failed for run in runs if run.proxy == name)
        busy = [compute_median(runs, name, field) for field in ("proxy_core_busy", "load_core_busy")]
        rss_mb = compute_median(runs, name, "rss_mb")
        lines.append(
            f"| {name} | {rate:,.0f} | {ratios[0]} | {cpu:.1f} µs | {ratios[1]} | {p50:.2f} ms | {p90:.2f} ms "
            f"| {p99:.2f} ms | {failed} | {rss_mb:.0f} MB | {busy[0]:.0%}, {busy[1]:.0%} |"
        )
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one run (default 5)")
    parser.add_argument("--runs", type=int, default=5, help="runs for each proxy, interleaved (default 5)")
    parser.add_argument("--connections", type=int, default=64, help="kept connections (default 64)")
    parser.add_argument("--targets", type=int, default=1, help="different request targets sent in turn (default 1)")
    parser.add_argument("--only", default=",".join(NAMES), help=f"comma list out of {', '.join(NAMES)}")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name == "maesh" or shutil.which(name)]
    if unknown := set(options.only) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Measure, print and write the results."""
    options = parse_options()
    if missing := [program for program in ("nginx", "wrk", "taskset") if not shutil.which(program)]:
        print(f"Not installed, so there is nothing to measure with: {', '.join(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name, ProcessGroup(Path(name)) as group:
        bench = Bench(group, Path(name), options)
        try:
            bench.start()
        except TimeoutError as error:
            logs = [path.read_text(errors="replace")[-2000:] for path in Path(name).glob("*.log")]
            print(error, *logs, sep="\n", file=sys.stderr)
            return 1
        runs = bench.run_all()
    table = render_table(runs)
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": describe_machine(), "options": vars(options), "runs": [asdict(run) for run in runs]}
    (RESULTS / "http_vs_peers.json").write_text(json.dumps(document, indent=2))
    (RESULTS / "http_vs_peers.md").write_text(table + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        sys.exit(130)
