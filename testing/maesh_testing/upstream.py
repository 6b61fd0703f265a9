"""A server to stand behind the mesh, which answers as a test says and keeps what it was asked."""

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

KEPT_REQUESTS = 1000


class Request(NamedTuple):
    """A request as it arrived; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    timeout = 30
    server: "Upstream"

    def answer(self) -> None:
        upstream = self.server
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        upstream.record(Request(self.command, self.path, headers, body))
        if upstream.delay_s:
            time.sleep(upstream.delay_s)
        content = json.dumps(headers).encode() if self.path == "/headers" else upstream.body
        self.send_response(upstream.status)
        for name, value in {"Content-Length": str(len(content)), **upstream.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if self.command != "HEAD" else b"")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - as the base class has them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class Upstream(ThreadingHTTPServer):
    """Answers every request with `status`, `headers` and `body` (its name), and /headers with those that it got.

    `count` says how many requests there were; `requests` keeps the last 1000. `delay_s` is how long each takes.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, name: str, port: int, address: str = "127.0.0.1") -> None:
        super().__init__((address, port), _Handler)
        self.name, self.address, self.port = name, address, port
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = name.encode()
        self.delay_s = 0.0
        self.count = 0
        self.requests: deque[Request] = deque(maxlen=KEPT_REQUESTS)
        self._lock = threading.Lock()
        self._is_open = True
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def record(self, request: Request) -> None:
        """Count a request and keep it."""
        with self._lock:
            self.count += 1
            self.requests.append(request)

    def close(self) -> None:
        """Stop listening: from now on new connections are refused. Those that are open go on."""
        if self._is_open:
            self._is_open = False
            self.shutdown()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave a connection that was cut to the client: the tests look at what it sees."""
