"""The demo server: greets whoever connects before it has heard a word, then sends every line back.

Listens on the addresses that greeter.yaml gives the two pods.
"""

import socketserver

from serving import start

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
    """Serve every address."""
    return start(lambda address: GreeterServer(address, GreeterHandler), ADDRESSES)
