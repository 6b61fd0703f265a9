"""Two hops with mutual TLS between them, beside nginx, HAProxy and Envoy as both hops.

Takes the installed proxies; gives a file of runs, and a table for each load (tunnel_report.py). All stacks run side by
side, each with both hops on the one proxy core, and take turns, so that what else the machine does meets all alike.
Servers and client share the other core.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cases import CASES, Case
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from loads import run_load
from maesh_mtls.proxy.enrolment import build_request
from processes import (
    ProcessGroup,
    compute_busy_share,
    describe_machine,
    fetch,
    measure_cores,
    measure_cpu_s,
    raise_open_files_limit,
    read_version,
    run_to_end,
    wait_until,
)
from proxies import HOST, Site
from samples import check_headers, take_sample
from tunnel_report import NOT_COMPARED, OWN, render_mtls
from tunnel_stacks import RECEIVER, RunningStack, build_stacks, write_certificates

RESULTS = Path(__file__).resolve().parent / "results"
RATE = 3000
AES128 = """openssl_conf = start
[start]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
"""
"""A configuration of OpenSSL by which it prefers AES-128, as BoringSSL does."""
LOADS = [
    replace(case, title=f"small GET, {RATE:,} requests/s offered") if case.is_paced else case
    for name in ("small", "paced", "down-1m", "up-1m")
    for case in CASES
    if case.name == name
]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run gave."""

    case: str
    stack: str
    requests: int
    requests_per_s: float
    sender_us: float
    receiver_us: float
    proxy_core_busy: float
    p50_us: int
    p99_us: int
    wrong: list[str]


class Bench:
    """All stacks running side by side, and their measurement."""

    def __init__(self, site: Site, options: argparse.Namespace) -> None:
        self._site, self._options = site, options
        self.stacks: dict[str, RunningStack] = {}
        self.versions: dict[str, str] = {}
        self.runs: list[Run] = []
        self.handshakes: list[tuple[str, str, float]] = []
        self.absent: list[str] = []

    def start(self) -> None:
        """Start every stack that is installed, and check that it serves."""
        write_certificates(self._site)
        for stack in build_stacks():
            program = stack.find()
            if self._options.only and stack.name not in self._options.only:
                continue
            if program is None:
                self.absent.append(stack.name)
                continue
            running = stack.start(stack, self._site, program)
            wait_until(lambda running=running: fetch(running.port, host=HOST)[0] == 200, stack.name)  # type: ignore[misc]
            if missing := check_headers(running.port, HOST, is_stamped=False):
                print(f"{stack.name} does not set {', '.join(missing)}", flush=True)
            self.stacks[stack.name] = running
            arguments = {"maesh": ["version"], "envoy": ["--version"]}.get(stack.name.partition("-")[0], ["-v"])
            self.versions[stack.name] = read_version([program, *arguments])

    def run_all(self) -> None:
        """Measure case after case; within a case every stack in turn, run after run."""
        for stack in self.stacks.values():
            self._measure(CASES[0], stack, 1)
        for case in self._options.loads:
            print(f"\n{case.title} ({case.connections} connections)", flush=True)
            for number in range(self._options.runs):
                for stack in self.stacks.values():
                    run = self._measure(case, stack, self._options.seconds)
                    self.runs.append(run)
                    print(f"{number + 1} {render_run(run)}", flush=True)
        for _ in range(self._options.runs):
            self._measure_handshakes()

    def _measure(self, case: Case, stack: RunningStack, seconds: int) -> Run:
        site, pids = self._site, (stack.sender_pid, stack.receiver_pid)
        before, cores = [measure_cpu_s(pid) for pid in pids], measure_cores()
        load = run_load(case, stack.port, seconds=seconds, core=site.load_core, rate=RATE if case.is_paced else 0)
        after, cores_after = [measure_cpu_s(pid) for pid in pids], measure_cores()
        count = max(1, load.requests + load.uncounted)
        sender_us, receiver_us = ((end - start) * 1e6 / count for start, end in zip(before, after, strict=True))
        wrong = take_sample(stack.port, case.host, method=case.method, target=case.target, length=case.length)
        return Run(
            case=case.name,
            stack=stack.name,
            requests=load.requests,
            requests_per_s=load.in_time / load.duration_s,
            sender_us=sender_us,
            receiver_us=receiver_us,
            proxy_core_busy=compute_busy_share(cores[site.proxy_core], cores_after[site.proxy_core]),
            p50_us=load.p50_us,
            p99_us=load.p99_us,
            wrong=wrong + ([f"{load.failed} requests failed"] if load.failed else []),
        )

    def _measure_handshakes(self) -> None:
        """Measure the CPU time of the second hop for a connection; the handshake includes a few bytes after it."""
        for stack in self.stacks.values():
            if stack.name in NOT_COMPARED:
                continue
            context = self._build_context(stack)
            for kind in ("full", "resumed"):
                session = connect(context, stack, None) if kind == "resumed" else None
                before = measure_cpu_s(stack.receiver_pid)
                for _ in range(self._options.handshakes):
                    connect(context, stack, session)
                used_us = (measure_cpu_s(stack.receiver_pid) - before) * 1e6 / self._options.handshakes
                self.handshakes.append((stack.name, kind, used_us))
                print(f"{stack.name:12}{kind:8}{used_us:7.0f} us CPU for a handshake at the second hop", flush=True)

    def _build_context(self, stack: RunningStack) -> ssl.SSLContext:
        folder = self._site.folder
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([stack.alpn])
        if stack.name == OWN:
            context.load_verify_locations(folder / OWN / "ca" / "tls.crt")
            context.load_cert_chain(write_node_certificate(folder / OWN, stack.api_port))
        else:
            context.load_verify_locations(folder / "ca.pem")
            context.load_cert_chain(folder / "sender.pem")
        return context


def connect(context: ssl.SSLContext, stack: RunningStack, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Open and close one connection to the second hop; returns the session to resume."""
    sock = socket.create_connection((RECEIVER, stack.tls_port), timeout=30)
    with sock, context.wrap_socket(sock, session=session) as tls:
        tls.sendall(stack.first_bytes)
        tls.recv(65536)
        if session is not None and not tls.session_reused:
            raise RuntimeError(f"{stack.name} does not resume")
        return tls.session


def write_node_certificate(folder: Path, api_port: int) -> Path:
    """Ask the controller for another certificate of the first node, as its proxy does."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = {"csr": build_request(key), "token": (folder / "sender").read_text(), "node": "sender"}
    connection = http.client.HTTPConnection("127.0.0.1", api_port, timeout=30)
    deadline = time.monotonic() + 30
    while True:  # a node gets one in ten seconds
        connection.request("POST", "/mtls/certificates", json.dumps(request), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status == 200 or time.monotonic() > deadline:
            break
        time.sleep(1)
    connection.close()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "client.pem"
    path.write_bytes(pem + json.loads(answer)["chain"].encode())
    return path


def render_run(run: Run) -> str:
    """Render one run as a line of progress."""
    cost = f"{run.sender_us + run.receiver_us:8.1f} us CPU ({run.sender_us:.1f} + {run.receiver_us:.1f})"
    latency = f"p50 {run.p50_us} us  p99 {run.p99_us} us"
    return f"{run.stack:12}{run.requests_per_s:8.0f} req/s {cost}  {latency}  busy {run.proxy_core_busy:.0%}" + "".join(
        f"  !! {text}" for text in run.wrong
    )


def main() -> int:
    """Measure, write the runs, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each stack, interleaved (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--handshakes", type=int, default=300, help="connections of each kind in a run (default 300)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="stacks to measure, separated by commas")
    parser.add_argument(
        "--cases", type=lambda text: text.split(","), default=[case.name for case in LOADS], help="loads to measure"
    )
    parser.add_argument("--aes128", action="store_true", help="let every OpenSSL prefer AES-128, as BoringSSL does")
    parser.add_argument("--output", type=Path, default=RESULTS / "mtls.json", help="the file of results")
    options = parser.parse_args()
    options.loads = [case for case in LOADS if case.name in options.cases]
    if missing := [program for program in ("nginx", "wrk", "taskset") if not shutil.which(program)]:
        print(f"Not installed, so there is nothing to measure with: {', '.join(missing)}", file=sys.stderr)
        return 1
    raise_open_files_limit()
    options.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name, ProcessGroup(Path(name)) as group:
        site = Site(group, Path(name))
        if options.aes128:
            configuration = site.folder / "openssl.cnf"
            configuration.write_text(AES128)
            os.environ["OPENSSL_CONF"] = str(configuration)  # of all processes that are started from here on
        site.start_upstream()
        bench = Bench(site, options)
        bench.start()
        bench.run_all()
    stage = {
        "cases": [asdict(case) for case in options.loads],
        "runs": [asdict(run) for run in bench.runs],
        "handshakes": bench.handshakes,
    }
    found = {
        "machine": describe_machine(),
        "proxies": bench.versions,
        "absent": bench.absent,
        "options": {"runs": options.runs, "seconds": options.seconds, "is_quick": False},
        "mtls": stage,
    }
    options.output.write_text(json.dumps(found, indent=1))
    print(f"\n{render_mtls(stage)}\n\n{options.output}: report.py puts the tables into RESULTS.md")
    return 0


if __name__ == "__main__":
    run_to_end(main)
