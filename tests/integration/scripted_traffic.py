"""Traffic whose every outcome is known: a script sends it, and counts what it sends and what comes back."""

import contextlib
import socket
import time
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events

from maesh_core.model.traffic_record import CLIENT_LEFT, DENIED, NO_SERVER_ACCEPTED, UPSTREAM_LOST

from .scripted_counts import CLIENT_LEFT_STATUS, INTERNAL, UNAVAILABLE, ExpectedCounts, Request
from .scripted_durations import Span


class Response(NamedTuple):
    status: int
    reason: str
    content: bytes


def parse_responses(data, requests):
    """Parse the responses to pipelined requests."""
    responses = []
    for request in requests:
        head, blank, data = data.partition(b"\r\n\r\n")
        assert blank, f"no response to {request}"
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        status, content = int(head[9:12]), b""
        if "Transfer-Encoding" in fields:
            while True:
                size, _, data = data.partition(b"\r\n")
                chunk, data = data[: int(size, 16)], data[int(size, 16) + 2 :]
                content += chunk
                if not chunk:
                    break
        elif request.method != "HEAD":
            length = int(fields.get("Content-Length", 0))
            content, data = data[:length], data[length:]
        responses.append(Response(status, fields.get("X-Maesh-Reason", ""), content))
    assert not data
    return responses


class Script(ExpectedCounts):
    """Sends requests through a mesh, and counts them."""

    def __init__(self, port, server_label, *, is_logged=True):
        super().__init__(port, server_label, is_logged=is_logged)
        self._sockets = []
        self._flaky = 0

    def close(self):
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    # --- requests over HTTP/1

    def exchange(self, data, client="127.0.0.1"):
        """Send bytes on a connection of their own, and return what comes back until its end."""
        self._began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), 60, source_address=(client, 0)) as sock:
            sock.sendall(data)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    def ask(self, requests, client="127.0.0.1"):
        """Send pipelined requests over one connection, and count each as what came back."""
        *former, last = requests
        data = b"".join([*(request.render() for request in former), last.render("Connection: close")])
        responses = parse_responses(self.exchange(data, client), requests)
        for request, (status, reason, content) in zip(requests, responses, strict=True):
            self.note(request, status, client=client, received=len(request.body), sent=len(content), reason=reason)
        return responses

    def build_flaky(self):
        """Build a request that fails at the first attempt only."""
        self._flaky += 1
        return Request(f"/flaky/{self._flaky}", "retried", outcomes=("error", "response"))

    def open(self, request):
        self._began = time.monotonic()
        sock = socket.create_connection(("127.0.0.1", self.port), 60)
        sock.sendall(request)
        return sock

    def ask_for_cut(self):
        request = Request("/cut")
        with self.open(request.render()) as sock, contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        self.note(request, 200, sent=3, cut=UPSTREAM_LOST)

    def leave(self, has_request):
        """Send a request that is never answered, and leave once it has reached the server."""
        request = Request("/hang", outcomes=())
        with self.open(request.render()):
            assert has_request.acquire(timeout=60)
        self.note(request, CLIENT_LEFT_STATUS, attempts=1, ended=CLIENT_LEFT)

    def leave_within_response(self):
        request, data = Request("/stall", outcomes=("response",)), b""
        with self.open(request.render()) as sock:
            while not data.endswith(b"\r\n\r\nhel"):
                data += sock.recv(65536)
        self.note(request, CLIENT_LEFT_STATUS, sent=3, ended=CLIENT_LEFT)

    def ask_as_http_1_0(self):
        request = Request("/chunked")
        answer = self.exchange(request.render().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answer.endswith(b"\r\n\r\nhello")
        self.note(request, 200, protocol="HTTP/1.0", sent=5)

    def send_chunks(self):
        request = Request("/ok", method="POST")
        head = request.render("Transfer-Encoding: chunked", "Connection: close")
        assert self.exchange(head + b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200")
        self.note(request, 200, received=6, sent=5)

    def use_tunnel(self):
        request = Request("/tunnel")
        with self.open(request.render("Connection: upgrade", "Upgrade: echo")) as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 101")
            sock.sendall(b"through the tunnel")
            assert sock.recv(65536) == b"through the tunnel"
        self.note(request, 101, received=18, sent=18)

    def send_nonsense(self):
        (response,) = parse_responses(self.exchange(b"nonsense\r\n\r\n"), [Request("")])
        self.count("http_refused_requests", code="400")
        self.record(DownstreamStatus=response.status, Reason=response.reason)

    def ask_unknown_host(self):
        request = Request("/", "none")
        (response,) = parse_responses(self.exchange(request.render("Connection: close")), [request])
        self.count("http_refused_requests", code="404")
        self.count("entrypoint_requests", entrypoint=str(self.port), code="404")
        self.time(
            "entrypoint_request_duration_seconds",
            Span(0.0, self._began, time.monotonic()),
            entrypoint=str(self.port),
        )
        self.record(
            RequestPath="/",
            RequestHost="none.test.maesh",
            RequestMethod="GET",
            DownstreamStatus=404,
            Reason=response.reason,
            DownstreamContentSize=len(response.content),
        )

    # --- requests over HTTP/2

    def call(self, dead):
        """Make gRPC calls with each status over one connection, one that is cut, one that is not sent, and a request.

        `dead` is a server that does not exist.
        """
        calls: list[tuple[Request, dict[str, Any]]] = [
            (Request(f"/grpc/{status}", method="POST"), {"grpc": status, "sent": 5}) for status in range(17)
        ]
        calls.append((Request("/grpccut", method="POST"), {"grpc": INTERNAL, "sent": 5, "cut": UPSTREAM_LOST}))
        lost = Request("/grpc/0", "dead", "POST", outcomes=("failure",), server=dead)
        calls.append((lost, {"grpc": UNAVAILABLE, "status": 502, "reason": "cannot connect to the upstream"}))
        calls.append((Request("/ok"), {"sent": 5}))
        self._ask_over_http2([request for request, _ in calls])
        for request, fields in calls:
            received = 4 if "grpc" in fields else 0
            self.note(request, fields.pop("status", 200), protocol="HTTP/2", received=received, **fields)

    def _ask_over_http2(self, requests):
        self._began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), 60) as sock:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            connection.initiate_connection()
            for request in requests:
                stream = connection.get_next_available_stream_id()
                authority = f"{request.service}.test.maesh"
                head = [(":method", request.method), (":scheme", "http"), (":authority", authority)]
                head.append((":path", request.path))
                if request.method == "POST":
                    call = [("content-type", "application/grpc"), ("te", "trailers")]
                    connection.send_headers(stream, [*head, *call])
                    connection.send_data(stream, b"call", end_stream=True)
                else:
                    connection.send_headers(stream, head, end_stream=True)
            ended = 0
            while ended < len(requests):
                sock.sendall(connection.data_to_send())
                for event in connection.receive_data(sock.recv(65536)):
                    assert not isinstance(event, h2.events.ConnectionTerminated)
                    ended += isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)

    # --- streams

    def count_parts(self, protocol, nouns, *, service, server, branch, rule):
        """Count for a server, and for a branch and a rule if the service's traffic has them, what nouns name."""
        for noun, value in nouns.items():
            self.count(f"{protocol}_server_{noun}", value, server=server)
            self.count(
                f"{protocol}_branch_{noun}", value * bool(branch), service=service, destination=f"{service}/{branch}"
            )
            self.count(f"{protocol}_rule_{noun}", value * bool(rule), service=service, rule=f"{service}/{rule}")

    def note_stream(self, protocol, entrypoint, service, size=0, **fields):
        """Count and record a connection or session; `branch` is that of the service's traffic."""
        branch = fields.pop("branch", "")
        self.count("edge_connections", client="127.0.0.1", service=service)
        self.record(
            Kind=protocol.lower(),
            RequestProtocol=protocol,
            entryPointName=str(entrypoint),
            RouterName=service,
            ServiceName=f"{service}/{branch}" if branch else service,
            **{"RequestContentSize": size, "DownstreamContentSize": size, "Attempts": 1, **fields},
        )

    def use_tcp(self, entrypoint, server, name="stream", *, branch="", rule="", size=1000):
        with socket.create_connection(("127.0.0.1", entrypoint), 60) as sock:
            sock.sendall(b"x" * size)
            assert len(sock.recv(size, socket.MSG_WAITALL)) == size
        key = {"service": f"test/{name}:80"}
        counts = {"connections": 1, "closed_connections": 1, "received_bytes": size, "sent_bytes": size}
        for name, value in counts.items():
            self.count(f"tcp_{name}", value, **key)
        counts.pop("closed_connections")
        self.count_parts("tcp", counts, **key, server=server, branch=branch, rule=rule)
        self.note_stream("TCP", entrypoint, **key, size=size, ServiceAddr=server, branch=branch)

    def use_dead_tcp(self, entrypoint, server, name="deadstream", *, branch="", rule=""):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", entrypoint), 60) as sock:
            assert sock.recv(1) == b""
        key = {"service": f"test/{name}:80"}
        for name in ("connections", "closed_connections", "refused_connections", "failed_connects"):
            self.count(f"tcp_{name}", **key)
        self.count("tcp_rule_refused_connections", int(bool(rule)), **key, rule=f"{key['service']}/{rule}")
        self.count_parts("tcp", {"failed_connects": 1}, **key, server=server, branch=branch, rule=rule)
        self.note_stream("TCP", entrypoint, **key, ServiceAddr=server, Reason=NO_SERVER_ACCEPTED, branch=branch)

    def use_denied_tcp(self, entrypoint, service):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", entrypoint), 60) as sock:
            assert sock.recv(1) == b""
        key = {"service": service}
        for name in ("connections", "closed_connections", "denied_connections"):
            self.count(f"tcp_{name}", **key)
        self.count("acl_denied", reason="client", **key)
        self.count("edge_denied", client="127.0.0.1", **key)
        self.note_stream("TCP", entrypoint, **key, Reason=DENIED, Attempts=0)

    def use_denied_udp(self, entrypoint, service):
        """Send a datagram for which no session may begin."""
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"datagram", ("127.0.0.1", entrypoint))
        key = {"service": service}
        self.count("udp_denied_sessions", **key)
        self.count("acl_denied", reason="client", **key)
        self.count("edge_denied", client="127.0.0.1", **key)
        self.record(
            Kind="udp",
            RequestProtocol="UDP",
            entryPointName=str(entrypoint),
            RouterName=service,
            ServiceName=service,
            RequestContentSize=8,
            Reason=DENIED,
        )

    def use_udp(self, entrypoint, server, name="datagrams", *, branch="", rule="", datagrams=3):
        """Use a session; its socket stays open, so that no later session has the same address."""
        sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sockets.append(sock)
        sock.connect(("127.0.0.1", entrypoint))
        sock.settimeout(60)
        for _ in range(datagrams):
            sock.send(b"datagram")
        for _ in range(datagrams):
            assert sock.recv(100) == b"datagram"
        key = {"service": f"test/{name}:53"}
        for name in ("sessions", "closed_sessions"):
            self.count(f"udp_{name}", **key)
        for way in ("received", "sent"):
            self.count(f"udp_{way}_datagrams", datagrams, **key)
            self.count(f"udp_{way}_bytes", 8 * datagrams, **key)
        size = 8 * datagrams
        counts = {"sessions": 1, "received_bytes": size, "sent_bytes": size}
        self.count_parts("udp", counts, **key, server=server, branch=branch, rule=rule)
        self.note_stream("UDP", entrypoint, **key, size=size, ServiceAddr=server, branch=branch)
