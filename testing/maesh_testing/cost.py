"""What a plugin costs: `python -m maesh_testing.cost --NAME ANNOTATION=VALUE ...`.

Runs one real worker in front of two services that differ in the annotations alone, and sends each the same requests in
turns. The figure is CPU time of the worker, as the kernel counts it, so how fast client and server are does not matter;
what else the machine does matters little.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from maesh_core.plugin import find_header_problem
from maesh_testing.commands import MAESH, Command, build_environment, list_own_variables
from maesh_testing.ports import find_free_port
from maesh_testing.running_mesh import NAMESPACE, Manifests, build_service

CONNECTIONS = 16
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
END_OF_HEAD = b"\r\n\r\n"


class _Server(asyncio.Protocol):
    """Answers every head; the requests have no bodies."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(END_OF_HEAD))  # type: ignore[attr-defined]


class _Client(asyncio.Protocol):
    """Sends one request after another on its connection, as long as there are any left."""

    def __init__(self, request: bytes, left: list[int], done: asyncio.Future[None]) -> None:
        self._request, self._left, self._done = request, left, done
        done.add_done_callback(lambda _: self._transport.close())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200"):
            self._end(RuntimeError(f"not the server's answer: {data[:200]!r}"))
        elif self._left[0] > 0:
            self._send()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("a connection ended"))

    def _send(self) -> None:
        self._left[0] -= 1
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None) if error is None else self._done.set_exception(error)


class Load(NamedTuple):
    """What is sent: `turns` times for each service so many requests, all with these header lines."""

    requests: int
    turns: int
    headers: bytes = b""


async def _send_requests(port: int, host: str, load: Load) -> None:
    loop, left = asyncio.get_running_loop(), [load.requests]
    request = b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host.encode(), load.headers)
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    try:
        for end in ends:
            await loop.create_connection(lambda end=end: _Client(request, left, end), "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.gather(*ends)
    finally:
        for end in ends:
            end.cancel()


def read_cpu_ns(pid: int) -> int:
    """Read how long a process's main thread has run on a processor (Linux)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def find_worker(pid: int) -> int:
    """Find the one process below another that has none below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return find_worker(int(children[0])) if children else pid


async def measure(port: int, worker: int, load: Load) -> tuple[list[float], list[float]]:
    """Measure both services in turns; return the microseconds for each request, without and with the plugin."""
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(load.turns + 1):
        for name, samples in zip(("bare", "annotated"), found, strict=True):
            before = read_cpu_ns(worker)
            await _send_requests(port, f"{name}.{NAMESPACE}.maesh", load)
            if turn:  # the first warms up
                samples.append((read_cpu_ns(worker) - before) / 1000 / load.requests)
    return found


async def compare(
    flags: Sequence[str], annotations: Mapping[str, str], load: Load, variables: Mapping[str, str]
) -> str:
    """Run the mesh and measure; return what to print. Raises RuntimeError where an answer is not the server's."""
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", find_free_port())
    address = server.sockets[0].getsockname()
    with tempfile.TemporaryDirectory() as temporary:
        manifests = Manifests(Path(temporary) / "manifests")
        services = [*build_service("bare", [address]), *build_service("annotated", [address], annotations=annotations)]
        manifests.write("services.json", services)
        port = find_free_port()
        ports = ("--http-port", str(port), "--api-port", str(find_free_port()), "--admin-port", str(find_free_port()))
        program = (*MAESH, "up", *ports, "--workers", "1", "--json", *flags, str(manifests.path))
        environment = build_environment(Path(temporary)) | dict(variables)
        command = Command(program, Path(temporary) / "maesh", environment)
        try:
            await asyncio.to_thread(command.wait_until, lambda: "\n" in command.stdout, "one line on standard output")
            worker = find_worker(command.process.pid)
            bare, annotated = await measure(port, worker, load)
        finally:
            await asyncio.to_thread(command.end)
            server.close()
    added = statistics.median(one - other for one, other in zip(annotated, bare, strict=True))
    return (
        f"without   {statistics.median(bare):6.2f} µs of CPU for each request\n"
        f"with      {statistics.median(annotated):6.2f} µs\n"
        f"added     {added:6.2f} µs, median of {load.turns} pairs of turns, {load.requests} requests each\n"
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and print; further flags, such as a plugin's own, are for `maesh up`."""
    about = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(prog="python -m maesh_testing.cost", description=about, allow_abbrev=False)
    parser.add_argument("words", nargs="*", metavar="ANNOTATION=VALUE", help="what a service says to have it")
    parser.add_argument("--requests", type=int, default=20_000, help="in each turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="of each service (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.KEY=VALUE", help="a plugin's setting")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header of every request; repeatable"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for `maesh up`; repeatable (MAESH_... variables of this command are handed on, too)",
    )
    given, further = parser.parse_known_args(arguments)
    words = [*given.words, *(word for word in further if not word.startswith("-"))]
    if wrong := [word for word in words if "=" not in word]:
        parser.error(
            f"{wrong[0]!r} is not ANNOTATION=VALUE; a flag of `maesh up` is given its value as in --flag=value"
        )
    if given.requests < CONNECTIONS or given.turns < 1:
        parser.error(f"there must be a turn, of {CONNECTIONS} requests at least")
    flags = [word for word in further if word.startswith("-")]
    flags += [word for text in given.set for word in ("--set", text)]
    annotations = dict(word.split("=", 1) for word in words)
    headers = b"".join(_render_header(text, parser) for text in given.header)
    if wrong := [text for text in given.env if not text.partition("=")[0] or "=" not in text]:
        parser.error(f"--env: {wrong[0]!r} is not NAME=VALUE")
    variables = list_own_variables() | dict(text.split("=", 1) for text in given.env)
    load = Load(given.requests, given.turns, headers)
    try:
        print(uvloop.run(compare(flags, annotations, load, variables)), end="")  # noqa: T201
    except (AssertionError, RuntimeError, OSError) as error:
        sys.exit(f"cannot measure: {error}")


def _render_header(text: str, parser: argparse.ArgumentParser) -> bytes:
    name, colon, value = text.partition(":")
    problem = find_header_problem(name, value.strip()) if colon else "is not NAME: VALUE"
    if problem is not None:
        parser.error(f"--header: {text!r} {problem}")
    return f"{name}: {value.strip()}\r\n".encode()


if __name__ == "__main__":
    main(sys.argv[1:])
