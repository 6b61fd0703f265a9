"""The client of HTTP/2: runs h2load for one case against one port, and reads what it tells.

Takes a case, a port and a folder for files; gives an `Http2Load`. Bounded in time; a client never outlives its run.
h2load varies only paths: a load whose other fields change, such as grpc-timeout, is not measured for that reason.
"""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from http2_cases import CONNECTIONS, STREAMS, Http2Case
from loads import GRACE_S, SETTLE_S

COUNTS = re.compile(r"(\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
TRAFFIC = re.compile(r"traffic: .*\((\d+)\) total, .*\((\d+)\) headers .*\((\d+)\) data")
DURATION_SHARES = (0.5, 0.99)


@dataclass(frozen=True, kw_only=True)
class Http2Load:
    """What a client saw: requests that were answered well, those that were not, and the bytes of bodies received."""

    requests: int
    failed: int
    body_bytes: int
    p50_us: int
    p99_us: int


def run_http2_load(
    case: Http2Case, port: int, *, folder: Path, core: int, seconds: int, host: str = "127.0.0.1"
) -> Http2Load:
    """Run h2load on one core. Raises TimeoutExpired when it takes much longer than it should."""
    log = folder / "h2load.tsv"
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", str(core), *build_http2_command(case, port, folder=folder, host=host)]
    done = subprocess.run(
        [*command, f"-D{seconds}", f"--log-file={log}"], capture_output=True, text=True, timeout=seconds + GRACE_S
    )
    counts, traffic = COUNTS.search(done.stdout), TRAFFIC.search(done.stdout)
    if done.returncode or not counts or not traffic:
        raise RuntimeError(f"h2load ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    p50_us, p99_us = read_percentiles(log)
    time.sleep(SETTLE_S)
    return Http2Load(
        requests=count_well_answered(log),
        failed=sum(int(counts[number]) for number in (4, 5, 6)),
        body_bytes=int(traffic[3]),
        p50_us=p50_us,
        p99_us=p99_us,
    )


def is_http2_served(case: Http2Case, port: int, *, folder: Path) -> bool:
    """Tell whether one request of a case is answered well, through to a server."""
    command = [part for part in build_http2_command(case, port, folder=folder) if not part.startswith(("-c", "-m"))]
    done = subprocess.run([*command, "-n1"], capture_output=True, text=True, timeout=GRACE_S)
    return "status codes: 1 2xx" in done.stdout and " 1 succeeded" in done.stdout


def build_http2_command(case: Http2Case, port: int, *, folder: Path, host: str = "127.0.0.1") -> list[str]:
    """Build h2load's command line without how long it runs, and write the files that it reads."""
    base = f"http://{case.host}"
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", f"-m{STREAMS}", f"--connect-to={host}:{port}"]
    for each in case.fields:
        command += ["-H", each]
    if case.sent:
        body = folder / f"{case.name}.body"
        # One message of gRPC with its prefix; to other servers these are bytes like others.
        body.write_bytes(b"\0" + (case.sent - 5).to_bytes(4, "big") + bytes(case.sent - 5))
        command += [f"--data={body}"]
    if case.paths == 1:
        return [*command, base + case.path]
    file = folder / f"{case.name}.uris"
    file.write_text("".join(f"{base}/items/{number}?page={number % 7}\n" for number in range(case.paths)))
    return [*command, f"--input-file={file}"]


def count_well_answered(log: Path) -> int:
    """Count the requests with status 200 in h2load's log."""
    with log.open() as lines:
        return sum(line.split("\t")[1] == "200" for line in lines)


def read_percentiles(log: Path) -> tuple[int, int]:
    """Read the median and the 99th percentile of all times in h2load's log, in microseconds; 0 without any."""
    with log.open() as lines:
        times = sorted(int(line.rsplit("\t", 1)[1]) for line in lines)
    p50, p99 = (times[int(share * len(times))] if times else 0 for share in DURATION_SHARES)
    return p50, p99
