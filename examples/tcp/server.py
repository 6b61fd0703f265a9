"""The demo server: greets whoever connects before it has heard a word, then sends every line back.

Listens on the addresses that greeter.yaml gives the two pods. For trying things out, not for measuring.
"""

import socketserver
import threading

ADDRESSES = (("127.0.2.1", 8802), ("127.0.2.2", 8802))


class GreeterHandler(socketserver.StreamRequestHandler):
    """Tells the client which server it has, and answers line by line."""

    def handle(self) -> None:
        """Speak first, then listen."""
        address = self.connection.getsockname()[0]
        self.wfile.write(f"This is {address}. Write a line, and it comes back.\n".encode())
        for line in self.rfile:
            self.wfile.write(f"{address}: ".encode() + line)


class GreeterServer(socketserver.ThreadingTCPServer):
    """A demo server whose threads end with the process."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def start_servers() -> list[GreeterServer]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [GreeterServer(address, GreeterHandler) for address in ADDRESSES]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    start_servers()
    print("greeter listens on", " and ".join(f"{host}:{port}" for host, port in ADDRESSES), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
