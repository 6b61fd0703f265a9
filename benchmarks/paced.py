"""A client that holds a rate: requests fall due evenly, whether or not those before them have been answered.

Takes a port, a host, a target and a rate; gives one line of JSON. A request's latency counts from when it was due, not
from when a connection was free to send it, so a proxy that stalls is charged for all that should have been sent
meanwhile. Sockets are driven by hand: this shares its core with the servers. Standard library only.
"""

import argparse
import gc
import json
import re
import select
import socket
import sys
import time

LENGTH = re.compile(rb"content-length:[ \t]*(\d+)", re.IGNORECASE)
GRACE_S = 1.0
"""How long answers are waited for once the last request was due."""
IN_TIME_S = 0.02
"""How long after that an answer still shows that the rate was held, and no backlog worked off."""


class Connection:
    """One kept connection, with at most one request under way."""

    __slots__ = ("due", "head", "missing", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.head = b""
        self.missing = -1

    def receive(self) -> bool:
        """Take what came in; tells whether the answer is whole. Raises OSError when it is not the one hoped for."""
        data = self.sock.recv(262144)
        if not data:
            raise ConnectionResetError
        if self.missing < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return False
            found = LENGTH.search(self.head, 0, end)
            if self.head[9:12] != b"200" or not found:
                raise ConnectionAbortedError(self.head[:end])
            self.missing, data = int(found[1]), self.head[end + 4 :]
        self.missing -= len(data)
        if self.missing:
            return False
        self.head, self.missing = b"", -1
        return True


class Client:
    """Sends what is due over whichever connection is free."""

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self._port, self._request = port, request
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._end = 0.0
        self.latencies_s: list[float] = []
        self.late_s: list[float] = []
        self.sent = self.failed = self.unanswered = self.in_time = 0
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        """Open a connection and send one request that is not counted."""
        connection = Connection(self._port)
        connection.sock.sendall(self._request)
        while not connection.receive():
            pass
        connection.sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._connections[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def run(self, rate: float, seconds: float) -> None:
        """Hold the rate for some seconds, then wait a moment for the last answers."""
        count, interval_s, number = int(rate * seconds), 1 / rate, 0
        clock, idle = time.perf_counter, self._idle
        start = clock()
        last = start + seconds + GRACE_S
        self._end = start + seconds + IN_TIME_S
        while (now := clock()) < last:
            while number < count and idle and start + number * interval_s <= now:
                self._send(idle.pop(), start + number * interval_s)
                number += 1
            if number == count and len(idle) == len(self._connections):
                break
            wake = start + number * interval_s if idle and number < count else last
            self._wait(wake)
        end = clock()
        busy = [each.due for each in self._connections.values() if each.due]
        self.unanswered = count - number + len(busy)
        self.latencies_s += [end - due for due in busy]  # at least that long
        self.latencies_s += [end - (start + each * interval_s) for each in range(number, count)]

    def _send(self, connection: Connection, due: float) -> None:
        connection.due = due
        self.sent += 1
        self.late_s.append(time.perf_counter() - due)
        try:
            connection.sock.send(self._request)
        except OSError:
            self._fail(connection)

    def _wait(self, wake: float) -> None:
        """Wait for answers until a time; select takes microseconds, where epoll takes milliseconds."""
        select.select([self._epoll.fileno()], [], [], max(0.0, wake - time.perf_counter()))
        for descriptor, _ in self._epoll.poll(0):
            connection = self._connections[descriptor]
            try:
                if connection.receive():
                    now = time.perf_counter()
                    self.latencies_s.append(now - connection.due)
                    self.in_time += now < self._end
                    connection.due = 0.0
                    self._idle.append(connection)
            except OSError:
                self._fail(connection)

    def _fail(self, connection: Connection) -> None:
        """Count a failure and open another connection in its place."""
        self.failed += 1
        del self._connections[connection.sock.fileno()]
        self._epoll.unregister(connection.sock.fileno())
        connection.sock.close()
        if self.failed < 1000:
            self._connect()


def get_percentile_us(values: list[float], share: float) -> int:
    """Get a percentile of sorted values in seconds, as microseconds."""
    return round(values[min(len(values) - 1, int(len(values) * share))] * 1e6) if values else 0


def main() -> int:
    """Run once and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("host")
    parser.add_argument("target")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    headers = f"Host: {options.host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\nX-Request-Id: 9e3779b1-00000001\r\n"
    client = Client(options.port, f"GET {options.target} HTTP/1.1\r\n{headers}\r\n".encode(), options.connections)
    gc.disable()
    client.run(options.rate, options.seconds)
    latencies, late = sorted(client.latencies_s), sorted(client.late_s)
    answered = len(latencies) - client.unanswered
    report = {
        "requests": answered,
        "in_time": client.in_time,
        "sent": client.sent,
        "failed": client.failed,
        "unanswered": client.unanswered,
    }
    report |= {"warm_up": options.connections, "duration_us": round(options.seconds * 1e6)}
    for name, share in (("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)):
        report[name] = get_percentile_us(latencies, share)
    report["late_p99_us"] = get_percentile_us(late, 0.99)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
