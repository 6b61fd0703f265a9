"""What idle clients of HTTP/2 cost in memory: connections that have been served once, and streams that wait.

Takes the proxies that carry HTTP/2; gives the growth of each one's largest process. The client writes frames as bytes:
a request without END_STREAM, so that its stream stays open on both sides of the proxy.
"""

import argparse
import contextlib
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from http2_cases import CASES, build_http2_host
from http2_loads import is_http2_served, run_h2load
from http2_proxies import Http2Proxy, Http2Site, PreparedHttp2
from processes import measure_memory, stop, wait_until

IDLE_CONNECTIONS, IDLE_STREAMS = "idle connections", "idle streams"
CONNECTIONS, STREAMS = 1000, 100
QUICK_CONNECTIONS = 100
HELD_S = 25.0
"""How long one proxy takes, at most."""
SETTLE_S = 1.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def build_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Build one frame."""
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def build_block(method: bytes) -> bytes:
    """Build the fields of a request, as literals that enter no table."""
    authority = build_http2_host("small").encode()
    method_field = {b"GET": b"\x82", b"POST": b"\x83"}[method]
    return method_field + b"\x86\x84\x01" + bytes([len(authority)]) + authority


class HeldConnection:
    """One client connection that is held: sends its requests at once, and reads what comes."""

    def __init__(self, port: int, *, streams: int, method: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.is_answered = False
        self.failures = 0
        self._left = b""
        flags = END_HEADERS | (END_STREAM if method == b"GET" else 0)
        requests = [build_frame(HEADERS, flags, 1 + 2 * number, build_block(method)) for number in range(streams)]
        self.sock.sendall(PREFACE + build_frame(SETTINGS, 0, 0) + b"".join(requests))

    def read(self) -> None:
        """Read what came, acknowledge settings, and note whether a response is complete or a stream was refused."""
        received = self.sock.recv(65536)
        if not received:
            self.failures += 1
            raise ConnectionError("a held connection was closed")
        data, place = self._left + received, 0
        while len(data) - place >= 9:
            length, kind, flags = int.from_bytes(data[place : place + 3], "big"), data[place + 3], data[place + 4]
            if len(data) - place < 9 + length:
                break
            place += 9 + length
            self._on_frame(kind, flags)
        self._left = data[place:]

    def _on_frame(self, kind: int, flags: int) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.sock.sendall(build_frame(SETTINGS, ACK, 0))
        elif kind in (RST_STREAM, GOAWAY):
            self.failures += 1
        elif kind in (DATA, HEADERS) and flags & END_STREAM:
            self.is_answered = True


@dataclass(frozen=True, kw_only=True)
class Held:
    """Connections that are open; `read_for` keeps them alive."""

    connections: list[HeldConnection]
    selector: selectors.BaseSelector

    def read_for(self, seconds: float) -> None:
        """Read what comes for a while."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left_s):
                key.data.read()

    def count_failures(self) -> int:
        """Count the streams and connections that the proxy ended."""
        return sum(each.failures for each in self.connections)


@contextlib.contextmanager
def hold_http2_connections(port: int, count: int, *, streams: int, method: bytes) -> Iterator[Held]:
    """Open connections with so many requests each, and keep them."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        held = Held(connections=[], selector=selector)
        for _ in range(count):
            each = HeldConnection(port, streams=streams, method=method)
            stack.enter_context(each.sock)
            held.connections.append(each)
            selector.register(each.sock, selectors.EVENT_READ, each)
            held.read_for(0.001)
        yield held


def start_warm(place: Http2Site, prepared: PreparedHttp2) -> subprocess.Popen[bytes]:
    """Start a proxy and load it for a second, so that what it allocates once is not counted."""
    site = place.site
    process = prepared.start()
    wait_until(lambda: is_http2_served(CASES[0], prepared.port, folder=site.folder), prepared.proxy.name, pause_s=0.1)
    run_h2load(CASES[0], prepared.port, folder=site.folder, core=site.load_core, seconds=1)
    time.sleep(SETTLE_S)
    return process


def measure_held(place: Http2Site, prepared: PreparedHttp2, connections: int, streams: int) -> dict[str, Any]:
    """Start a proxy, and read its memory before and while connections are held: with streams that wait, or none."""
    process = start_warm(place, prepared)
    before = measure_memory(process.pid).worker_mb
    open_before = place.read_status()["open_streams"]
    method, is_waiting = (b"POST", True) if streams else (b"GET", False)
    with hold_http2_connections(prepared.port, connections, streams=streams or 1, method=method) as held:

        def count() -> int:
            held.read_for(0.05)
            if is_waiting:
                return place.read_status()["open_streams"] - open_before
            return sum(each.is_answered for each in held.connections)

        wanted = connections * (streams or 1)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: count() >= wanted, "held connections", timeout_s=HELD_S / 2)
        held.read_for(SETTLE_S)
        found, failures = count(), held.count_failures()
        grown_mb = measure_memory(process.pid).worker_mb - before
    stop(process)
    wrong = [] if found >= wanted and not failures else [f"{found} of {wanted} were held, and {failures} were ended"]
    return {"before_mb": before, "grown_mb": grown_mb, "held": found, "wrong": wrong}


def measure_http2_memory(
    place: Http2Site, proxies: Sequence[Http2Proxy], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one proxy after the other; each is started again for each kind of client."""
    connections = QUICK_CONNECTIONS if options.quick else CONNECTIONS
    found: dict[str, Any] = {"connections": connections, "streams": STREAMS, "proxies": {}}
    for proxy in proxies:
        prepared, memory = proxy.prepare(place), {}
        for kind, streams in ((IDLE_CONNECTIONS, 0), (IDLE_STREAMS, STREAMS)):
            if kind in proxy.gaps:
                print(f"{proxy.name:9}{kind}: not measured: {proxy.gaps[kind]}", flush=True)
                continue
            try:
                memory[kind] = measure_held(place, prepared, connections, streams)
            except OSError as error:
                memory[kind] = {
                    "before_mb": 0.0,
                    "grown_mb": 0.0,
                    "held": 0,
                    "wrong": [f"the clients could not be held: {error}"],
                }
            print(f"{proxy.name:9}{kind}: {render_held(memory[kind])}", flush=True)
        found["proxies"][proxy.name] = memory
    return found


def render_held(held: dict[str, Any]) -> str:
    """Render the memory of one proxy with one kind of clients as a line of progress."""
    wrong = "".join(f"  !! {text}" for text in held["wrong"])
    return f"{held['before_mb']:.1f} MB before, {held['grown_mb']:+.1f} MB{wrong}"
