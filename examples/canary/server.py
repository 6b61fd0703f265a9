"""The demo server: answers every request with the name of the version that runs at the address it arrived at.

Listens on the addresses that canary.yaml gives the three pods of the service; the pods of clients have no server.
"""

from serving import TextHandler, TextServer, start

VERSIONS = {"127.0.4.1": "v1", "127.0.4.2": "v2 blue", "127.0.4.3": "v2 green"}
ADDRESSES = tuple((address, 8803) for address in VERSIONS)
FLAGS = ("--acl",)
"""What the mesh of this example is started with."""


class VersionHandler(TextHandler):
    """Tells the client which version it met."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it so
        """Answer with one line."""
        self.answer(f"{VERSIONS[self.connection.getsockname()[0]]}\n")


def start_servers() -> list[TextServer]:
    """Serve every address."""
    return start(lambda address: TextServer(address, VersionHandler), ADDRESSES)
