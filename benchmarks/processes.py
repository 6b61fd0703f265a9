"""Processes under measurement: starts them on a core, reads what they cost, and ends what was started, by id.

Takes command lines, gives figures from /proc. Linux only. Knows nothing of what the processes do.
"""

import contextlib
import ctypes
import http.client
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from maesh_core import engine

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MAESH = Path(sys.executable).with_name("maesh")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory in MB (10^6 bytes): of the largest process, and of all; shared pages count in each."""

    worker_mb: float
    total_mb: float
    processes: int


class ProcessGroup:
    """What a benchmark has started; leaving the `with` block ends all of it, in reverse order."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C leaves nothing behind
        for process in reversed(self._processes):
            stop(process)
        signal.signal(signal.SIGINT, held)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        core: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command on one core, with its output in a log file.

        It gets a session of its own, so that Ctrl-C reaches it through us, and a signal should we be killed.
        """

        def prepare() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if core is not None:
                os.sched_setaffinity(0, {core})

        path = self._log_folder / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=prepare,
                env={**os.environ, **(environment or {})},
            )
        self._processes.append(process)
        return process

    def read_log(self, name: str) -> str:
        """Read what a command has written so far."""
        return (self._log_folder / f"{name}.log").read_text(errors="replace")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End one process and all below it, and by force what does not end in ten seconds."""
    if process.poll() is not None:
        return
    tree = {pid: _read_start(pid) for pid in find_tree(process.pid)}
    process.terminate()
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid, start in tree.items():
        if start and _read_start(pid) == start:  # still the one that we started, not another with its number
            os.kill(pid, signal.SIGKILL)
    process.wait(10)


def _read_start(pid: int) -> str:
    """Read when a process started, in ticks since boot; empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19] if fields[0] != "Z" else ""


def find_tree(pid: int) -> list[int]:
    """Find a process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def measure_cpu_s(pid: int) -> float:
    """Sum the CPU seconds that the living threads of a process and of all below it have used."""
    used_ns = 0
    for member in find_tree(pid):
        try:
            for task in os.listdir(f"/proc/{member}/task"):
                used_ns += int(Path(f"/proc/{member}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            continue
    return used_ns / 1e9


def measure_memory(pid: int) -> Memory:
    """Read the resident memory of a process and of all below it."""
    found = []
    for member in find_tree(pid):
        try:
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{member}/status").read_text().splitlines())
        except OSError:
            continue
        found.append(int(lines.get("VmRSS", "0").split()[0]) * 1024 / 1e6)
    return Memory(worker_mb=max(found, default=0), total_mb=sum(found), processes=len(found))


def raise_open_files_limit(wanted: int = 0) -> int:
    """Let us and what we start open as many files as the system grants, and, where we are root, as many as are wanted.

    2,000 connections take 4,000 in a proxy. Returns how many there may be.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, wanted), max(hard, wanted)))
        return max(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def measure_cores() -> dict[int, tuple[int, int]]:
    """Read (busy, all) ticks of each core."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(value) for value in values[:8]]
            found[int(name[3:])] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    return found


def compute_busy_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Compute how much of a core was busy between two readings, 0 to 1."""
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def choose_cores() -> tuple[int, int]:
    """Choose a core for the proxy and one for the load and the servers; the same one where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


def find_free_port() -> int:
    """Find a port, for TCP and UDP, below those that Linux gives to outgoing connections."""
    while True:
        port = random.randint(20000, 32000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(type=kind) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return port


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 30.0, pause_s: float = 0.002) -> float:
    """Wait for a condition; returns the seconds it took."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > timeout_s:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(pause_s)
    return time.perf_counter() - start


def fetch(port: int, path: str = "/", *, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Send one request to 127.0.0.1; status 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def describe_machine() -> dict[str, str]:
    """Name the machine and the versions of what measures."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":?")
    return {
        "cpu": model.partition(":")[2].strip(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "server (nginx)": read_version(["nginx", "-v"]),
        "client (wrk)": read_version(["wrk", "-v"]),
        "client (h2load)": read_version(["h2load", "--version"]),
        "maesh": read_version(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]),
        "engine": engine.form,
        "date": time.strftime("%Y-%m-%d"),
    }


def read_version(command: Sequence[str | Path]) -> str:
    """Read the version number from what a program says of itself; its first line where there is no number."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "not installed"
    lines = (done.stdout + done.stderr).splitlines() or [""]
    number = re.search(r"\d+\.\d+\.\d+[\w.+-]*", "\n".join(lines))
    return number[0] if number else lines[0]


def run_to_end(main: Callable[[], int]) -> NoReturn:
    """Run a program and end with its status; Ctrl-C ends it in one line."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        sys.exit(130)
