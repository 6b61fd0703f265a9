"""The demo server: answers every request with the method and the path that it saw.

Listens on the address that acl.yaml gives the pod of products; the pods of clients have no server.
"""

from serving import TextHandler, TextServer, start

ADDRESSES = (("127.0.5.1", 8804),)
FLAGS = ("--acl",)
"""What the mesh of this example is started with."""


class ProductsHandler(TextHandler):
    """Tells the client what it was asked."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it so
        """Answer with one line."""
        self.answer(f"{self.command} {self.path}\n")

    do_POST = do_GET  # noqa: N815 - http.server names them so


def start_servers() -> list[TextServer]:
    """Serve every address."""
    return start(lambda address: TextServer(address, ProductsHandler), ADDRESSES)
