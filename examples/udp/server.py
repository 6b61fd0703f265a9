"""The demo server: answers every datagram with the address it arrived at, where it came from, and what it said.

Listens on the addresses that udp-service.yaml gives the two pods.
"""

import socketserver

from serving import start

ADDRESSES = (("127.0.3.1", 8080), ("127.0.3.2", 8080))


class EchoHandler(socketserver.DatagramRequestHandler):
    """Tells the client what the server sees of it."""

    def handle(self) -> None:
        """Answer with one datagram."""
        here = self.socket.getsockname()[0]
        host, port = self.client_address
        self.wfile.write(f"{here} to {host}:{port}: ".encode() + self.rfile.read())


def start_servers() -> list[socketserver.UDPServer]:
    """Serve every address."""
    return start(lambda address: socketserver.UDPServer(address, EchoHandler), ADDRESSES)
