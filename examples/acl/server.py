"""The demo server: answers every request with the method and the path that it saw.

Listens on the address that acl.yaml gives the pod of products; the pods of clients have no server. For trying things
out, not for measuring.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESSES = (("127.0.5.1", 8804),)
FLAGS = ("--acl",)
"""What the mesh of this example is started with."""


class ProductsHandler(BaseHTTPRequestHandler):
    """Tells the client what it was asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body leave in one write

    def do_GET(self) -> None:
        """Answer with one line."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"{self.command} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - http.server names them so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay silent: the terminal belongs to the mesh."""


class ProductsServer(ThreadingHTTPServer):
    """A demo server in threads that end with the process."""

    daemon_threads = True
    request_queue_size = 128


def start_servers() -> list[ProductsServer]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [ProductsServer(address, ProductsHandler) for address in ADDRESSES]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    start_servers()
    print("products listens on", " and ".join(f"http://{host}:{port}" for host, port in ADDRESSES), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
