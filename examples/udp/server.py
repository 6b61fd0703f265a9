"""The demo server: answers every datagram with the address it arrived at, where it came from, and what it said.

Listens on the addresses that udp-service.yaml gives the two pods. For trying things out, not for measuring.
"""

import socketserver
import threading

ADDRESSES = (("127.0.3.1", 8080), ("127.0.3.2", 8080))


class EchoHandler(socketserver.DatagramRequestHandler):
    """Tells the client what the server sees of it."""

    def handle(self) -> None:
        """Answer with one datagram."""
        here = self.socket.getsockname()[0]
        host, port = self.client_address
        self.wfile.write(f"{here} to {host}:{port}: ".encode() + self.rfile.read())


def start_servers() -> list[socketserver.UDPServer]:
    """Serve every address in a thread of its own; OSError when one is taken."""
    servers = [socketserver.UDPServer(address, EchoHandler) for address in ADDRESSES]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return servers


if __name__ == "__main__":
    start_servers()
    print("udp-service listens on", " and ".join(f"{host}:{port}" for host, port in ADDRESSES), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
