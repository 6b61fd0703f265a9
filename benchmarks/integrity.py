"""Whether a TCP service of Maesh carries every bit: random data both ways at once, in odd pieces, with sudden pauses.

Takes options; starts a mesh, a server and a client, with a thread for each direction of each connection. What one end
sent and what the other received is counted and hashed on the way; prints a line, and ends with 1 where they differ.
Everything it starts ends with it.
"""

import argparse
import contextlib
import hashlib
import itertools
import multiprocessing
import queue
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, NamedTuple

from processes import ProcessGroup, run_to_end, wait_until
from proxies import ADDRESSES, Site
from stream_proxies import StreamSite, build_stream_proxies

POOL_BYTES = 64 << 20
CHUNK_BITS = 20
"""A piece has up to 2^20 bytes; as many have one to ten as have a thousand to ten thousand."""
PAUSE_EVERY_BYTES = 32 << 20
"""More or less: where an end falls silent, or deaf, for a while."""
PAUSE_LIMIT_S = 0.05
NAME_BYTES = 8
TIMEOUT_S = 60.0
SLOWEST_S_PER_GB = 60.0
WAYS = ("up", "down")


class Told(NamedTuple):
    """What one end sent or received on one connection."""

    connection: int
    direction: str
    end: str
    size: int
    digest: str


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=10, help="each way, over all connections (default 10)")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="default: another one each time")
    return parser.parse_args()


def choose_pieces(chance: random.Random, size: int) -> Iterator[int]:
    """Choose how many bytes to send or to ask for, until `size` are; sleeps now and then."""
    silent_at = chance.random() * 2 * PAUSE_EVERY_BYTES
    done = 0
    while done < size:
        piece = min(size - done, int(2 ** (chance.random() * CHUNK_BITS)))
        yield piece
        done += piece
        if done >= silent_at:
            time.sleep(chance.random() * PAUSE_LIMIT_S)
            silent_at = done + chance.random() * 2 * PAUSE_EVERY_BYTES


def send_all(sock: socket.socket, first: bytes, size: int, pool: memoryview, chance: random.Random) -> tuple[int, str]:
    """Send `size` bytes, the first ones given, the others from random places of the pool; then end the stream."""
    digest, sent = hashlib.sha256(first), len(first)
    sock.sendall(first)
    for piece in choose_pieces(chance, size - sent):
        place = chance.randrange(len(pool) - piece)
        sock.sendall(pool[place : place + piece])
        digest.update(pool[place : place + piece])
        sent += piece
    sock.shutdown(socket.SHUT_WR)
    return sent, digest.hexdigest()


def receive_all(sock: socket.socket, first: bytes, chance: random.Random) -> tuple[int, str]:
    """Receive until the stream ends, beginning with what has been received before."""
    digest, received = hashlib.sha256(first), len(first)
    buffer = memoryview(bytearray(1 << CHUNK_BITS))
    for piece in choose_pieces(chance, sys.maxsize):
        count = sock.recv_into(buffer[: max(piece, 1024)])
        if not count:
            break
        digest.update(buffer[:count])
        received += count
    return received, digest.hexdigest()


class End:
    """One end of all connections: `told` is where it says what it sent and received."""

    def __init__(self, name: str, options: argparse.Namespace, told: "Queue[Told]") -> None:
        self._name, self._told, self._seed = name, told, f"{options.seed} {name}"
        self._size = int(options.gigabytes * 1e9 / options.connections)
        self._pool = memoryview(random.Random(self._seed).randbytes(POOL_BYTES))
        self._threads: list[threading.Thread] = []

    def carry(self, sock: socket.socket, connection: int, first: bytes, received: bytes) -> None:
        """Begin both directions of a connection."""
        sock.settimeout(TIMEOUT_S)
        sends = random.Random(f"{self._seed} {connection} sends")
        receives = random.Random(f"{self._seed} {connection} receives")
        sent, heard = ("up", "down") if self._name == "client" else ("down", "up")
        self._begin(connection, sent, "sent", lambda: send_all(sock, first, self._size, self._pool, sends))
        self._begin(connection, heard, "received", lambda: receive_all(sock, received, receives))

    def _begin(self, connection: int, direction: str, end: str, work: Callable[[], tuple[int, str]]) -> None:
        def run() -> None:
            try:
                size, digest = work()
            except OSError as error:
                size, digest = -1, str(error)
            self._told.put(Told(connection, direction, end, size, digest))

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)

    def wait(self) -> None:
        """Wait until all has been told."""
        for thread in self._threads:
            thread.join()


def run_server(listener: socket.socket, options: argparse.Namespace, told: "Queue[Told]") -> None:
    """Take the connections of one address; each says first which it is."""
    end = End("server", options, told)
    listener.settimeout(1.0)
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        sock.settimeout(TIMEOUT_S)
        name = sock.recv(NAME_BYTES, socket.MSG_WAITALL)
        if len(name) == NAME_BYTES:  # who asks whether somebody listens says nothing
            end.carry(sock, int.from_bytes(name), b"", name)


def run_client(port: int, options: argparse.Namespace, told: "Queue[Told]") -> None:
    """Make the connections, and wait for their ends."""
    end = End("client", options, told)
    for connection in range(options.connections):
        sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        end.carry(sock, connection, connection.to_bytes(NAME_BYTES), b"")
    end.wait()


def judge(found: list[Told], connections: int, size: int) -> list[str]:
    """Find where what was received is not what was sent, or is not `size` bytes."""
    ends: dict[tuple[int, str], dict[str, Told]] = {}
    for told in found:
        ends.setdefault((told.connection, told.direction), {})[told.end] = told
    wrong = []
    for connection, direction in itertools.product(range(connections), WAYS):
        both = ends.get((connection, direction), {})
        sent, received = (both[end][3:] if end in both else None for end in ("sent", "received"))
        if sent is None or sent != received or sent[0] != size:
            wrong.append(f"connection {connection} {direction}: sent {sent}, received {received}")
    return wrong


def exchange(place: StreamSite, options: argparse.Namespace) -> list[Told]:
    """Start the ends, with the mesh between them, and gather what they tell."""
    context = multiprocessing.get_context("fork")
    told: Queue[Told] = context.Queue()
    workers: list[Any] = []
    for address in ADDRESSES:
        listener = socket.create_server((address, place.server_port), backlog=1024)
        workers.append(context.Process(target=run_server, args=(listener, options, told), daemon=True))
        workers[-1].start()
        listener.close()
    prepared = build_stream_proxies()["maesh"].prepare(place)
    prepared.launch()
    wait_until(lambda: is_open(prepared.ports.tcp), "the proxy", pause_s=0.05)
    workers.append(context.Process(target=run_client, args=(prepared.ports.tcp, options, told), daemon=True))
    workers[-1].start()
    found: list[Told] = []
    with contextlib.suppress(queue.Empty):
        while len(found) < 4 * options.connections:
            found.append(told.get(timeout=TIMEOUT_S + SLOWEST_S_PER_GB * options.gigabytes))
    return found


def is_open(port: int) -> bool:
    """Return whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def main() -> int:
    """Exchange, compare, judge."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="maesh-integrity-") as name, ProcessGroup(Path(name)) as group:
        place = StreamSite(Site(group, Path(name)))
        begin = time.monotonic()
        found = exchange(place, options)
        took_s = time.monotonic() - begin
    wrong = judge(found, options.connections, int(options.gigabytes * 1e9 / options.connections))
    received = [sum(told.size for told in found if told[1:3] == (way, "received")) for way in WAYS]
    print(
        f"{received[0]:,} bytes up and {received[1]:,} down over {options.connections} connections in {took_s:.0f} s,"
        f" seed {options.seed}, proxy as {place.user}: {'; '.join(wrong) or 'every bit as it was sent'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    run_to_end(main)
