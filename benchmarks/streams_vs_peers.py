"""TCP and UDP beside the peers, interleaved, so that what else the machine does meets all alike.

Takes the proxies that are installed; returns a `StreamRun` for each turn, and the memory of each proxy under idle
clients. Every proxy stands on one core, as a user who may do nothing special; the servers and the client share the
other.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loads import GRACE_S, SETTLE_S, build_client
from processes import (
    ProcessGroup,
    compute_busy_share,
    find_tree,
    measure_cores,
    measure_cpu_s,
    measure_memory,
    stop,
    wait_until,
)
from proxies import Proxy, Site
from quietness import Patience, compute_foreign_share
from stream_proxies import PreparedStreams, StreamProxy, StreamSite, build_stream_proxies, has_nginx_streams

UDP_CLIENTS, OUTSTANDING, DATAGRAM_BYTES = 16, 8, 64
RATE_SHARE = 0.8
"""Of a proxy's own round trips, that it is then offered at an even pace."""
HELD = {"tcp": 5000, "udp": 20_000}
QUICK_HELD = {"tcp": 500, "udp": 2000}
SESSION_SHARE = 0.7
"""Of the descriptors that there may be, the most that held UDP clients are: Maesh lets sessions have three quarters."""
OVERHEAD_S, HOLD_S = 0.8, 6.0


@dataclass(frozen=True, kw_only=True)
class StreamCase:
    """One load: a command of clients/streams.c, and how its figures are told."""

    name: str
    title: str
    command: str
    arguments: Sequence[object]
    unit: str
    """What CPU is told for."""
    rate: str
    """What is told for a second."""
    rate_scale: float = 1.0
    """How much of that is one unit."""
    cpu: str = "µs"
    cpu_scale: float = 1e6
    transport: str = "tcp"
    is_paced: bool = False


UDP_WORDS = f"{UDP_CLIENTS} clients, {DATAGRAM_BYTES} bytes"
CASES = (
    StreamCase(
        name="tcp-stream",
        title="TCP: 4 connections, as many bytes down as go",
        command="stream",
        arguments=(4,),
        unit="GB",
        rate="Gbit/s",
        rate_scale=8.0,
        cpu="s",
        cpu_scale=1.0,
    ),
    StreamCase(
        name="tcp-connect",
        title="TCP: connect, 1 KiB each way, close; 64 connections at a time",
        command="connect",
        arguments=(64,),
        unit="connection",
        rate="connections/s",
    ),
    StreamCase(
        name="udp-echo",
        title=f"UDP: {UDP_WORDS} there and back, {OUTSTANDING} under way for each",
        command="echo",
        arguments=(UDP_CLIENTS, OUTSTANDING, DATAGRAM_BYTES),
        unit="round trip",
        rate="round trips/s",
        transport="udp",
    ),
    StreamCase(
        name="udp-one",
        title=f"UDP: one client, {DATAGRAM_BYTES} bytes there and back, {OUTSTANDING} under way",
        command="echo",
        arguments=(1, OUTSTANDING, DATAGRAM_BYTES),
        unit="round trip",
        rate="round trips/s",
        transport="udp",
    ),
    StreamCase(
        name="udp-pace",
        title=f"UDP: {UDP_WORDS}, at {RATE_SHARE:.0%} of the proxy's own round trips",
        command="pace",
        arguments=(UDP_CLIENTS, "RATE", DATAGRAM_BYTES),
        unit="round trip",
        rate="round trips/s",
        transport="udp",
        is_paced=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class StreamRun:
    """What one run of one case against one proxy gave; `failed` are connections that were cut or datagrams lost."""

    case: str
    proxy: str
    rate_per_s: float
    cpu_per_unit: float
    offered_per_s: float
    asked: int
    failed: int
    p50_us: int
    p99_us: int
    proxy_core_busy: float
    load_core_busy: float
    foreign_share: float
    wrong: list[str] = field(default_factory=list)


def run_client(command: str, arguments: Sequence[object], port: int, *, seconds: int, core: int) -> dict[str, Any]:
    """Run a load on one core; return what it tells."""
    words = ["taskset", "-c", str(core), build_client("streams"), command, str(port), str(seconds)]
    words += map(str, arguments)
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + GRACE_S)
    if done.returncode:
        raise RuntimeError(f"streams {command} ended with {done.returncode}: {done.stderr[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class StreamBench:
    """All proxies running side by side, and their measurement."""

    def __init__(self, place: StreamSite, proxies: Sequence[StreamProxy], options: argparse.Namespace) -> None:
        self._place, self._options = place, options
        self._prepared = [proxy.prepare(place) for proxy in proxies]
        self._pids: dict[str, int] = {}
        self._patience = Patience()
        self.runs: list[StreamRun] = []

    def run_all(self) -> None:
        """Start every proxy, and measure case after case; within a case every proxy in turn, run after run."""
        processes = [prepared.start() for prepared in self._prepared]
        for prepared, process in zip(self._prepared, processes, strict=True):
            self._pids[prepared.proxy.name] = process.pid
            for case in CASES:
                if can_carry(prepared, case) and not case.is_paced:
                    self._measure(case, prepared, seconds=1)
        for case in CASES:
            print(f"\n{case.title}", flush=True)
            for number in range(self._options.runs):
                for prepared in self._prepared:
                    if can_carry(prepared, case):
                        run = self._patience.measure(
                            functools.partial(self._measure, case, prepared, seconds=self._options.seconds),
                            functools.partial(render_run, case),
                        )
                        self.runs.append(run)
                        print(f"run {number + 1}  {render_run(case, run)}", flush=True)
        for process in processes:
            stop(process)

    def measure_memory(self) -> dict[str, Any]:
        """Start each proxy anew for each kind of clients, and read its memory while it holds them."""
        held = dict(QUICK_HELD if self._options.quick else HELD)
        held["udp"] = min(held["udp"], int(self._place.open_files * SESSION_SHARE))
        found: dict[str, Any] = {"held": held, "proxies": {}, "wrong": []}
        for prepared in self._prepared:
            name = prepared.proxy.name
            found["proxies"][name] = {}
            for transport in ("tcp", "udp") if prepared.proxy.has_udp else ("tcp",):
                process = prepared.start()
                fresh = asdict(measure_memory(process.pid))
                wrong = self._hold(transport, held[transport], prepared, process.pid)
                found["proxies"][name] |= {"fresh": fresh, transport: asdict(measure_memory(process.pid))}
                found["wrong"] += [f"memory, {name}: {text}" for text in wrong]
                stop(self._holder)
                stop(process)
            print(f"{name:15}{render_memory(found['proxies'][name])}", flush=True)
        print(*found["wrong"], sep="\n", end="\n" if found["wrong"] else "", flush=True)
        return found

    def _hold(self, transport: str, count: int, prepared: PreparedStreams, pid: int) -> list[str]:
        """Have clients held, until all are; return what is wrong with that."""
        group: ProcessGroup = self._place.site.group
        name = f"hold-{transport}-{prepared.proxy.name}"
        port = getattr(prepared.ports, transport)
        command = [build_client("streams"), "hold", str(port), "60", str(count), transport]
        self._holder = group.start(name, command, core=self._place.site.load_core)
        wait_until(lambda: "held" in group.read_log(name) or self._holder.poll() is not None, name, timeout_s=60)
        told = group.read_log(name)
        if "held" not in told:
            raise RuntimeError(f"{name}: {told[-300:]}")
        answered = json.loads(told)["answered"]
        descriptors = max(len(os.listdir(f"/proc/{member}/fd")) for member in find_tree(pid))
        needed = count * (2 if transport == "tcp" else 1)
        wrong = [f"{answered} of {count} {transport} clients were served"] if answered < count else []
        wrong += [f"{descriptors} descriptors, fewer than {needed}"] if descriptors < needed else []
        return wrong

    def _choose_rate(self, name: str) -> float:
        rates = [run.rate_per_s for run in self.runs if (run.case, run.proxy) == ("udp-echo", name)]
        return RATE_SHARE * statistics.median(rates)

    def _measure(self, case: StreamCase, prepared: PreparedStreams, *, seconds: int) -> StreamRun:
        site, name = self._place.site, prepared.proxy.name
        pid = self._pids[name]
        offered = self._choose_rate(name) if case.is_paced else 0.0
        arguments = [offered if argument == "RATE" else argument for argument in case.arguments]
        port = getattr(prepared.ports, case.transport)
        cpu_s, load_s, cores = measure_cpu_s(pid), self._place.measure_load_s(), measure_cores()
        told = run_client(case.command, arguments, port, seconds=seconds, core=site.load_core)
        cores_after = measure_cores()
        time.sleep(SETTLE_S)
        used_s = measure_cpu_s(pid) - cpu_s
        ours_s = used_s + self._place.measure_load_s() - load_s
        units = told["answered"] if case.transport == "udp" else told["connections"]
        if case.unit == "GB":
            units = told["bytes"] / 1e9
        failed = told["lost"] if case.transport == "udp" else told["failed"]
        return StreamRun(
            case=case.name,
            proxy=name,
            rate_per_s=units * case.rate_scale / told["seconds"],
            cpu_per_unit=used_s * case.cpu_scale / max(units, 1e-9),
            offered_per_s=offered,
            asked=told.get("sent", told.get("connections", 0)),
            failed=failed,
            p50_us=told.get("p50_us", 0),
            p99_us=told.get("p99_us", 0),
            proxy_core_busy=compute_busy_share(cores[site.proxy_core], cores_after[site.proxy_core]),
            load_core_busy=compute_busy_share(cores[site.load_core], cores_after[site.load_core]),
            foreign_share=compute_foreign_share(cores, cores_after, ours_s),
            wrong=[f"{failed} connections were cut"] if failed and case.transport == "tcp" else [],
        )


def can_carry(prepared: PreparedStreams, case: StreamCase) -> bool:
    """Return whether a proxy can be measured in a case."""
    return prepared.proxy.has_udp or case.transport == "tcp"


def render_run(case: StreamCase, run: StreamRun) -> str:
    """Render one run as a line of progress."""
    latency = f"  p50 {run.p50_us} us  p99 {run.p99_us} us" if case.transport == "udp" else ""
    return (
        f"{run.proxy:15}{run.rate_per_s:10,.1f} {case.rate}  {run.cpu_per_unit:8.3f} {case.cpu} CPU/{case.unit}"
        f"  {run.failed} {'lost' if case.transport == 'udp' else 'failed'}{latency}"
        f"  busy {run.proxy_core_busy:.0%} proxy, {run.load_core_busy:.0%} load"
    )


def render_memory(found: dict[str, Any]) -> str:
    """Render one proxy's memory as a line of progress."""
    return ", ".join(f"{when} {memory['worker_mb']:.0f} MB" for when, memory in found.items())


def choose_stream_proxies(proxies: Sequence[Proxy]) -> list[StreamProxy]:
    """Choose those that carry streams, out of the proxies that are asked for and installed."""
    names = {proxy.name for proxy in proxies}
    if "nginx" in names and not has_nginx_streams():
        print("nginx is here without its module for streams, so it is left out (apt install libnginx-mod-stream)")
        names.discard("nginx")
    return [proxy for proxy in build_stream_proxies().values() if proxy.program in names]


def measure_streams(site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases and the memory; return what goes into the results."""
    place = StreamSite(site)
    print(f"The proxies run as {place.user}.", flush=True)
    place.start_servers()
    bench = StreamBench(place, choose_stream_proxies(proxies), options)
    bench.run_all()
    print("\nMemory", flush=True)
    return {
        "user": place.user,
        "cases": [asdict(case) for case in CASES],
        "runs": [asdict(run) for run in bench.runs],
        "memory": bench.measure_memory(),
    }


def estimate_streams_s(proxies: Sequence[Proxy], options: argparse.Namespace) -> float:
    """Estimate how long that takes."""
    count = len(choose_stream_proxies(proxies))
    return float(count * (4 + len(CASES) * options.runs * (options.seconds + OVERHEAD_S) + 2 * HOLD_S))
