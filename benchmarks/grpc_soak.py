"""A soak of gRPC: grpcio's client and servers with a mesh between them, while a server restarts and the mesh changes.

Makes unary calls and streams of all three kinds over a few connections, with retries after `unavailable`, and after
`cancelled`, with which a server of grpcio answers some calls while it stops. Meanwhile the configuration is swapped
every 100 ms, and one of the two servers is restarted every three seconds, in turn gracefully (SIGTERM) and at once
(SIGKILL). No unary call may fail, and no call may hang. A stream that was open at a server that ended may fail, but
must end with a status. Restarts that are more frequent than `--server-pause` (`--restart-every 0.5`) need a pause
between the attempts (`--set retry.backoff=100ms`): docs/grpc.md. Prints a report, which is JSON, and writes it to
benchmarks/results/grpc_soak.json with `--save`. Status 1 if a rule was broken. Needs grpcio.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from processes import ProcessGroup, describe_machine, fetch, find_free_port, run_to_end, stop, wait_until

FOLDER = Path(__file__).resolve().parent
RESULT = FOLDER / "results" / "grpc_soak.json"
HOST = "echo.soak.maesh"
MAESH = (sys.executable, "-P", "-m", "maesh_core.cli")
TIMEOUT_S = 30.0
"""The time-out of each call. What reaches it counts as hung."""
CONNECTIONS, UNARY_CALLERS, STREAM_CALLERS = 4, 16, 4
SWAP_S, PAUSE_S = 0.1, 0.05
ENDS = {"term": (signal.SIGTERM,), "kill": (signal.SIGKILL,), "both": (signal.SIGTERM, signal.SIGKILL)}


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--unary", type=int, default=10_000, help="number of unary calls (%(default)s)")
    parser.add_argument("--streams", type=int, default=1000, help="number of streaming calls (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the proxy (%(default)s)")
    parser.add_argument("--ends", choices=ENDS, default="both", help="how servers are ended (%(default)s)")
    parser.add_argument("--restart-every", type=float, metavar="SECONDS", default=3.0, help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="a setting of a plugin, for the mesh")
    parser.add_argument("--load", type=int, metavar="PORT", default=0, help="only make the calls, through this port")
    parser.add_argument("--save", action="store_true", help="write the report to benchmarks/results")
    return parser.parse_args()


class Servers:
    """Two servers, of which one at a time is restarted."""

    def __init__(self, group: ProcessGroup, ends: str) -> None:
        self._ends = ENDS[ends]
        self._group = group
        self.ports = (find_free_port(), find_free_port())
        self.restarts = 0
        self._running: list[subprocess.Popen[bytes]] = [self._start(index) for index in (0, 1)]

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        name = f"server-{index}-{self.restarts}"
        command = [sys.executable, str(FOLDER / "grpc_server.py"), "127.0.0.1", str(self.ports[index]), name]
        process = self._group.start(name, command)
        wait_until(lambda: process.poll() is not None or "ready" in self._group.read_log(name), f"{name} is ready")
        if process.poll() is not None:
            raise RuntimeError(f"{name}: {self._group.read_log(name)}")
        return process

    def restart(self) -> None:
        """End the next server, gracefully or not, and start it again."""
        index = self.restarts % 2
        self.restarts += 1
        process = self._running[index]
        process.send_signal(self._ends[self.restarts // 2 % len(self._ends)])
        process.wait(20)
        self._running[index] = self._start(index)


def write_manifests(folder: Path, ports: tuple[int, int], swaps: int) -> None:
    """Write the service; each swap changes a setting of its retries."""
    annotations = {"scheme": "h2c", "retry-attempts": str(6 + swaps % 2), "retry-on": "unavailable, cancelled"}
    full = {f"maesh.containo.us/{name}": text for name, text in annotations.items()}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo", "namespace": "soak", "annotations": full},
        "spec": {"ports": [{"name": "grpc", "port": 80, "targetPort": 8080}]},
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"echo-{port}",
                "namespace": "soak",
                "labels": {"kubernetes.io/service-name": "echo"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }
        for port in ports
    ]
    fresh = folder.with_name("fresh")
    fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, *slices]}))
    fresh.rename(folder / "echo.json")


class Load:
    """The calls, and their outcomes by kind and status."""

    def __init__(self, port: int) -> None:
        options = (("grpc.default_authority", HOST), ("grpc.use_local_subchannel_pool", 1))
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(CONNECTIONS)]
        self.outcomes: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.hung = 0

    async def call_unary(self, number: int) -> None:
        """Make one unary call."""
        channel = self._channels[number % CONNECTIONS]
        request = b"%d " % number + b"x" * (number % 3000)
        response = await channel.unary_unary("/bench.Echo/Unary")(request, timeout=TIMEOUT_S)
        if response != request:
            raise AssertionError("another response than the request's")

    async def call_stream(self, number: int) -> None:
        """Make one streaming call; its kind depends on the number."""
        channel, size = self._channels[number % CONNECTIONS], 20 + number % 50
        requests = [b"%d" % each for each in range(size)]
        if number % 3 == 0:
            call = channel.unary_stream("/bench.Echo/Expand")(b"%d" % size, timeout=TIMEOUT_S)
            responses = [response async for response in call]
            expected = requests
        elif number % 3 == 1:
            done = await channel.stream_unary("/bench.Echo/Collect")(iter(requests), timeout=TIMEOUT_S)
            responses, expected = [done], [b"%d %d" % (size, sum(map(len, requests)))]
        else:
            responses = await self._converse(channel, requests)
            expected = [*requests, b"bye"]
        if responses != expected:
            raise AssertionError("other responses than the requests'")

    async def _converse(self, channel: Any, requests: list[bytes]) -> list[bytes]:
        """Send each request after the response to the former one, then close this half."""
        call = channel.stream_stream("/bench.Echo/Converse")(timeout=TIMEOUT_S)
        responses = []
        for request in requests:
            await call.write(request)
            responses.append(await call.read())
        await call.done_writing()
        responses.append(await call.read())
        if await call.read() is not grpc.aio.EOF:
            raise AssertionError("a response too many")
        if (code := await call.code()) is not grpc.StatusCode.OK:
            raise AssertionError(f"ended with {code.name}")
        return responses

    async def run(self, kind: str, count: int, callers: int) -> None:
        """Make `count` calls, so many at a time."""
        numbers = iter(range(count))
        call = self.call_unary if kind == "unary" else self.call_stream

        async def work() -> None:
            for number in numbers:
                started = time.monotonic()
                try:
                    await asyncio.wait_for(call(number), TIMEOUT_S + 5)
                    outcome = "OK"
                except grpc.aio.AioRpcError as error:
                    outcome = error.code().name
                    self.texts[f"{kind} {outcome}: {error.details()}"] += 1
                except AssertionError as error:
                    outcome = "WRONG"
                    self.texts[f"{kind}: {error}"] += 1
                except TimeoutError:
                    outcome = "HUNG"
                self.hung += time.monotonic() - started >= TIMEOUT_S
                self.outcomes[f"{kind} {outcome}"] += 1
                await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(work() for _ in range(callers)))

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


async def make_calls(options: argparse.Namespace) -> int:
    """Make all calls through the mesh at a port, and print what came of them. Runs in a process of its own."""
    load, started = Load(options.load), time.monotonic()
    await asyncio.gather(
        load.run("unary", options.unary, UNARY_CALLERS), load.run("stream", options.streams, STREAM_CALLERS)
    )
    seconds = time.monotonic() - started
    await load.close()
    outcomes, texts = dict(sorted(load.outcomes.items())), dict(load.texts.most_common(10))
    print(json.dumps({"seconds": round(seconds, 1), "hung": load.hung, "outcomes": outcomes, "texts": texts}))
    return 0


def disturb(servers: Servers, folder: Path, load: "subprocess.Popen[bytes]", restart_s: float) -> int:
    """Swap the configuration and restart servers until the load has ended; return the number of swaps."""
    swaps, restart_at = 0, time.monotonic() + restart_s / 2
    while load.poll() is None:
        swaps += 1
        write_manifests(folder, servers.ports, swaps)
        if time.monotonic() >= restart_at:
            servers.restart()
            restart_at = time.monotonic() + restart_s
        time.sleep(SWAP_S)
    return swaps


def soak(options: argparse.Namespace, group: ProcessGroup, scratch: Path) -> dict[str, Any]:
    """Run servers, mesh and load, and describe what happened."""
    servers, folder = Servers(group, options.ends), scratch / "manifests"
    folder.mkdir()
    write_manifests(folder, servers.ports, 0)
    http, api, admin = find_free_port(), find_free_port(), find_free_port()
    flags = ["--http-port", http, "--api-port", api, "--admin-port", admin, "--workers", options.workers]
    for setting in options.set:
        flags += ["--set", setting]
    mesh = group.start("mesh", [*MAESH, "up", *map(str, flags), folder])
    wait_until(lambda: fetch(admin, "/ready")[0] == 200, "the mesh is ready")
    counts = ["--unary", str(options.unary), "--streams", str(options.streams), "--load", str(http)]
    load = group.start("load", [sys.executable, __file__, *counts])
    swaps = disturb(servers, folder, load, options.restart_every)
    lines = group.read_log("load").splitlines()
    if load.returncode:
        raise RuntimeError("\n".join(lines))
    metrics = fetch(admin, "/metrics")[1].decode().splitlines()
    stop(mesh)
    errors = [line for line in group.read_log("mesh").splitlines() if "ERROR" in line or "Traceback" in line]
    return {
        "unary": options.unary,
        "streams": options.streams,
        "restarts": servers.restarts,
        "swaps": swaps,
        **json.loads(lines[-1]),
        "counted": [line for line in metrics if line.startswith("maesh_service_grpc_responses_total{")],
        "retries": [line for line in metrics if line.startswith("maesh_service_retries_total{")],
        "errors in the log": errors[:10],
    }


def main() -> int:
    """Run the soak, or only its load."""
    options = read_options()
    if options.load:
        return asyncio.run(make_calls(options))
    with tempfile.TemporaryDirectory() as scratch, ProcessGroup(Path(scratch)) as group:
        report = soak(options, group, Path(scratch))
    print(json.dumps(report, indent=2))
    if options.save:
        RESULT.write_text(json.dumps(report | {"machine": describe_machine()}, indent=2) + "\n")
    outcomes = report["outcomes"]
    is_right = outcomes.get("unary OK", 0) == options.unary and "stream WRONG" not in outcomes
    return 0 if is_right and not report["hung"] and not report["errors in the log"] else 1


if __name__ == "__main__":
    run_to_end(main)
