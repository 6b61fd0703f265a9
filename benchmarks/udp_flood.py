"""A UDP service of Maesh under a flood of new clients: does its worker's memory stay, and is who comes after served?

Takes options; sends each datagram from an address and port of its own, as fast as a window of unanswered ones lets it.
Prints the worker's memory as it goes, and ends with 1 where that grew by more than 100 MB or a client that comes after
the flood is not answered. Everything it starts ends with it.
"""

import argparse
import contextlib
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from processes import ProcessGroup, measure_memory, run_to_end
from proxies import Site
from stream_proxies import StreamSite, build_stream_proxies, is_udp_served

FIRST_PORT, PORTS = 10_000, 10_000
"""Below those that the system gives to the proxy's sockets."""
FIRST_ADDRESS = (127 << 24) + (20 << 16) + 1
WINDOW = 256
ANSWER_S = 1.0
TOLD_EVERY = 200_000
GROWTH_LIMIT_MB = 100


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--datagrams", type=int, default=1_000_000)
    return parser.parse_args()


def list_sources() -> Iterator[tuple[str, int]]:
    """List addresses and ports, none of them twice."""
    number = 0
    while True:
        address = FIRST_ADDRESS + number // PORTS
        yield socket.inet_ntoa(address.to_bytes(4)), FIRST_PORT + number % PORTS
        number += 1


def open_client(source: tuple[str, int], port: int) -> socket.socket | None:
    """Send a datagram from a source; None where another program has it."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sock.bind(source)
        sock.connect(("127.0.0.1", port))
        sock.send(b"flood")
    except OSError:
        sock.close()
        return None
    return sock


def is_answered(sock: socket.socket) -> bool:
    """Take a client's answer, and end it."""
    with sock, contextlib.suppress(OSError):
        sock.settimeout(ANSWER_S)
        return sock.recv(64) == b"flood"
    return False


class Flood:
    """The clients of the flood, and what became of them."""

    def __init__(self, port: int, pid: int) -> None:
        self._port, self._pid = port, pid
        self._waiting: deque[socket.socket] = deque()
        self._begin = time.monotonic()
        self.sent = self.answered = 0

    def run(self, count: int) -> None:
        """Send so many datagrams."""
        for source in list_sources():
            if self.sent == count:
                break
            sock = open_client(source, self._port)
            if sock is None:
                continue
            self.sent += 1
            self._waiting.append(sock)
            if len(self._waiting) > WINDOW:
                self.answered += is_answered(self._waiting.popleft())
            if not self.sent % TOLD_EVERY:
                self.tell()
        self.answered += sum(map(is_answered, self._waiting))

    def tell(self) -> float:
        """Print how far it is; return the worker's memory in MB."""
        worker_mb = measure_memory(self._pid).worker_mb
        took_s = time.monotonic() - self._begin
        print(f"{self.sent:9,} datagrams after {took_s:4.0f} s: worker {worker_mb:.1f} MB", flush=True)
        return worker_mb


def main() -> int:
    """Flood, then look at the memory and be a client that comes after."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="maesh-flood-") as name, ProcessGroup(Path(name)) as group:
        place = StreamSite(Site(group, Path(name)))
        place.start_servers()
        prepared = build_stream_proxies()["maesh"].prepare(place)
        flood = Flood(prepared.ports.udp, prepared.start().pid)
        before_mb = flood.tell()
        flood.run(options.datagrams)
        after_mb = flood.tell()
        is_served = is_udp_served(prepared.ports.udp)
    growth_mb = after_mb - before_mb
    print(
        f"{flood.answered:,} of {flood.sent:,} new clients answered, proxy as {place.user} with {place.open_files:,}"
        f" descriptors; the worker grew by {growth_mb:.1f} MB; a client that came after was"
        f" {'served' if is_served else 'not served'}"
    )
    return 0 if growth_mb <= GROWTH_LIMIT_MB and is_served else 1


if __name__ == "__main__":
    run_to_end(main)
