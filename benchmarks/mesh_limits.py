"""A limit in Redis under ten times its load, over four proxies: how many requests the whole mesh lets through.

After a third of the time, one proxy is killed; after two thirds, another one joins. With `--outage`, Redis stands still
for the middle third, which may add a burst. Takes options; prints what clients got beside average x time + burst, and
ends with 1 where they differ by more than 3 %. Everything it starts ends with it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from processes import MAESH, ProcessGroup, describe_machine, fetch, find_free_port, run_to_end, wait_until
from proxies import Command, build_controller_command

from maesh_testing import build_service

HOST = "app.bench.maesh"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECTIONS = 4
"""Connections to each proxy."""
TOLERANCE = 0.03


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--average", type=int, default=100, help="requests a second that the limit allows")
    parser.add_argument("--burst", type=int, default=100)
    parser.add_argument("--times", type=int, default=10, help="how many times the average is offered")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--proxies", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="workers of each proxy")
    parser.add_argument("--outage", action="store_true", help="stop Redis for the middle third, and kill no proxy")
    return parser.parse_args()


class Mesh:
    """Redis, a controller, and proxies on addresses of their own with the same port."""

    def __init__(self, group: ProcessGroup, folder: Path, options: argparse.Namespace) -> None:
        self.options, self._group, self._folder = options, group, folder
        self.redis_port, self._api_port, self.port = (find_free_port() for _ in range(3))
        self.proxies: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, upstream_port: int) -> None:
        """Start Redis and the controller, and all proxies."""
        command: Command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", ""]
        self.redis = self._group.start("redis", [*command, "--dir", self._folder])
        manifests = self._folder / "manifests"
        manifests.mkdir()
        limit = {"ratelimit-average": self.options.average, "ratelimit-burst": self.options.burst}
        annotations = {name: str(value) for name, value in limit.items()}
        annotations |= {"ratelimit-source": "host", "ratelimit-store": "redis"}
        servers = [("127.0.0.1", upstream_port)]
        items = build_service("app", servers, namespace="bench", annotations=annotations)
        (manifests / "bench.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        command = build_controller_command(manifests, api_port=self._api_port, http_port=self.port)
        self._group.start("controller", command)
        wait_until(lambda: fetch(self._api_port, "/api/status/readiness")[0] == 200, "the controller")
        for number in range(self.options.proxies):
            self.start_proxy(f"127.0.0.{number + 2}")

    def start_proxy(self, address: str) -> None:
        """Start a proxy that listens on this address, and wait until it is ready."""
        admin_port = find_free_port()
        command: Command = [MAESH, "proxy", "--endpoint", f"http://127.0.0.1:{self._api_port}", "--bind", address]
        command += ["--admin-host", "127.0.0.1", "--admin-port", str(admin_port), "--node", f"node-{address}"]
        command += ["--workers", str(self.options.workers), "--set", "ratelimit.redis-timeout=1s"]
        command += ["--set", f"ratelimit.redis-url=redis://127.0.0.1:{self.redis_port}"]
        self.proxies[address] = self._group.start(f"proxy-{address}", command)
        wait_until(lambda: fetch(admin_port, "/ready")[0] == 200, "the proxy")

    def kill_proxy(self, address: str) -> None:
        """Kill a proxy with its workers, which end when their parent does."""
        self.proxies.pop(address).kill()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request, until the end."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(RESPONSE)
    writer.close()


class Load:
    """What is offered to all proxies together, and the statuses that came."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.counts: Counter[int] = Counter()
        self.begin = self.last_at = time.monotonic()
        self.end = self.begin + mesh.options.seconds

    async def offer(self, address: str) -> None:
        """Send a proxy its part of the load until the end, or until it is killed."""
        options = self._mesh.options
        interval_s = CONNECTIONS * options.proxies / (options.average * options.times)
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONNECTIONS):
                tasks.create_task(self._send(address, interval_s, interval_s * number / CONNECTIONS))

    async def _send(self, address: str, interval_s: float, delay_s: float) -> None:
        reader, writer = await asyncio.open_connection(address, self._mesh.port)
        due = time.monotonic() + delay_s
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while due < self.end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-le"))
                await reader.readexactly(length)
                self.counts[int(head.split(b" ", 2)[1])] += 1
                self.last_at = time.monotonic()
                due += interval_s
        writer.close()


async def disturb(mesh: Mesh, load: Load, tasks: asyncio.TaskGroup) -> None:
    """Kill a proxy and let another one join, or stop Redis for a while."""
    options = mesh.options
    await asyncio.sleep(options.seconds / 3)
    if options.outage:
        os.kill(mesh.redis.pid, signal.SIGSTOP)
    else:
        mesh.kill_proxy("127.0.0.2")
    await asyncio.sleep(options.seconds / 3)
    if options.outage:
        os.kill(mesh.redis.pid, signal.SIGCONT)
        return
    joining = f"127.0.0.{options.proxies + 2}"
    await asyncio.to_thread(mesh.start_proxy, joining)
    tasks.create_task(load.offer(joining))


async def measure(group: ProcessGroup, folder: Path, options: argparse.Namespace) -> tuple[Counter[int], float]:
    """Offer the load; return how often each status came, and how long it took."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    mesh = Mesh(group, folder, options)
    await asyncio.to_thread(mesh.start, server.sockets[0].getsockname()[1])
    load = Load(mesh)
    async with asyncio.TaskGroup() as tasks:
        for address in tuple(mesh.proxies):
            tasks.create_task(load.offer(address))
        await disturb(mesh, load, tasks)
    return load.counts, load.last_at - load.begin


def main() -> int:
    """Offer, count, judge."""
    options = parse_options()
    if not shutil.which("redis-server"):
        print("redis-server is not installed.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="maesh-limits-") as name, ProcessGroup(Path(name)) as group:
        counts, duration_s = asyncio.run(measure(group, Path(name), options))
    allowed = options.average * duration_s + options.burst * (2 if options.outage else 1)
    admitted = counts[200]
    print(
        f"{sum(counts.values()):,} requests in {duration_s:.2f} s over {options.proxies} proxies: {dict(counts)}\n"
        f"admitted {admitted:,} of {allowed:,.0f} allowed, {admitted / allowed - 1:+.2%}",
        *(f"{key} {value}" for key, value in describe_machine().items()),
        sep="\n",
    )
    return 0 if abs(admitted / allowed - 1) <= TOLERANCE and set(counts) <= {200, 429} else 1


if __name__ == "__main__":
    run_to_end(main)
