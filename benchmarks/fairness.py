"""Whether one client can starve others: 64 well-behaved clients while another one attacks, beside nginx.

Takes options; returns benchmarks/results/fairness.json and a table, and ends with 1 where an aim is missed. Each proxy
has one worker on one core. The clients, the servers and the attacker share the other core, the attacker with the lowest
priority (nice 19), so that what the clients lose is lost in the proxy. Runs of the proxies are interleaved. Everything
it starts ends with it.

In each turn the attack goes on while two loads are measured, one after the other:

* 64 connections that send their next request when the last is answered (wrk). Their requests a second, as a share of
  what the same proxy gave without an attack, are compared with their fair share: 64 of 64 + the number of attacking
  client addresses. An attacker counts as one client however many connections it opens. Aim: at least 0.8 of it.
* 64 connections at one rate for both proxies, half of what the slower one gave without an attack. A request's latency
  counts from when it was due, so that a proxy that stalls is charged for all that should have been sent meanwhile. Aim:
  p99 within twice nginx's in the same attack.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attacks import CONDITIONS
from cases import Case, build_host
from fairness_report import find_missed, render_fairness
from loads import Load, run_load
from processes import (
    ProcessGroup,
    compute_busy_share,
    describe_machine,
    fetch,
    find_free_port,
    measure_cores,
    raise_open_files_limit,
    run_to_end,
    stop,
    wait_until,
)
from proxies import HOST, Command, Site, build_controller_command, build_manifests, build_proxies, build_proxy_command

RESULTS = Path(__file__).resolve().parent / "results"
ATTACKS = Path(__file__).resolve().parent / "attacks.py"
EVIL_HOST, MATCHED_HOST, UNKNOWN_HOST = build_host("evil"), build_host("matched"), "nobody.example"
EVIL_ADDRESS = "127.0.3.3"
ATTACKERS = tuple(f"127.0.4.{number}" for number in range(1, 5))
CLIENTS = 64
FLOOD, OPEN_FILES = 20_000, 65_536
CLOSED = Case(name="closed", title="as fast as answers come", connections=CLIENTS)
PACED = Case(name="paced", title="at one rate", connections=CLIENTS, rate_share=0.5)
GRACE_S = 8
"""What a load may take beyond its time before it counts as starved."""
SETTLE_S = 0.3
RECOVERY_LIMIT_S = 60.0
TURN_OVERHEAD_S = 1.6


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One attack. `attackers` is how many client addresses it comes from; none is the quiet baseline."""

    name: str
    title: str
    kind: str = ""
    host: str = HOST
    attackers: int = 1


SCENARIOS = (
    Scenario(name="quiet", title="nobody attacks", attackers=0),
    Scenario(name="pipeline-404", title="pipelines 8 MB of GETs for a 404", kind="pipeline", host=UNKNOWN_HOST),
    Scenario(name="pipeline", title="pipelines 8 MB of GETs that go to the servers", kind="pipeline"),
    Scenario(name="match", title="pipelines GETs that rules take long to match", kind="match", host=MATCHED_HOST),
    Scenario(name="drip-up", title="uploads in chunks of one byte", kind="drip-up", host=EVIL_HOST),
    Scenario(name="drip-down", title="downloads in chunks of one byte", kind="drip-down", host=EVIL_HOST),
    Scenario(name="flood", title="opens {connections:,} connections and keeps them", kind="flood", attackers=4),
    Scenario(name="reset", title="connects, asks and resets, over and over", kind="reset"),
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one load against one proxy gave. `starved` says that the client did not end in time."""

    scenario: str
    proxy: str
    load: str
    requests_per_s: float
    offered_per_s: float
    p50_us: int
    p99_us: int
    failed: int
    unanswered: int
    starved: bool
    proxy_core_busy: float
    load_core_busy: float


class FairnessBench:
    """Both proxies running side by side, and their measurement."""

    def __init__(self, site: Site, ports: dict[str, int], options: argparse.Namespace) -> None:
        self._site, self._ports, self._options = site, ports, options
        self._rate = 0.0
        self.turns: list[Turn] = []
        self.attacks: list[dict[str, Any]] = []

    def run_all(self) -> None:
        """Measure the quiet baseline, choose the rate, then measure every attack."""
        quiet = SCENARIOS[0]
        for name in self._ports:
            self._load(CLOSED, quiet, name, seconds=1)  # warms up
        self._repeat(lambda name: self._keep(self._load(CLOSED, quiet, name)))
        rates = {name: self._find_quiet_rate(name) for name in self._ports}
        self._rate = PACED.rate_share * min(rates.values())
        self._repeat(lambda name: self._keep(self._load(PACED, quiet, name)))
        for scenario in self._options.scenarios:
            self._repeat(lambda name, scenario=scenario: self._attack(scenario, name))  # type: ignore[misc]

    def _repeat(self, measure: Callable[[str], None]) -> None:
        for _ in range(self._options.runs):
            for name in self._ports:
                measure(name)

    def _find_quiet_rate(self, name: str) -> float:
        rate = statistics.median(turn.requests_per_s for turn in self.turns if turn.proxy == name)
        if not rate:
            raise RuntimeError(f"{name} answers nothing though nobody attacks")
        return rate

    def _attack(self, scenario: Scenario, name: str) -> None:
        with self._attacking(scenario, name):
            for case in (CLOSED, PACED):
                self._keep(self._load(case, scenario, name))

    @contextmanager
    def _attacking(self, scenario: Scenario, name: str) -> Iterator[None]:
        """Attack a proxy meanwhile, and wait afterwards until it answers again."""
        log = f"attack-{len(self.attacks)}"
        longest_s = 2 * (self._options.seconds + GRACE_S) + 10
        command: Command = ["nice", "-n", "19", sys.executable, ATTACKS, scenario.kind, str(self._ports[name])]
        command += ["--host", scenario.host, "--addresses", ",".join(ATTACKERS[: scenario.attackers])]
        command += ["--connections", str(self._options.connections), "--seconds", str(longest_s)]
        process = self._site.group.start(log, command, core=self._site.load_core)
        try:
            time.sleep(SETTLE_S)
            yield
        finally:
            stop(process)
        recovery_s = wait_until(
            lambda: fetch(self._ports[name], host=HOST)[0] == 200, f"{name} again", timeout_s=RECOVERY_LIMIT_S
        )
        lines = self._site.group.read_log(log).splitlines()
        done = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        self.attacks.append({"scenario": scenario.name, "proxy": name, "recovery_s": recovery_s} | done)

    def _load(self, case: Case, scenario: Scenario, name: str, *, seconds: int = 0) -> Turn:
        """Load one proxy; a client that does not end in time was starved, and counts as if it had waited that long."""
        seconds, rate = seconds or self._options.seconds, self._rate if case.is_paced else 0.0
        site, load = self._site, None
        cores = measure_cores()
        try:
            load = run_load(case, self._ports[name], seconds=seconds, core=site.load_core, rate=rate, grace_s=GRACE_S)
        except (subprocess.TimeoutExpired, RuntimeError) as error:
            print(f"{name}, {scenario.name}: the clients were starved: {str(error)[:200]}", flush=True)
        cores_after, found = measure_cores(), load or build_starved(seconds)
        return Turn(
            scenario=scenario.name,
            proxy=name,
            load=case.name,
            requests_per_s=found.in_time / found.duration_s,
            offered_per_s=rate,
            p50_us=found.p50_us,
            p99_us=found.p99_us,
            failed=found.failed,
            unanswered=found.unanswered,
            starved=load is None,
            proxy_core_busy=compute_busy_share(cores[site.proxy_core], cores_after[site.proxy_core]),
            load_core_busy=compute_busy_share(cores[site.load_core], cores_after[site.load_core]),
        )

    def _keep(self, turn: Turn) -> None:
        self.turns.append(turn)
        print(
            f"{turn.scenario:13}{turn.proxy:7}{turn.load:7}{turn.requests_per_s:8.0f} req/s  p50 {turn.p50_us} us  "
            f"p99 {turn.p99_us} us  busy {turn.proxy_core_busy:.0%} proxy, {turn.load_core_busy:.0%} load"
            + (f"  failed {turn.failed}" if turn.failed else ""),
            flush=True,
        )


def build_starved(seconds: int) -> Load:
    """Build what clients saw that were not answered."""
    waited_us = int((seconds + GRACE_S) * 1e6)
    return Load(
        requests=0,
        in_time=0,
        failed=0,
        duration_s=seconds,
        p50_us=waited_us,
        p90_us=waited_us,
        p99_us=waited_us,
        p999_us=waited_us,
    )


def start_proxies(site: Site) -> dict[str, int]:
    """Start both proxies and the server of the drip; return the proxies' ports."""
    site.start_upstream()
    evil_port = find_free_port()
    command: Command = ["nice", "-n", "19", sys.executable, ATTACKS, "serve", str(evil_port)]
    site.group.start("evil", [*command, "--addresses", EVIL_ADDRESS], core=site.load_core)
    ports = {"maesh": start_maesh(site, evil_port), "nginx": start_nginx(site, evil_port)}
    for name, port in ports.items():
        wait_until(lambda port=port: fetch(port, host=HOST)[0] == 200, name)  # type: ignore[misc]
    return ports


def start_maesh(site: Site, evil_port: int) -> int:
    """Start a controller and a proxy; return the proxy's port."""
    folder = site.folder / "manifests"
    folder.mkdir()
    document = json.loads(json.dumps(build_manifests(site.upstream_port)))
    document["items"] += build_service("evil", evil_port)
    document["items"] += [*build_service("matched", evil_port), build_matched_route()]
    (folder / "bench.json").write_text(json.dumps(document))
    api_port, admin_port, port = (find_free_port() for _ in range(3))
    command = build_controller_command(folder, api_port=api_port, http_port=port)
    site.group.start("controller", command, core=site.load_core)
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    site.group.start("proxy", build_proxy_command(api_port=api_port, admin_port=admin_port), core=site.proxy_core)
    return port


def build_service(name: str, port: int) -> list[dict[str, Any]]:
    """Build a service whose only server sends chunks of one byte."""
    metadata = {"name": name, "namespace": "bench"}
    endpoints = {"addresses": [EVIL_ADDRESS], "conditions": {"ready": True}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "web", "port": 80, "targetPort": port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": port}],
            "endpoints": [endpoints],
        },
    ]


def build_matched_route() -> dict[str, Any]:
    """Build a route with as many rules and conditions as it may have; no request of the attack meets the last one.

    nginx, which has no such conditions, answers these requests with a 404 at once.
    """
    headers = [{"name": f"x-{number}", "value": "1"} for number in range(CONDITIONS)]
    queries = [{"name": f"q{number}", "value": "1"} for number in range(CONDITIONS)]
    never = {"type": "RegularExpression", "name": "x-long", "value": "(a|b|ab)*c"}
    path = {"type": "PathPrefix", "value": "/v2"}
    match = {"path": path, "headers": [*headers, never], "queryParams": queries}
    rules = [{"matches": [match] * 8, "backendRefs": [{"name": "matched", "port": 80}]}] * 16
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "matched", "namespace": "bench"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "matched"}], "rules": rules},
    }


def start_nginx(site: Site, evil_port: int) -> int:
    """Start nginx with the same routes; return its port."""
    port = find_free_port()
    more = {"EVIL_HOST": EVIL_HOST, "EVIL": f"{EVIL_ADDRESS}:{evil_port}"}
    path = site.write("nginx-fairness.conf", port=port, more=more)
    site.group.start("nginx", ["nginx", "-c", path, "-p", site.folder], core=site.proxy_core)
    return port


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    names = [scenario.name for scenario in SCENARIOS[1:]]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run of a second each: does it work, not how fair")
    parser.add_argument("--runs", type=int, help="runs of each proxy in each attack, interleaved (default 2)")
    parser.add_argument("--seconds", type=int, help="length of one load, two in each run (default 2)")
    parser.add_argument("--connections", type=int, default=FLOOD, help="how many a flood opens")
    parser.add_argument("--scenarios", default=",".join(names), help=f"attacks, out of {', '.join(names)}")
    parser.add_argument("--output", type=Path, default=RESULTS / "fairness.json", help="the file of results")
    options = parser.parse_args()
    chosen = options.scenarios.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--scenarios: unknown: {', '.join(sorted(unknown))}")
    options.scenarios = [scenario for scenario in SCENARIOS[1:] if scenario.name in chosen]
    options.runs = options.runs or (1 if options.quick else 2)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def limit_flood(options: argparse.Namespace) -> None:
    """Open no more connections than there may be descriptors; each proxy needs one for every connection."""
    limit = raise_open_files_limit(OPEN_FILES) - 1000
    if options.connections > limit:
        print(f"A flood opens {limit:,} connections: this user may have no more open files.")
        options.connections = limit


def build_document(bench: FairnessBench, options: argparse.Namespace) -> dict[str, Any]:
    """Build what is written: as that of suite.py, with one stage."""
    scenarios = [asdict(each) for each in (SCENARIOS[0], *options.scenarios)]
    for scenario in scenarios:
        scenario["title"] = scenario["title"].format(connections=options.connections)
    known = build_proxies()
    return {
        "fairness": {
            "clients": CLIENTS,
            "scenarios": scenarios,
            "turns": [asdict(turn) for turn in bench.turns],
            "attacks": bench.attacks,
        },
        "machine": describe_machine(),
        "proxies": {name: known[name].read_version() for name in ("maesh", "nginx")},
        "absent": [],
        "options": {"runs": options.runs, "seconds": options.seconds, "is_quick": options.quick},
    }


def main() -> int:
    """Measure, write, judge."""
    options = parse_options()
    if missing := [program for program in ("nginx", "wrk", "taskset", "cc", "nice") if not shutil.which(program)]:
        print(f"Not installed, so there is nothing to measure with: {', '.join(missing)}", file=sys.stderr)
        return 1
    limit_flood(options)
    turns = 2 * options.runs * len(options.scenarios) + 2 * options.runs
    print(f"About {turns * (2 * options.seconds + TURN_OVERHEAD_S) / 60:.1f} min.", flush=True)
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="maesh-fairness-") as name, ProcessGroup(Path(name)) as group:
        site = Site(group, Path(name))
        try:
            bench = FairnessBench(site, start_proxies(site), options)
            bench.run_all()
        except (TimeoutError, RuntimeError) as error:
            print(group.read_log("controller")[-2000:], f"It ended early: {error}", sep="\n", file=sys.stderr)
            return 1
    document = build_document(bench, options)
    options.output.write_text(json.dumps(document, indent=1))
    missed = find_missed(document["fairness"])
    print(f"\n{render_fairness(document['fairness'])}\n\nResults are in {options.output}.")
    print(*(missed or ["All aims are met."]), sep="\n")
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    run_to_end(main)
