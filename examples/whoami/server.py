"""The demo server: answers every request with the request as it arrived, and which address it arrived at.

Listens on the addresses that whoami.yaml gives the two pods.
"""

import socket

from serving import TextHandler, TextServer, start

ADDRESSES = (("127.0.1.1", 8801), ("127.0.1.2", 8801))


class WhoamiHandler(TextHandler):
    """Tells the client what the server sees of it."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it so
        """Answer with host name, addresses, request line and headers."""
        lines = [
            f"Hostname: {socket.gethostname()}",
            f"IP: {self.connection.getsockname()[0]}",
            "RemoteAddr: {}:{}".format(*self.client_address),
            self.requestline,
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        self.answer("\n".join([*lines, ""]))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - http.server names them so


def start_servers() -> list[TextServer]:
    """Serve every address."""
    return start(lambda address: TextServer(address, WhoamiHandler), ADDRESSES)
