"""The demo servers: ten services that call each other through the mesh, and visitors who send a few requests a second.

Listen on the addresses that shop.yaml gives the pods. Each pod calls from its own address, so the mesh can tell who
calls whom. One of the two pods of payments fails: the page docs/failing-service.md shows how to find it.
"""

import random
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

from serving import TextHandler, TextServer, start

PORT = 8807
PODS = {
    "127.0.8.1": "web",
    "127.0.8.2": "catalog",
    "127.0.8.3": "catalog",
    "127.0.8.4": "cart",
    "127.0.8.5": "checkout",
    "127.0.8.6": "payments",
    "127.0.8.7": "payments",
    "127.0.8.8": "stock",
    "127.0.8.9": "mail",
    "127.0.8.10": "users",
    "127.0.8.11": "search",
    "127.0.8.12": "reviews",
}
VISITORS = "127.0.8.100"
FAILING = "127.0.8.7"
ADDRESSES = tuple((address, PORT) for address in PODS)
VISITS_PER_S = 8.0


class Call(NamedTuple):
    """A request that a pod sends to another service."""

    service: str
    method: str
    path: str


CALLS = {
    "web": (Call("catalog", "GET", "/products"), Call("users", "GET", "/users/7"), Call("search", "GET", "/?q=tea")),
    "catalog": (Call("stock", "GET", "/stock/12"), Call("reviews", "GET", "/reviews/12")),
    "checkout": (Call("cart", "GET", "/carts/7"), Call("payments", "POST", "/charges"), Call("mail", "POST", "/mails")),
}
"""What a request to each service causes."""
VISITS = (Call("web", "GET", "/"), Call("web", "GET", "/tea"), Call("checkout", "POST", "/orders"))
DELAYS_S = {"search": (0.01, 0.03), "payments": (0.02, 0.06)}
"""Shortest and longest time until these services answer."""


def read_mesh_port() -> int:
    """Read `--http-port` of the command line that run.py passes on to the mesh."""
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    return int(arguments.get("--http-port", 5000))


def send(source: str, call: Call, mesh_port: int) -> int:
    """Send one request from a pod's address through the mesh, and return the status; OSError if there is no mesh."""
    connection = HTTPConnection("127.0.0.1", mesh_port, timeout=10, source_address=(source, 0))
    try:
        connection.request(call.method, call.path, headers={"Host": f"{call.service}.shop.maesh"})
        response = connection.getresponse()
        response.read()
        return response.status
    except HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


class ShopHandler(TextHandler):
    """Answers for the pod at the address that the request arrived at."""

    def do_GET(self) -> None:  # noqa: N802 - http.server names it so
        """Call the other services, then answer: checkout also accepts an order that is not paid yet."""
        address = self.connection.getsockname()[0]
        service = PODS[address]
        time.sleep(random.uniform(*DELAYS_S.get(service, (0, 0))))
        if address == FAILING:
            self.answer("the card terminal does not answer\n", 500)
            return
        try:
            statuses = [send(address, call, read_mesh_port()) for call in CALLS.get(service, ())]
        except OSError as error:
            self.answer(f"{error}\n", 502)
            return
        if max(statuses, default=200) >= 500:
            self.answer(f"{service}: accepted, not complete yet\n", 202)
        else:
            self.answer(f"{service}: done\n")

    do_POST = do_GET  # noqa: N815 - http.server names them so


def visit(ended: threading.Event) -> None:
    """Send the visitors' requests, one after the other, until the example ends."""
    turn = 0
    while not ended.wait(1 / VISITS_PER_S):
        try:
            send(VISITORS, VISITS[turn % len(VISITS)], read_mesh_port())
        except OSError:
            ended.wait(0.5)  # the mesh is starting
        turn += 1


class ShopServer(TextServer):
    """The server of one pod; the first one also has the visitors."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.ended = threading.Event()
        super().__init__(address, ShopHandler)
        if address == ADDRESSES[0]:
            threading.Thread(target=visit, args=(self.ended,), daemon=True).start()

    def server_close(self) -> None:
        """End the visitors, too."""
        self.ended.set()
        super().server_close()


def start_servers() -> list[ShopServer]:
    """Serve every address."""
    return start(ShopServer, ADDRESSES)
