"""What one client can do to others: a program that attacks a proxy on 127.0.0.1 until it is ended, or its time is over.

Takes the kind of attack, the proxy's port and a host; prints one line of JSON with what it did. It sends buffers that
are built beforehand and throws away what it reads, since it shares its core with the clients that are measured. `serve`
is the server behind the drip: it answers a GET with chunks of one byte without end, and reads all that it is sent.
"""

import argparse
import contextlib
import json
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any

BURST_BYTES = 8_000_000
ONE_BYTE_CHUNKS = b"1\r\nz\r\n" * 20_000
BUFFER_BYTES = 1 << 20
CONDITIONS, LONG_PAIRS = 15, 800
"""The number of header fields and query parameters that costly rules read, and how often the value that patterns read
repeats `ab`: it stays just below the limit of patterns."""
CONNECT_LIMIT_S = 0.5
WAIT_S = 0.1
"""How long a wait may last before the end is looked for."""
RECONNECT_PAUSE_S = 0.001
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Attack:
    """One attack under way, and what it has done so far."""

    port: int
    host: str
    addresses: list[str]
    connections: int
    end: float
    made: int = 0
    refused: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    open_at_end: int = 0
    is_stopped: bool = field(default=False, repr=False)

    def is_over(self) -> bool:
        """Return whether to end."""
        return self.is_stopped or time.monotonic() > self.end

    def connect(self, address: str) -> socket.socket | None:
        """Connect from an address; None where that fails."""
        connection = socket.socket()
        connection.settimeout(CONNECT_LIMIT_S)
        try:
            connection.bind((address, 0))
            connection.connect(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            self.refused += 1
            time.sleep(RECONNECT_PAUSE_S)
            return None
        self.made += 1
        return connection

    def build_head(self, method: str, more: str = "") -> bytes:
        """Build the head of a request."""
        return f"{method} / HTTP/1.1\r\nHost: {self.host}\r\n{more}\r\n".encode()

    def stream(self, first: bytes, again: bytes) -> None:
        """Send `first` and then `again` over and over on one connection, read all, and connect again when it ends."""
        while not self.is_over():
            connection = self.connect(self.addresses[0])
            if connection is not None:
                with connection, contextlib.suppress(OSError):
                    self._stream_once(connection, first, again)
                time.sleep(RECONNECT_PAUSE_S)

    def _stream_once(self, connection: socket.socket, first: bytes, again: bytes) -> None:
        connection.settimeout(0)
        poll, buffer, left = select.poll(), bytearray(BUFFER_BYTES), memoryview(first)
        poll.register(connection, select.POLLIN | (select.POLLOUT if first else 0))
        while not self.is_over():
            for _, event in poll.poll(WAIT_S * 1000):
                if event & select.POLLOUT:
                    size = connection.send(left)
                    self.sent_bytes += size
                    left = left[size:] or memoryview(again)
                    if not left:
                        poll.modify(connection, select.POLLIN)
                if event & ~select.POLLOUT:
                    size = connection.recv_into(buffer)
                    self.received_bytes += size
                    if not size:
                        return


def pipeline(attack: Attack) -> None:
    """Send 8 MB of requests at once, and again, without waiting for answers."""
    head = attack.build_head("GET")
    burst = head * (BURST_BYTES // len(head))
    attack.stream(burst, burst)


def match(attack: Attack) -> None:
    """Pipeline requests that meet all but one of the conditions of each rule of their route (fairness.py)."""
    query = "&".join(f"q{number}=%31" for number in range(CONDITIONS))
    fields = "".join(f"x-{number}: 1\r\n" for number in range(CONDITIONS)) + f"x-long: {'ab' * LONG_PAIRS}\r\n"
    head = f"GET /v2?{query} HTTP/1.1\r\nHost: {attack.host}\r\n{fields}\r\n".encode()
    burst = head * (BURST_BYTES // len(head))
    attack.stream(burst, burst)


def drip_up(attack: Attack) -> None:
    """Upload a body without end in chunks of one byte."""
    attack.stream(attack.build_head("POST", "Transfer-Encoding: chunked\r\n"), ONE_BYTE_CHUNKS)


def drip_down(attack: Attack) -> None:
    """Ask a server for a body without end in chunks of one byte."""
    attack.stream(attack.build_head("GET"), b"")


def flood(attack: Attack) -> None:
    """Open many connections, send one request on each, and keep them; one that ends is opened again."""
    head, held = attack.build_head("GET"), dict[int, socket.socket]()
    addresses, poll = cycle(attack.addresses), select.epoll()
    try:
        while not attack.is_over():
            is_full = len(held) >= attack.connections
            connection = None if is_full else attack.connect(next(addresses))
            if connection is not None:
                with contextlib.suppress(OSError):
                    attack.sent_bytes += connection.send(head)
                held[connection.fileno()] = connection
                poll.register(connection, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
            for descriptor, _ in poll.poll(WAIT_S if is_full else 0):
                held.pop(descriptor).close()
        attack.open_at_end = len(held)
    finally:
        poll.close()
        for connection in held.values():
            connection.close()


def reset(attack: Attack) -> None:
    """Connect, send a request and reset, over and over."""
    head = attack.build_head("GET")
    while not attack.is_over():
        connection = attack.connect(attack.addresses[0])
        if connection is not None:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                attack.sent_bytes += connection.send(head)


KINDS: dict[str, Callable[[Attack], None]] = {
    "pipeline": pipeline,
    "match": match,
    "drip-up": drip_up,
    "drip-down": drip_down,
    "flood": flood,
    "reset": reset,
}


def serve(address: str, port: int) -> None:
    """Serve the drip, in a thread for each connection."""
    with socket.create_server((address, port), backlog=1024) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


def _serve_one(connection: socket.socket) -> None:
    buffer = bytearray(BUFFER_BYTES)
    with connection, contextlib.suppress(OSError):
        if connection.recv_into(buffer) and buffer.startswith(b"POST"):
            while connection.recv_into(buffer):
                pass
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                connection.sendall(ONE_BYTE_CHUNKS)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=[*KINDS, "serve"])
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="")
    parser.add_argument("--addresses", default="127.0.0.1", help="whom to come from, or for serve where to listen")
    parser.add_argument("--connections", type=int, default=20_000, help="how many a flood opens")
    parser.add_argument("--seconds", type=float, default=60, help="the longest that it lasts")
    return parser.parse_args()


def main() -> int:
    """Attack, and tell what was done."""
    options = parse_options()
    addresses = options.addresses.split(",")
    if options.kind == "serve":
        serve(addresses[0], options.port)
    end = time.monotonic() + options.seconds
    attack = Attack(options.port, options.host, addresses, options.connections, end)

    def stop(*_: Any) -> None:
        attack.is_stopped = True

    signal.signal(signal.SIGTERM, stop)
    KINDS[options.kind](attack)
    print(json.dumps(asdict(attack)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
