"""What a proxy costs a node: the time from its start to the first request served, and its memory.

Takes the proxies that are installed; gives figures for each: after 1,000 requests, and with 2,000 connections that have
each been served once and lie idle. Maesh's controller is ready before its proxy starts, so the time holds starting
Python, pulling the configuration and opening the entrypoint.
"""

import argparse
import contextlib
import http.client
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from processes import Memory, find_free_port, measure_memory, stop, wait_until
from proxies import HOST, Prepared, Proxy, Site

REQUESTS, IDLE_CONNECTIONS = 1000, 2000
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def send_requests(port: int, count: int) -> None:
    """Send requests one after another over one connection; anything but 200 is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(count):
        connection.request("GET", "/", headers={"Host": HOST})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
    connection.close()


@contextlib.contextmanager
def hold_idle_connections(port: int, count: int) -> Iterator[None]:
    """Open connections, have each served once, and keep them."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            sock.sendall(REQUEST)
            if b" 200 " not in sock.recv(65536):
                raise RuntimeError("a connection was not served")
        yield


def measure_start(site: Site, prepared: Prepared, *, is_last: bool) -> dict[str, Any]:
    """Start a proxy and time its first answer; the last time, read its memory under both loads."""
    start = time.perf_counter()
    process = prepared.start(site)
    wait_until(prepared.is_serving, prepared.name)
    found: dict[str, Any] = {"served_s": time.perf_counter() - start}
    if is_last:
        send_requests(prepared.port, REQUESTS)
        found["used"] = asdict(measure_memory(process.pid))
        with hold_idle_connections(prepared.port, IDLE_CONNECTIONS):
            memory: Memory = measure_memory(process.pid)
            found["idle"] = asdict(memory)
    stop(process)
    return found


def measure_footprint(site: Site, proxies: Sequence[Proxy], options: argparse.Namespace) -> dict[str, Any]:
    """Measure every proxy, one at a time."""
    found = {}
    for proxy in proxies:
        prepared = proxy.prepare(site, find_free_port())
        starts = [
            measure_start(site, prepared, is_last=number == options.starts - 1) for number in range(options.starts)
        ]
        last = starts[-1]
        served_s = statistics.median(start["served_s"] for start in starts)
        found[proxy.name] = {"served_s": served_s, "used": last["used"], "idle": last["idle"]}
        print(
            f"{proxy.name:13}first request served after {served_s:.2f} s; {last['used']['total_mb']:.0f} MB in use,"
            f" {last['idle']['total_mb']:.0f} MB with {IDLE_CONNECTIONS} idle connections",
            flush=True,
        )
    return {"requests": REQUESTS, "connections": IDLE_CONNECTIONS, "proxies": found}


def estimate_footprint_s(proxies: int, options: argparse.Namespace) -> float:
    """Estimate how long that takes."""
    return proxies * (3.5 + 0.6 * float(options.starts))
