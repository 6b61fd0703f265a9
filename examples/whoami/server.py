"""The demo server: answers every request with the request as it arrived, and which address it arrived at.

Listens on the addresses that whoami.yaml gives the two pods. For trying things out, not for measuring.
"""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESSES = (("127.0.1.1", 8801), ("127.0.1.2", 8801))


class WhoamiHandler(BaseHTTPRequestHandler):
    """Tells the client what the server sees of it."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one write, not in two that wait for each other (Nagle)

    def do_GET(self) -> None:
        """Answer with host name, addresses, request line and headers."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = [
            f"Hostname: {socket.gethostname()}",
            f"IP: {self.connection.getsockname()[0]}",
            "RemoteAddr: {}:{}".format(*self.client_address),
            self.requestline,
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - http.server names them so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay silent: the terminal belongs to the mesh."""


class WhoamiServer(ThreadingHTTPServer):
    """A demo server in threads that end with the process."""

    daemon_threads = True
    request_queue_size = 128


def start_servers() -> list[WhoamiServer]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [WhoamiServer(address, WhoamiHandler) for address in ADDRESSES]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    start_servers()
    print("whoami listens on", " and ".join(f"http://{host}:{port}" for host, port in ADDRESSES), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
