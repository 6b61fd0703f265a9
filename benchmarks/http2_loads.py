"""The client of HTTP/2: runs h2load for one case against one port, and reads what it tells.

Takes a case, a port and a folder for files; returns an `Http2Load`. Bounded in time; a client never outlives its run.
h2load varies only paths: a load whose other fields change, such as grpc-timeout, is not measured for that reason.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from http2_cases import CONNECTIONS, STREAMS, Http2Case
from loads import GRACE_S

COUNTS = re.compile(r"(\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
TRAFFIC = re.compile(r"traffic: .*\((\d+)\) total, .*\((\d+)\) headers .*\((\d+)\) data")
SHARES = (0.5, 0.99)
LOG = "h2load.tsv"


@dataclass(frozen=True, kw_only=True)
class Http2Load:
    """What a client saw: requests that were answered well, those that were not, and the bytes of bodies received."""

    requests: int
    failed: int
    body_bytes: int
    p50_us: int
    p99_us: int


def run_h2load(case: Http2Case, port: int, *, folder: Path, core: int, seconds: int, host: str = "127.0.0.1") -> str:
    """Run h2load on one core; return what it prints. Raises TimeoutExpired when it takes much longer than it should."""
    log = folder / LOG
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", str(core), *build_http2_command(case, port, folder=folder, host=host)]
    command += [f"-D{seconds}", f"--log-file={log}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_S)
    if done.returncode:
        raise RuntimeError(f"h2load ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return done.stdout


def read_http2_load(printed: str, folder: Path) -> Http2Load:
    """Read what h2load printed and its log of requests."""
    counts, traffic = COUNTS.search(printed), TRAFFIC.search(printed)
    if not counts or not traffic:
        raise RuntimeError(f"h2load did not print its counts: {printed[-300:]}")
    requests, times = 0, []
    with (folder / LOG).open() as lines:
        for line in lines:
            _, status, time_us = line.split("\t")
            requests += status == "200"
            times.append(int(time_us))
    times.sort()
    p50_us, p99_us = (times[int(share * len(times))] if times else 0 for share in SHARES)
    return Http2Load(
        requests=requests,
        failed=sum(int(counts[number]) for number in (4, 5, 6)) + int(counts[3]) - requests,
        body_bytes=int(traffic[3]),
        p50_us=p50_us,
        p99_us=p99_us,
    )


def is_http2_served(case: Http2Case, port: int, *, folder: Path) -> bool:
    """Return whether one request of a case is answered well, through to a server."""
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
