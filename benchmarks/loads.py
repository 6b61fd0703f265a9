"""The clients: runs wrk, or the client that holds a rate, for one case against one port, and reads what they tell.

Takes a case and a place; gives a `Load`. Bounded in time; a client never outlives its run. What wrk cannot do, programs
of benchmarks/clients do: in C, since they share their core with the servers, and compiled when they are first needed.
"""

import functools
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import Case
from proxies import PEERS

GRACE_S = 30
SETTLE_S = 0.15
"""What a client left under way ends before the servers' count is read."""
BENCHMARKS = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a client saw. `requests` were answered well, `in_time` before any grace; `uncounted` were sent besides."""

    requests: int
    in_time: int
    failed: int
    duration_s: float
    uncounted: int = 0
    unanswered: int = 0
    missing_bytes: int = 0
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    late_p99_us: int = 0


def run_load(case: Case, port: int, *, seconds: int, core: int, rate: float = 0.0, grace_s: float = GRACE_S) -> Load:
    """Run the client that the case asks for, on one core. Raises TimeoutExpired when it takes `grace_s` longer."""
    limit_s = seconds + grace_s
    if case.is_paced:
        load = _run_paced(case, port, seconds, core, rate, limit_s=limit_s)
    else:
        load = _run_wrk(case, port, seconds, core, limit_s=limit_s)
    time.sleep(SETTLE_S)
    return load


@functools.cache
def build_client(name: str) -> str:
    """Compile a client, and give the path of its program."""
    program = BENCHMARKS / "results" / name
    command = ["cc", "-O2", "-o", str(program), str(BENCHMARKS / "clients" / f"{name}.c")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return str(program)


def _run(command: list[str], core: int, limit_s: float) -> dict[str, Any]:
    command = ["taskset", "-c", str(core), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    if done.returncode:
        raise RuntimeError(f"{command[3]} ended with {done.returncode}: {done.stderr[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run_wrk(case: Case, port: int, seconds: int, core: int, *, limit_s: float) -> Load:
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    command += ["-H", f"Host: {case.host}", "-s", str(PEERS / "wrk.lua"), f"http://127.0.0.1:{port}/", "--"]
    command += [case.method, case.target, str(case.targets), str(case.sent_length), str(int(case.is_closed))]
    found = _run(command, core, limit_s)
    received = case.length if case.method == "GET" else 0
    return Load(
        requests=found["requests"] - found["status"],
        in_time=found["requests"] - found["status"],
        failed=sum(found[kind] for kind in ("connect", "read", "write", "status", "timeout")),
        duration_s=found["duration_us"] / 1e6,
        missing_bytes=max(0, found["requests"] * received - found["bytes"]),
        **{name: found[name] for name in ("p50_us", "p90_us", "p99_us", "p999_us")},
    )


def _run_paced(case: Case, port: int, seconds: int, core: int, rate: float, *, limit_s: float) -> Load:
    command = [
        build_client("paced"),
        str(port),
        case.host,
        case.target,
        f"{rate:.0f}",
        str(seconds),
        str(case.connections),
    ]
    found = _run(command, core, limit_s)
    return Load(
        requests=found["requests"],
        in_time=found["in_time"],
        failed=found["failed"],
        duration_s=found["duration_us"] / 1e6,
        uncounted=found["warm_up"],
        unanswered=found["unanswered"],
        **{name: found[name] for name in ("p50_us", "p90_us", "p99_us", "p999_us", "late_p99_us")},
    )
