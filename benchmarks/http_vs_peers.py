"""The whole of the HTTP path beside its peers, interleaved, so that what else the machine does meets all alike.

Takes the installed proxies and the cases; returns a `Run` for each turn. Each proxy runs on one core. The other core
runs the client, and nginx as the server behind the proxy. No aim is checked here; a run with errors is reported.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from cases import CASES, Case
from loads import Load, run_load
from processes import (
    compute_busy_share,
    find_free_port,
    measure_cores,
    measure_cpu_s,
    measure_memory,
    wait_until,
)
from proxies import HOST, STAMPED_HOST, Prepared, Proxy, Site
from samples import check_headers, take_sample

OVERHEAD_S = 0.5
"""What a run takes beside its load."""
COPIES_SPREAD = 6
"""How far the number of copies may be from its mean, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of one case against one proxy gave."""

    case: str
    proxy: str
    requests: int
    requests_per_s: float
    offered_per_s: float
    cpu_us_per_request: float
    upstream_surplus: int
    failed: int
    unanswered: int
    proxy_core_busy: float
    load_core_busy: float
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    late_p99_us: int
    worker_mb: float
    total_mb: float
    wrong: list[str]


class HttpBench:
    """All proxies running side by side, and their measurement."""

    def __init__(self, site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> None:
        self._site, self._proxies, self._options = site, proxies, options
        self._running: dict[str, tuple[int, Prepared]] = {}
        self.missing_headers: dict[str, list[str]] = {}
        self.runs: list[Run] = []

    def start(self) -> None:
        """Start every proxy, and look at which headers it adds; one that does not serve raises TimeoutError."""
        for proxy in self._proxies:
            prepared = proxy.prepare(self._site, find_free_port())
            pid = prepared.start(self._site).pid
            wait_until(prepared.is_serving, proxy.name)
            self._running[proxy.name] = (pid, prepared)
            missing = check_headers(prepared.port, HOST, is_stamped=False)
            missing += check_headers(prepared.port, STAMPED_HOST, is_stamped=True)
            if missing:
                self.missing_headers[proxy.name] = missing
                print(f"{proxy.name} does not set {', '.join(missing)}", flush=True)

    def run_all(self) -> None:
        """Measure case after case; within a case every proxy in turn, run after run.

        Every second run has the reverse order, so that a machine that becomes slower or faster favours none.
        """
        for name in self._running:
            self._measure(CASES[0], name, seconds=1)
        cases = self._options.cases
        names = {case.name: choose_names(case, self._running) for case in cases}
        started, done, total = time.monotonic(), 0, sum(map(len, names.values())) * self._options.runs
        for _, group in groupby(cases, key=lambda case: case.beside or case.name):
            compared = list(group)
            titles = "; ".join(case.title for case in compared)
            print(f"\n{titles} ({compared[0].connections} connections)", flush=True)
            for number in range(self._options.runs):
                turns = [(each, name) for each in compared for name in names[each.name]]
                for case, name in reversed(turns) if number % 2 else turns:
                    run = self._measure(case, name, seconds=self._options.seconds)
                    self.runs.append(run)
                    done += 1
                    left_s = (time.monotonic() - started) / done * (total - done)
                    place = f"[{done}/{total}, {left_s / 60:.0f} min left] run {number + 1}"
                    print(f"{place}  {case.name:10}{render_run(run)}", flush=True)

    def choose_rate(self, case: Case) -> float:
        """Choose the rate that all are offered: a share of nginx's maximum, or of the best that was measured."""
        small = [run for run in self.runs if run.case == "small"]
        reference = [run.requests_per_s for run in small if run.proxy == "nginx"]
        best = statistics.median(reference) if reference else max((run.requests_per_s for run in small), default=10_000)
        return float(self._options.rate or case.rate_share * best)

    def _measure(self, case: Case, name: str, *, seconds: int) -> Run:
        """Load one proxy and read everything before and after; then compare a sample."""
        pid, prepared = self._running[name]
        site, rate = self._site, self.choose_rate(case) if case.is_paced else 0.0
        upstream, cpu_s, cores = site.count_upstream_requests(), measure_cpu_s(pid), measure_cores()
        load = run_load(case, prepared.port, seconds=seconds, core=site.load_core, rate=rate)
        cores_after, cpu_after_s, memory = measure_cores(), measure_cpu_s(pid), measure_memory(pid)
        surplus = site.count_upstream_requests() - upstream - 1 - load.requests - load.uncounted
        return Run(
            case=case.name,
            proxy=name,
            requests=load.requests,
            requests_per_s=load.in_time / load.duration_s,
            offered_per_s=rate,
            cpu_us_per_request=(cpu_after_s - cpu_s) * 1e6 / max(1, load.requests + load.uncounted),
            upstream_surplus=surplus,
            failed=load.failed,
            unanswered=load.unanswered,
            proxy_core_busy=compute_busy_share(cores[site.proxy_core], cores_after[site.proxy_core]),
            load_core_busy=compute_busy_share(cores[site.load_core], cores_after[site.load_core]),
            **{each: getattr(load, each) for each in ("p50_us", "p90_us", "p99_us", "p999_us", "late_p99_us")},
            worker_mb=memory.worker_mb,
            total_mb=memory.total_mb,
            wrong=find_wrong(case, load, surplus) + self._compare_sample(case, prepared.port),
        )

    def _compare_sample(self, case: Case, port: int) -> list[str]:
        return take_sample(port, case.host, method=case.method, target=case.target, length=case.length)


def choose_names(case: Case, names: Iterable[str]) -> list[str]:
    """Choose the proxies that a case is for."""
    return [name for name in names if not case.only or name in case.only]


def find_wrong(case: Case, load: Load, surplus: int) -> list[str]:
    """Find what makes a run doubtful.

    At its end each connection may have one request under way that is not counted. Copies are drawn at random.
    """
    wrong = []
    copies = case.copied_share * load.requests
    spread = COPIES_SPREAD * math.sqrt(copies)
    if not copies - spread <= surplus <= copies + spread + case.connections + load.failed:
        wrong.append(f"the servers saw {surplus:+d} requests against the client")
    if load.missing_bytes:
        wrong.append(f"{load.missing_bytes} bytes of bodies did not arrive")
    if load.failed:
        wrong.append(f"{load.failed} requests failed")
    return wrong


def render_run(run: Run) -> str:
    """Render one run as a line of progress."""
    return (
        f"{run.proxy:13}{run.requests_per_s:8.0f} req/s {run.cpu_us_per_request:7.1f} us CPU/req  p50 {run.p50_us} us"
        f"  p99 {run.p99_us} us  busy {run.proxy_core_busy:.0%} proxy, {run.load_core_busy:.0%} load"
        + (f"  unanswered {run.unanswered}" if run.unanswered else "")
        + "".join(f"  !! {text}" for text in run.wrong)
    )


def measure_http(site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases; return what goes into the results."""
    bench = HttpBench(site, proxies, options)
    bench.start()
    bench.run_all()
    return {
        "cases": [asdict(case) for case in options.cases],
        "runs": [asdict(run) for run in bench.runs],
        "missing_headers": bench.missing_headers,
    }


def estimate_http_s(proxies: int, options: argparse.Namespace) -> float:
    """Estimate how long that takes."""
    return float(proxies * (3 + len(options.cases) * options.runs * (options.seconds + OVERHEAD_S)))
