"""The demo server: answers every request with the name of the version that runs at the address it arrived at.

Listens on the addresses that canary.yaml gives the three pods. For trying things out, not for measuring.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSIONS = {"127.0.4.1": "v1", "127.0.4.2": "v2 blue", "127.0.4.3": "v2 green"}
ADDRESSES = tuple((address, 8803) for address in VERSIONS)


class VersionHandler(BaseHTTPRequestHandler):
    """Tells the client which version it met."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one write

    def do_GET(self) -> None:
        """Answer with one line."""
        body = f"{VERSIONS[self.connection.getsockname()[0]]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay silent: the terminal belongs to the mesh."""


class VersionServer(ThreadingHTTPServer):
    """A demo server in threads that end with the process."""

    daemon_threads = True
    request_queue_size = 128


def start_servers() -> list[VersionServer]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [VersionServer(address, VersionHandler) for address in ADDRESSES]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    start_servers()
    print("canary listens on", " and ".join(f"http://{host}:{port}" for host, port in ADDRESSES), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
