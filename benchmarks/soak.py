"""A soak: load for two minutes while the mesh is disturbed, and every failure counted in the second it happened.

The configuration is swapped every 100 ms, a worker is killed every 10 s (where the proxy has workers below it), and the
controller is restarted once, half-way. Failures are allowed only in a second with a kill or the one after it, and no
more than the connections that the killed worker held just before. Takes options; returns a line a second, and
benchmarks/results/soak.json. Everything it starts ends with it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from processes import (
    ProcessGroup,
    describe_machine,
    fetch,
    find_free_port,
    find_tree,
    raise_open_files_limit,
    run_to_end,
    stop,
    wait_until,
)
from proxies import (
    ADDRESSES,
    HOST,
    Site,
    build_controller_command,
    build_manifests,
    build_proxy_command,
    has_workers,
)

RESULTS = Path(__file__).resolve().parent / "results"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
BODY = b"a server says hello\n"
CONNECT_BACKOFF_S = 0.05


@dataclass(kw_only=True)
class Second:
    """What happened in one second."""

    requests: int = 0
    failed: int = 0
    allowed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


class Mesh:
    """A controller and a proxy, and the ways to disturb them."""

    def __init__(self, site: Site, workers: int) -> None:
        self._site, self._workers = site, workers
        self._manifest = site.folder / "soak" / "bench.json"
        self._manifest.parent.mkdir()
        self._fresh = site.folder / "fresh.json"
        self._api_port, self._admin_port, self.port = (find_free_port() for _ in range(3))
        self.swaps = 0
        self.swap()
        self._controller = self._start_controller()
        wait_until(lambda: fetch(self._api_port, "/api/status/readiness")[0] == 200, "the controller")
        command = build_proxy_command(api_port=self._api_port, admin_port=self._admin_port, workers=workers)
        self._proxy = site.group.start("proxy", command)
        wait_until(lambda: fetch(self.port, host=HOST)[0] == 200, "the proxy")

    def _start_controller(self) -> Any:
        command = build_controller_command(self._manifest.parent, api_port=self._api_port, http_port=self.port)
        return self._site.group.start("controller", command)

    def swap(self) -> None:
        """Change the servers: both, then one, then the other, in turn."""
        document = build_manifests(self._site.upstream_port)
        chosen = (ADDRESSES, ADDRESSES[:1], ADDRESSES[1:])[self.swaps % 3]
        endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in chosen]
        document["items"] = [
            {**item, "endpoints": endpoints} if item["kind"] == "EndpointSlice" else item
            for item in document["items"]  # type: ignore[attr-defined]
        ]
        self._fresh.write_text(json.dumps(document))
        self._fresh.rename(self._manifest)
        self.swaps += 1

    def kill_worker(self) -> tuple[str, int]:
        """Kill the worker that lives longest; return what happened, and how many connections that cut.

        Nothing is killed where there is none but the proxy itself.
        """
        below = find_tree(self._proxy.pid)[1:]
        if len(below) < self._workers or not has_workers():
            return "no worker to kill", 0
        held = count_connections(below[0], self.port)
        os.kill(below[0], signal.SIGKILL)
        return f"worker {below[0]} killed with {held} connections", held

    def restart_controller(self) -> str:
        """End the controller and start another on the same port."""
        stop(self._controller)
        self._controller = self._start_controller()
        return "controller restarted"

    def read_revision(self) -> str:
        """Read which configuration the proxy has in force."""
        status, body = fetch(self._admin_port, "/status")
        return str(json.loads(body).get("revision")) if status == 200 else ""

    @property
    def is_running(self) -> bool:
        """Return whether the proxy lives."""
        return self._proxy.poll() is None


class Soak:
    """Kept connections that ask without pause, and the record of every second."""

    def __init__(self, mesh: Mesh, options: argparse.Namespace) -> None:
        self._mesh, self._options = mesh, options
        self._start = time.monotonic()
        self.seconds: dict[int, Second] = {}

    def _now(self) -> Second:
        return self.seconds.setdefault(int(time.monotonic() - self._start), Second())

    def _fail(self, kind: str) -> None:
        second = self._now()
        second.failed += 1
        second.kinds[kind] = second.kinds.get(kind, 0) + 1

    async def run(self) -> None:
        """Load and disturb for the whole time; the load ends last, so that it sees every disturbance."""
        clients = [asyncio.create_task(self._ask()) for _ in range(self._options.connections)]
        disturbances = [self._swap(), self._kill(), self._restart(), self._tell()]
        try:
            async with asyncio.timeout(self._options.seconds), asyncio.TaskGroup() as group:
                for disturbance in disturbances:
                    group.create_task(disturbance)
        except TimeoutError:
            pass
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _ask(self) -> None:
        """Ask over one connection; one that fails is counted and made anew."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._mesh.port)
            except OSError as error:
                self._fail(f"connect: {error.strerror or type(error).__name__}")
                await asyncio.sleep(CONNECT_BACKOFF_S)
                continue
            try:
                while True:
                    await self._ask_once(reader, writer)
                    self._now().requests += 1
                    await asyncio.sleep(self._options.pause)
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                self._fail(str(error) if type(error) is ValueError else type(error).__name__)
            finally:
                writer.close()

    async def _ask_once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(head[:12].decode("latin-1"))
        if await reader.readexactly(len(BODY)) != BODY:
            raise ValueError("another body")

    async def _swap(self) -> None:
        while True:
            await asyncio.sleep(self._options.swap_every)
            self._mesh.swap()

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self._options.kill_every)
            second = self._now()
            event, held = self._mesh.kill_worker()
            second.events.append(event)
            second.allowed += held

    async def _restart(self) -> None:
        await asyncio.sleep(self._options.seconds / 2)
        self._now().events.append(await asyncio.to_thread(self._mesh.restart_controller))

    async def _tell(self) -> None:
        while True:
            number = int(time.monotonic() - self._start)
            await asyncio.sleep(number + 1.05 - (time.monotonic() - self._start))
            second = self.seconds.get(number, Second())
            told = "".join(f"  {kind} x{count}" for kind, count in second.kinds.items())
            events = "".join(f"  [{event}]" for event in second.events)
            print(f"{number:4} s  {second.requests:6} requests  {second.failed:3} failed{told}{events}", flush=True)


def count_connections(pid: int, port: int) -> int:
    """Count the established connections to a port that a process holds."""
    established = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
            established.add(f"socket:[{fields[9]}]")
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # one that has just been closed
            held += os.readlink(descriptor) in established
    return held


def judge(seconds: dict[int, Second]) -> list[str]:
    """Find what should not have happened."""
    wrong = []
    for number, second in sorted(seconds.items()):
        before = seconds.get(number - 1, Second())
        allowed = second.allowed + max(0, before.allowed - before.failed)
        if second.failed > allowed:
            wrong.append(f"{second.failed} failures in second {number}, where a kill explains {allowed}")
    return wrong


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pause", type=float, default=0.002, help="seconds between a connection's requests")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--swap-every", type=float, default=0.1, help="seconds")
    parser.add_argument("--kill-every", type=float, default=10, help="seconds")
    return parser.parse_args()


def run_soak(site: Site, options: argparse.Namespace) -> tuple[Soak, int, list[str]]:
    """Start the mesh and soak it; return the record, the number of swaps, and what should not have happened."""
    site.start_upstream()
    mesh = Mesh(site, options.workers)
    before = mesh.read_revision()
    soak = Soak(mesh, options)
    asyncio.run(soak.run())
    wrong = judge(soak.seconds)
    if not mesh.is_running:
        wrong.append("the proxy ended")
    elif mesh.read_revision() == before:
        wrong.append("the proxy took no configuration")
    return soak, mesh.swaps, wrong


def main() -> int:
    """Soak, tell, write; the exit status tells whether all was as it should be."""
    options = parse_options()
    if not shutil.which("nginx"):
        print("nginx is not installed, and it is the server that is asked.", file=sys.stderr)
        return 1
    raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="maesh-soak-") as name, ProcessGroup(Path(name)) as group:
        try:
            soak, swaps, wrong = run_soak(Site(group, Path(name)), options)
        except TimeoutError as error:
            print(error, group.read_log("controller")[-2000:], sep="\n", file=sys.stderr)
            return 1
        log = group.read_log("proxy")[-2000:]
    totals = [sum(getattr(second, name) for second in soak.seconds.values()) for name in ("requests", "failed")]
    print(f"\n{totals[0]:,} requests, {totals[1]} failed; {swaps} configurations written.")
    print(*(wrong or ["All as it should be."]), sep="\n")
    if wrong and log:
        print(f"--- the proxy's log\n{log}")
    RESULTS.mkdir(exist_ok=True)
    seconds = {number: asdict(second) for number, second in soak.seconds.items()}
    document = {"machine": describe_machine(), "options": vars(options), "wrong": wrong, "seconds": seconds}
    (RESULTS / "soak.json").write_text(json.dumps(document, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_to_end(main)
