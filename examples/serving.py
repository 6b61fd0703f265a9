"""What the demo servers of the examples have in common. For trying things out, not for measuring."""

import socketserver
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

ServerT = TypeVar("ServerT", bound=socketserver.BaseServer)
Address = tuple[str, int]


class TextHandler(BaseHTTPRequestHandler):
    """Answers requests with a text."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one write, not in two that wait for each other (Nagle)

    def answer(self, text: str, status: int = 200) -> None:
        """Read the whole request, and answer it."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay silent: the terminal belongs to the mesh."""


class TextServer(ThreadingHTTPServer):
    """An HTTP server in threads that end with the process."""

    daemon_threads = True
    request_queue_size = 128


def start(build: Callable[[Address], ServerT], addresses: Iterable[Address]) -> list[ServerT]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [build(address) for address in addresses]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers
