"""Traffic whose every outcome is known: a server that answers by path, and a script that counts what it has sent.

The script keeps the samples that a proxy's metrics must have, as `{(name, labels): value}`.
"""

import contextlib
import http.client
import re
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import h2.config
import h2.connection
import h2.events

CLIENT_LEFT, RESET = 499, struct.pack("ii", 1, 0)
SAMPLE = re.compile(r"^(maesh_\w+?)(?:_total)?(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
COUNTED = re.compile(
    r"maesh_(edge|entrypoint|http_refused_requests|server_attempts|udp_sessions|udp_(received|sent)|tcp)"
    r"|maesh_service_(?!servers_aside|server_ejections)"
)
SUMS = re.compile(r"_(bucket|sum)$")
CLOSED_LATE = "the upstream closed the connection during the response"
CLOSED_EARLY = "the upstream closed the connection without a response"
NOT_CONNECTED = "cannot connect to the upstream"
UNKNOWN_HOST = "no service of the mesh has this host"


def read_counters(text):
    """Read the counters that a script counts from a page of metrics, without those that are 0."""
    counters = {}
    for name, labels, value in SAMPLE.findall(text):
        if COUNTED.match(name) and not SUMS.search(name) and float(value):
            counters[name, frozenset(LABEL.findall(labels))] = float(value)
    return counters


class _Handler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    timeout = 60

    BODIES = {"ok": (200, b"hello"), "absent": (404, b"none"), "broken": (500, b"oops"), "busy": (503, b"busy")}

    def answer(self):
        path, _, argument = self.path.strip("/").partition("/")
        self._read_body()
        if path == "flaky":
            path = "ok" if self.server.has_seen(argument) else "busy"
        if path in self.BODIES:
            status, body = self.BODIES[path]
            self._respond(status, ("Content-Length", str(len(body))), body=body)
        elif path == "unchanged":
            self._respond(304)
        else:
            getattr(self, f"do_{path}")(argument)

    def _read_body(self):
        if "Transfer-Encoding" not in self.headers:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    do_GET = do_HEAD = do_POST = answer  # noqa: N815 - as the base class has them

    def _respond(self, status, *fields, body=b""):
        self.send_response(status)
        for field in fields:
            self.send_header(*field)
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def do_chunked(self, _):
        self._respond(200, ("Transfer-Encoding", "chunked"), body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")

    def do_grpc(self, status):
        fields = ("Transfer-Encoding", "chunked"), ("Content-Type", "application/grpc")
        self._respond(200, *fields, body=b"5\r\nhello\r\n0\r\ngrpc-status: %b\r\n\r\n" % status.encode())

    def do_cut(self, _):
        self._respond(200, ("Content-Length", "9"), body=b"hel")
        self.close_connection = True

    def do_silent(self, _):
        self.close_connection = True

    def do_hang(self, _):
        self.rfile.read(1)  # until the proxy closes
        self.close_connection = True

    def do_tunnel(self, _):
        self._respond(101, ("Connection", "upgrade"), ("Upgrade", "echo"))
        self.wfile.flush()
        while data := self.connection.recv(65536):
            self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *_):
        pass


class ScriptedServer(ThreadingHTTPServer):
    """Answers by path; `/flaky/NAME` fails once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    address = "127.0.0.1"

    def __init__(self):
        super().__init__((self.address, 0), _Handler)
        self.port = self.server_address[1]
        self._seen, self._lock = set(), threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def has_seen(self, name):
        with self._lock:
            is_known = name in self._seen
            self._seen.add(name)
            return is_known

    def handle_error(self, request, client_address):
        pass


class EchoServer:
    """Sends back what it receives, over TCP and UDP on one port."""

    def __init__(self):
        self.streams = socket.create_server(("127.0.0.1", 0))
        self.port = self.streams.getsockname()[1]
        self.datagrams = socket.socket(type=socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", self.port))
        for serve in (self._serve_streams, self._serve_datagrams):
            threading.Thread(target=serve, daemon=True).start()

    def _serve_streams(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.streams.accept()
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data)

    def _serve_datagrams(self):
        with contextlib.suppress(OSError):
            while True:
                data, client = self.datagrams.recvfrom(65536)
                if client is None:  # it was shut down
                    return
                self.datagrams.sendto(data, client)

    def close(self):
        for sock in (self.streams, self.datagrams):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Script:
    """Sends requests through a mesh, and counts them."""

    def __init__(self, port, server_label):
        self.port, self.server_label = port, server_label
        self.counters = Counter()
        self._connections = {}
        self._flaky = 0

    def close(self):
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # --- what a proxy must have counted

    def count(self, name, value=1, /, **labels):
        if value:
            self.counters[f"maesh_{name}", frozenset(labels.items())] += value

    def note(self, service, status, *, client="127.0.0.1", protocol="http/1", received=0, sent=0, reason="", **more):
        """Count one request; `outcomes` are those of the attempts."""
        outcomes = more.get("outcomes", () if reason else ("error" if status >= 500 else "response",))
        key = {"service": f"test/{service}:80"}
        self.count("entrypoint_requests", entrypoint=str(self.port))
        self.count("service_requests", protocol=protocol, code=str(status), **key)
        self.count("service_request_duration_seconds_count", **key)
        self.count("service_upstream_duration_seconds_count", sum(each != "failure" for each in outcomes), **key)
        self.count("service_attempts", more.get("attempts", len(outcomes)), **key)
        self.count("service_retries", max(0, len(outcomes) - 1), **key)
        self.count("service_request_bytes", received, **key)
        self.count("service_response_bytes", sent, **key)
        if reason:
            self.count("service_answers", code=str(status), reason=reason, **key)
        if "cut" in more:
            self.count("service_cut_responses", reason=more["cut"], **key)
        if "grpc" in more:
            self.count("service_grpc_responses", grpc_status=str(more["grpc"]), **key)
        for outcome in outcomes:
            self.count("server_attempts", server=more.get("server", self.server_label), outcome=outcome)
        self.count("edge_requests", client=client, **key)
        self.count("edge_failures", int(status >= 500), client=client, **key)

    # --- requests

    def ask(self, service, path, *, method="GET", body=None, client="127.0.0.1", **more):
        """Send a request over a kept connection, and count it as what came back."""
        connection = self._connections.get(client)
        if connection is None:
            source = (client, 0)
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=source)
            self._connections[client] = connection
        connection.request(method, path, body, {"Host": f"{service}.test.maesh"})
        response = connection.getresponse()
        content, reason = response.read(), response.headers.get("X-Maesh-Reason", "")
        fields = {"client": client, "received": len(body or b""), "sent": len(content), "reason": reason, **more}
        self.note(service, response.status, **fields)
        return response.status

    def ask_flaky(self):
        self._flaky += 1
        status = self.ask("retried", f"/flaky/{self._flaky}", outcomes=("error", "response"))
        assert status == 200

    def open(self, request):
        """Send bytes on a connection of their own."""
        sock = socket.create_connection(("127.0.0.1", self.port), 60)
        sock.sendall(request)
        return sock

    def ask_for_cut(self):
        with self.open(b"GET /cut HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n") as sock, contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        self.note("app", 200, sent=3, cut=CLOSED_LATE)

    def leave(self):
        """Send a request that is never answered, and leave once it has reached the server."""
        with self.open(b"GET /hang HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n") as sock:
            sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                sock.recv(1)
        self.note("app", CLIENT_LEFT, outcomes=(), attempts=1)

    def ask_as_http_1_0(self):
        with self.open(b"GET /chunked HTTP/1.0\r\nHost: app.test.maesh\r\n\r\n") as sock:
            assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"\r\n\r\nhello")
        self.note("app", 200, sent=5)

    def send_chunks(self):
        head = b"POST /ok HTTP/1.1\r\nHost: app.test.maesh\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
        with self.open(head + b"\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n") as sock:
            assert b"".join(iter(lambda: sock.recv(65536), b"")).startswith(b"HTTP/1.1 200")
        self.note("app", 200, received=6, sent=5)

    def use_tunnel(self):
        head = b"GET /tunnel HTTP/1.1\r\nHost: app.test.maesh\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        with self.open(head) as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 101")
            sock.sendall(b"through the tunnel")
            assert sock.recv(65536) == b"through the tunnel"
        self.note("app", 101, received=18, sent=18)

    def send_nonsense(self):
        with self.open(b"nonsense\r\n\r\n") as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 400")
        self.count("http_refused_requests", code="400")

    def ask_unknown_host(self):
        with self.open(b"GET / HTTP/1.1\r\nHost: none.test.maesh\r\nConnection: close\r\n\r\n") as sock:
            assert sock.recv(65536).startswith(b"HTTP/1.1 404")
        self.count("http_refused_requests", code="404")
        self.count("entrypoint_requests", entrypoint=str(self.port))

    def call(self, statuses):
        """Make gRPC calls over one connection of HTTP/2, and a plain request."""
        with socket.create_connection(("127.0.0.1", self.port), 60) as sock:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            connection.initiate_connection()
            for status in statuses:
                path, fields = f"/grpc/{status}", [("content-type", "application/grpc"), ("te", "trailers")]
                self._ask_over_http2(sock, connection, "POST", path, fields, b"call")
                self.note("app", 200, protocol="http/2", received=4, sent=5, grpc=status)
            self._ask_over_http2(sock, connection, "GET", "/ok", [])
            self.note("app", 200, protocol="http/2", sent=5)

    def _ask_over_http2(self, sock, connection, method, path, fields, body=b""):
        stream = connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "app.test.maesh"), (":path", path)]
        connection.send_headers(stream, [*head, *fields], end_stream=not body)
        if body:
            connection.send_data(stream, body, end_stream=True)
        while True:
            sock.sendall(connection.data_to_send())
            for event in connection.receive_data(sock.recv(65536)):
                assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated)
                if isinstance(event, h2.events.StreamEnded):
                    return

    # --- streams

    def use_tcp(self, entrypoint, size=1000):
        with socket.create_connection(("127.0.0.1", entrypoint), 60) as sock:
            sock.sendall(b"x" * size)
            assert len(sock.recv(size, socket.MSG_WAITALL)) == size
        key = {"service": "test/stream:80"}
        for name, value in {
            "connections": 1,
            "closed_connections": 1,
            "received_bytes": size,
            "sent_bytes": size,
        }.items():
            self.count(f"tcp_{name}", value, **key)
        self.count("edge_connections", client="127.0.0.1", **key)

    def use_udp(self, entrypoint, datagrams=3):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", entrypoint))
            sock.settimeout(60)
            for _ in range(datagrams):
                sock.send(b"datagram")
                assert sock.recv(100) == b"datagram"
        key = {"service": "test/datagrams:53"}
        self.count("udp_sessions", **key)
        self.count("edge_connections", client="127.0.0.1", **key)
        for way in ("received", "sent"):
            self.count(f"udp_{way}_datagrams", datagrams, **key)
            self.count(f"udp_{way}_bytes", 8 * datagrams, **key)
