"""HTTP/2 on both sides beside the peers, interleaved, so that what else the machine does meets all alike.

Takes the proxies that are installed; returns an `Http2Run` for each turn, what the client and the servers do without a
proxy, and the memory of each proxy with idle clients. Every proxy has one core; the servers and the client share the
other.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from http2_cases import CASES, CONNECTIONS, MESSAGE_BYTES, STREAMS, Http2Case
from http2_idle import HELD_S, measure_http2_memory
from http2_loads import Http2Load, is_http2_served, read_http2_load, run_h2load
from http2_proxies import Http2Proxy, Http2Site, PreparedHttp2, choose_http2_proxies
from loads import SETTLE_S
from processes import compute_busy_share, measure_cores, measure_cpu_s, stop, wait_until
from proxies import ADDRESSES, Proxy, Site
from quietness import PATIENCE_S, Patience, compute_foreign_share

OVERHEAD_S = 0.8
UPLOAD_BYTES = 1 << 16
"""A request whose body is longer counts as an upload: its bytes are those that the servers received."""


@dataclass(frozen=True, kw_only=True)
class Http2Run:
    """What one run of one case against one proxy gave; `units` are those of the case."""

    case: str
    proxy: str
    requests: int
    units_per_s: float
    cpu_us_per_unit: float
    failed: int
    surplus: int
    p50_us: int
    p99_us: int
    proxy_core_busy: float
    load_core_busy: float
    foreign_share: float
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ServerCounts:
    """How many requests the servers saw, and the bytes of their bodies where these are counted."""

    requests: int
    body_bytes: int


class Http2Bench:
    """All proxies running side by side, and their measurement."""

    def __init__(self, place: Http2Site, proxies: Sequence[Http2Proxy], options: argparse.Namespace) -> None:
        self._place, self._options = place, options
        self._prepared = [proxy.prepare(place) for proxy in proxies]
        self._pids: dict[str, int] = {}
        self._patience = Patience(0 if options.quick else PATIENCE_S)
        self.gaps: dict[str, dict[str, str]] = {proxy.name: dict(proxy.gaps) for proxy in proxies}
        self.runs: list[Http2Run] = []

    def run_all(self) -> None:
        """Start every proxy, and measure case after case; within a case every proxy in turn, run after run."""
        processes = [prepared.start() for prepared in self._prepared]
        for prepared, process in zip(self._prepared, processes, strict=True):
            self._pids[prepared.proxy.name] = process.pid
            self._wait_until_served(prepared)
        for case in CASES:
            print(f"\n{case.title}", flush=True)
            for number in range(self._options.runs):
                for prepared in self._prepared:
                    if case.name not in self.gaps[prepared.proxy.name]:
                        run = self._patience.measure(
                            functools.partial(self._measure, case, prepared, seconds=self._options.seconds),
                            functools.partial(render_run, case),
                        )
                        self.runs.append(run)
                        print(f"run {number + 1}  {render_run(case, run)}", flush=True)
        for process in processes:
            stop(process)

    def measure_direct(self) -> dict[str, dict[str, float]]:
        """Measure what the client and a server do without a proxy: no proxy can be faster than that."""
        site, found = self._place.site, {}
        for case in (case for case in CASES if not case.is_plain):
            port, before, cores = self._place.ports[case.route], self._count(case), measure_cores()
            printed = run_h2load(case, port, folder=site.folder, core=site.load_core, seconds=1, host=ADDRESSES[0])
            busy = compute_busy_share(cores[site.load_core], measure_cores()[site.load_core])
            load = read_http2_load(printed, site.folder)
            units = count_units(case, load, self._count(case).body_bytes - before.body_bytes)
            found[case.name] = {"units_per_s": units, "load_core_busy": busy}
        return found

    def _wait_until_served(self, prepared: PreparedHttp2) -> None:
        """Wait until a proxy serves, and warm it up; a case that it does not serve is a gap."""
        folder, gaps = self._place.site.folder, self.gaps[prepared.proxy.name]
        wait_until(lambda: is_http2_served(CASES[0], prepared.port, folder=folder), prepared.proxy.name, pause_s=0.1)
        for case in CASES:
            if case.name in gaps:
                continue
            if is_http2_served(case, prepared.port, folder=folder):
                self._measure(case, prepared, seconds=1)
            else:
                gaps[case.name] = "a single request was not answered well"
                print(f"{prepared.proxy.name} does not serve: {case.title}", flush=True)

    def _count(self, case: Http2Case) -> ServerCounts:
        if case.is_plain:
            return ServerCounts(requests=self._place.site.count_upstream_requests(), body_bytes=0)
        status = self._place.read_status()
        return ServerCounts(requests=status["opened"], body_bytes=status["body_bytes"])

    def _measure(self, case: Http2Case, prepared: PreparedHttp2, *, seconds: int) -> Http2Run:
        """Load one proxy and read everything before and after."""
        site, name = self._place.site, prepared.proxy.name
        pid = self._pids[name]
        before, load_s = self._count(case), self._place.measure_load_s()
        cpu_s, cores = measure_cpu_s(pid), measure_cores()
        printed = run_h2load(case, prepared.port, folder=site.folder, core=site.load_core, seconds=seconds)
        cores_after, used_s = measure_cores(), measure_cpu_s(pid) - cpu_s
        foreign_share = compute_foreign_share(cores, cores_after, used_s + self._place.measure_load_s() - load_s)
        time.sleep(SETTLE_S)
        load, after = read_http2_load(printed, site.folder), self._count(case)
        surplus = after.requests - before.requests - int(case.is_plain) - load.requests
        uploaded = after.body_bytes - before.body_bytes
        units = count_units(case, load, uploaded)
        return Http2Run(
            case=case.name,
            proxy=name,
            requests=load.requests,
            units_per_s=units / seconds,
            cpu_us_per_unit=used_s * 1e6 / max(units, 1e-9),
            failed=load.failed,
            surplus=surplus,
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            proxy_core_busy=compute_busy_share(cores[site.proxy_core], cores_after[site.proxy_core]),
            load_core_busy=compute_busy_share(cores[site.load_core], cores_after[site.load_core]),
            foreign_share=foreign_share,
            wrong=find_wrong(case, load, surplus=surplus, uploaded=uploaded),
        )


def count_units(case: Http2Case, load: Http2Load, uploaded: int) -> float:
    """Count what a case counts: requests, messages received, or MB of bodies, as far as they arrived."""
    if case.unit == "request":
        return float(load.requests)
    if case.unit == "message":
        return load.body_bytes / MESSAGE_BYTES
    return (uploaded if case.sent > UPLOAD_BYTES else load.body_bytes) / 1e6


def find_wrong(case: Http2Case, load: Http2Load, *, surplus: int, uploaded: int) -> list[str]:
    """Find what makes a run doubtful. At its end each stream may have one request under way that is not counted."""
    wrong = []
    if not 0 <= surplus <= CONNECTIONS * STREAMS + load.failed:
        wrong.append(f"the servers saw {surplus:+d} requests against the client")
    if load.failed:
        wrong.append(f"{load.failed} requests failed")
    if (missing := load.requests * case.received - load.body_bytes) > 0:
        wrong.append(f"{missing} bytes of responses' bodies did not arrive")
    if not case.is_plain and (missing := load.requests * case.sent - uploaded) > 0:
        wrong.append(f"{missing} bytes of requests' bodies did not arrive")
    return wrong


def render_run(case: Http2Case, run: Http2Run) -> str:
    """Render one run as a line of progress."""
    return (
        f"{run.proxy:9}{run.units_per_s:10,.0f} {case.unit}/s {run.cpu_us_per_unit:8.1f} us CPU/{case.unit}"
        f"  p50 {run.p50_us} us  p99 {run.p99_us} us"
        f"  busy {run.proxy_core_busy:.0%} proxy, {run.load_core_busy:.0%} load, {run.foreign_share:.0%} others"
        + "".join(f"  !! {text}" for text in run.wrong)
    )


def measure_http2(site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases and the memory; return what goes into the results."""
    place = Http2Site(site)
    place.start_servers()
    chosen = choose_http2_proxies([proxy.name for proxy in proxies])
    bench = Http2Bench(place, chosen, options)
    direct = bench.measure_direct()
    bench.run_all()
    print("\nMemory", flush=True)
    memory = measure_http2_memory(place, chosen, options)
    return {
        "cases": [asdict(case) for case in CASES],
        "runs": [asdict(run) for run in bench.runs],
        "direct": direct,
        "gaps": bench.gaps,
        "memory": memory,
    }


def estimate_http2_s(proxies: Sequence[Proxy], options: argparse.Namespace) -> float:
    """Estimate how long that takes."""
    count = len(choose_http2_proxies([proxy.name for proxy in proxies]))
    per_case_s = options.runs * (options.seconds + OVERHEAD_S) + 1 + OVERHEAD_S
    return float(len(CASES) * 2 + count * (3 + len(CASES) * per_case_s + HELD_S))
