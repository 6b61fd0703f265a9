"""Processes under measurement: starts them on a core, reads what they cost, and ends what was started, by id.

Takes command lines, gives figures from /proc. Linux only. Knows nothing of what the processes do.
"""

import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MAESH = Path(sys.executable).with_name("maesh")


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
        for process in reversed(self._processes):
            stop(process)

    def start(self, name: str, command: Sequence[str | Path], *, core: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command on one core, with its output in a log file; in a session of its own, so that Ctrl-C
        reaches it through us."""
        path = self._log_folder / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )
        self._processes.append(process)
        return process

    def read_log(self, name: str) -> str:
        """Read what a command has written so far."""
        return (self._log_folder / f"{name}.log").read_text(errors="replace")


def build_controller_command(manifests: Path, *, api_port: int, http_port: int) -> list[str | Path]:
    """Build the command line of a controller on the loopback address."""
    ports: list[str | Path] = ["--api-host", "127.0.0.1", "--api-port", str(api_port), "--http-port", str(http_port)]
    return [MAESH, "controller", *ports, manifests]


def build_proxy_command(*, api_port: int, admin_port: int) -> list[str | Path]:
    """Build the command line of a proxy on the loopback address."""
    ports = ["--admin-host", "127.0.0.1", "--admin-port", str(admin_port), "--bind", "127.0.0.1"]
    return [MAESH, "proxy", "--endpoint", f"http://127.0.0.1:{api_port}", *ports]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End one process, and by force what does not end in ten seconds."""
    if process.poll() is not None:
        return
    tree = find_tree(process.pid)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in tree:
            os.kill(pid, signal.SIGKILL)
        process.wait(10)


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
    """Sum the CPU seconds that a process and its children have used."""
    ticks = 0
    for member in find_tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def measure_rss_mb(pid: int) -> dict[str, float]:
    """Read the resident memory of a process and its children, in MB (10^6 bytes), by `pid name`."""
    found = {}
    for member in find_tree(pid):
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{member}/status").read_text().splitlines())
        found[f"{member} {lines['Name'].strip()}"] = int(lines["VmRSS"].split()[0]) * 1024 / 1e6
    return found


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
    """Find a port below those that Linux gives to outgoing connections."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe:
            try:
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
    """Name the machine and the versions that figures depend on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":?")
    return {
        "cpu": model.partition(":")[2].strip(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "nginx": _read_version(["nginx", "-v"]),
        "haproxy": _read_version(["haproxy", "-v"]),
        "wrk": _read_version(["wrk", "-v"]),
        "maesh": _read_version(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]),
    }


def _read_version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "not installed"
    line = (done.stdout + done.stderr).splitlines()[0]
    return line.split(" Copyright")[0].split(" - ")[0].removeprefix("nginx version: ")
