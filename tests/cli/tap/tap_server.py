"""A controller that tests script: it serves `/api/services`, and a tap with the lines that a test puts in."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from maesh_core.model.tap import TappedRecord

PORT = {"name": "http", "port": 80, "protocol": "TCP", "entrypoint": 5000}
SERVICES: list[dict[str, Any]] = [
    {"namespace": "shop", "name": "web", "host": "web.shop.maesh", "trafficType": "http", "ports": [PORT]},
    {"namespace": "shop", "name": "api", "host": "api.shop.maesh", "trafficType": "http", "ports": [PORT]},
]


def build_record(**changes: Any) -> TappedRecord:
    fields: dict[str, Any] = {
        "kind": "http",
        "started_at": 1000.25,
        "duration_s": 0.012,
        "client": "10.0.0.1",
        "source": "shop/cart-0",
        "protocol": "HTTP/1.1",
        "service": "shop/web:80",
        "destination": "shop/web:80",
        "server": "10.0.0.7:8080",
        "attempts": 1,
        "status": 200,
        "method": "GET",
        "path": "/a",
    }
    return TappedRecord(**{**fields, **changes})


def render_record(**changes: Any) -> bytes:
    return msgspec.json.encode(build_record(**changes)) + b"\n"


class TapServer:
    """Serves until it is closed. A line of None ends the stream."""

    def __init__(self) -> None:
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.targets: list[str] = []
        self.refusal = b""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.targets.append(self.path)
                if self.path == "/api/services":
                    self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(SERVICES).encode())
                elif owner.refusal:
                    self.wfile.write(b"HTTP/1.0 503 Busy\r\n\r\n" + owner.refusal)
                else:
                    self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n\n")
                    while (line := owner.lines.get()) is not None:
                        self.wfile.write(line)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.lines.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
