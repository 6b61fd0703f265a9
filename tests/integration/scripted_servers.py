"""Servers whose every answer is known: one of HTTP that answers by path, and one that sends back what it receives."""

import contextlib
import socket
import threading
import time
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

BODIES = {"ok": (200, b"hello"), "absent": (404, b"none"), "broken": (500, b"oops"), "busy": (503, b"busy")}


def render(status, body, *fields):
    """Render a response with a body of known length."""
    lines = (f"HTTP/1.1 {status} S", f"Content-Length: {len(body)}", *fields, "", "")
    return "\r\n".join(lines).encode() + body


CHUNKED = b"HTTP/1.1 200 S\r\nTransfer-Encoding: chunked\r\n"
CALL = CHUNKED + b"Content-Type: application/grpc\r\n\r\n5\r\nhello\r\n"
PART = b"HTTP/1.1 200 S\r\nContent-Length: 9\r\n\r\nhel"
"""The head of a response, and 3 bytes of its 9."""
RESPONSES = {
    **{path: render(*content) for path, content in BODIES.items()},
    "unchanged": b"HTTP/1.1 304 S\r\n\r\n",
    "chunked": CHUNKED + b"\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
}


def find_delay_s(path):
    """Return for how long the server waits before it answers a path: `/slow/20` takes 20 ms."""
    _, first, *rest = path.split("/")
    return int(rest[0]) / 1000 if first == "slow" else 0.0


class _Handler(StreamRequestHandler):
    server: Any
    timeout = 60
    disable_nagle_algorithm = True

    def handle(self):
        self.is_open = True
        with contextlib.suppress(OSError):
            while self.is_open and (line := self.rfile.readline()):
                method, target, _ = line.split(b" ", 2)
                fields = {}
                while (field := self.rfile.readline()).strip():
                    name, _, value = field.partition(b":")
                    fields[name.lower()] = value.strip()
                self._read_body(fields)
                self._answer(method, *target.decode().strip("/").partition("/"))

    def _read_body(self, fields):
        if b"transfer-encoding" not in fields:
            self.rfile.read(int(fields.get(b"content-length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    def _answer(self, method, path, _, argument):
        if path == "flaky":
            path = "ok" if self.server.has_seen(argument) else "busy"
        response = RESPONSES.get(path)
        if response is None:
            getattr(self, f"do_{path}")(argument)
        elif method == b"HEAD":
            self.wfile.write(response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        else:
            self.wfile.write(response)

    def do_slow(self, milliseconds):
        time.sleep(int(milliseconds) / 1000)
        self.wfile.write(RESPONSES["ok"])

    def do_grpc(self, status):
        self.wfile.write(CALL + b"0\r\ngrpc-status: %b\r\n\r\n" % status.encode())

    def do_grpccut(self, _):
        self.wfile.write(CALL)
        self.is_open = False

    def do_cut(self, _):
        self.wfile.write(PART)
        self.is_open = False

    def do_silent(self, _):
        self.is_open = False

    def do_hang(self, _):
        self.server.has_request.release()
        self.rfile.read(1)  # until the proxy closes
        self.is_open = False

    def do_stall(self, _):
        self.wfile.write(PART)
        self.rfile.read(1)
        self.is_open = False

    def do_tunnel(self, _):
        self.wfile.write(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        while data := self.connection.recv(65536):
            self.connection.sendall(data)
        self.is_open = False


class ScriptedServer(ThreadingTCPServer):
    """Answers by path; `/flaky/NAME` fails once. `has_request` is released for each request to `/hang`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    address = "127.0.0.1"

    def __init__(self):
        super().__init__((self.address, 0), _Handler)
        self.port = self.server_address[1]
        self.has_request = threading.Semaphore(0)
        self._seen, self._lock = set(), threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def has_seen(self, name):
        with self._lock:
            is_known = name in self._seen
            self._seen.add(name)
            return is_known

    def handle_error(self, request, client_address):
        pass

    def close(self):
        self.shutdown()
        self.server_close()


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
