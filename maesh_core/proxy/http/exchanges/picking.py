"""Picks the server of an attempt: the preferred one, one of the allowed ones, or the balancer's next.

Takes a balancer and what middlewares have set on the exchange; returns a server, or None. Before the exchange exists,
`choose_backend` asks the middlewares which server a request should go to.
"""

from typing import Any, Final, final

from maesh_core.plugin_system.interfaces import BackendChoice
from maesh_core.proxy.balancing.balancer import Balancer, begin_due_trial
from maesh_core.proxy.balancing.division import Division
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.exchange_view import ExchangeView
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer

_NO_PREFERENCE: Final = "it has no preference"


@final
class Chosen:
    """A server that a middleware has chosen for a request, and the key of its part; empty without parts.

    `chooser` is the `choose_backend` that has chosen it, and `address` the server's address and port.
    """

    __slots__ = ("address", "chooser", "part", "server")

    def __init__(self, server: HttpServer, part: str, chooser: object = None) -> None:
        self.server = server
        self.part = part
        self.chooser = chooser
        self.address: Any = (server.address, server.port)

    def __repr__(self) -> str:
        return f"<Chosen {self.address} {self.part}>"


def choose_backend(client: ClientStream, route: Route, head: RequestHead) -> Chosen | None:
    """Ask the middlewares of a route which server a request should go to; None if it is not usable, or for any.

    The answer is kept with the head, if it depends on nothing else.
    """
    backends, is_kept = route.backends, route.chain.keeps_choice
    if is_kept and head.backend_of is backends:
        kept = head.backend
        return kept if isinstance(kept, Chosen) and _is_usable(kept.server) else None
    chosen: Chosen | None = None
    for call in route.chain.choose_backend:
        try:
            choice = call(head, backends.choices)
            if choice is None:
                continue
            if not isinstance(choice, BackendChoice):
                raise TypeError(f"choose_backend returned {type(choice).__name__}")
        except Exception as error:  # a middleware's error affects only its own choice
            client.environment.failures.note(call, error, _NO_PREFERENCE)
            is_kept = False
            continue
        server = backends.servers.get(choice)
        if server is not None:
            chosen = Chosen(server, choice.part, call)
        break
    if is_kept:
        head.backend_of, head.backend = backends, chosen
    return chosen if chosen is not None and _is_usable(chosen.server) else None


def _is_usable(server: HttpServer) -> bool:
    return server.aside is None or server.aside.is_due


def pick_server(view: ExchangeView, balancer: Balancer[HttpServer]) -> HttpServer | None:
    """Pick the server of the next attempt."""
    if view.preferred_server is not None and view.attempts == 1:
        server = _pick_preferred(view, balancer)
        if server is not None:
            return server
    if view.allowed_servers is None:
        return balancer.pick(view.tried, view)
    return _pick_allowed(view, balancer)


def _pick_preferred(view: ExchangeView, balancer: Balancer[HttpServer]) -> HttpServer | None:
    """Pick the preferred server if it may be used, from the part that was chosen with it if it is in several."""
    wanted: Any = view.preferred_server
    if view.allowed_servers is not None and wanted not in view.allowed_servers:
        return None
    chosen: Chosen | None = view.chosen
    if chosen is None or (chosen.address is not wanted and chosen.address != wanted):
        chosen = _find_server(wanted, balancer)
    if chosen is None or chosen.server in view.tried:
        return None
    if chosen.server.aside is not None and not begin_due_trial(chosen.server.aside):
        return None
    if isinstance(balancer, Division):
        balancer.picked = chosen.part
    return chosen.server


def _find_server(wanted: tuple[str, int], balancer: Balancer[HttpServer]) -> Chosen | None:
    parts = [(part.balancer, part.key) for part in balancer.parts] if isinstance(balancer, Division) else None
    for each, key in parts or [(balancer, "")]:
        for server in each.servers:
            if (server.address, server.port) == wanted:
                return Chosen(server, key)
    return None


def _pick_allowed(view: ExchangeView, balancer: Balancer[HttpServer]) -> HttpServer | None:
    """Pick one of the allowed servers; the others are passed to the balancer as already tried."""
    allowed = view.allowed_servers or ()
    refused = [server for server in balancer.servers if (server.address, server.port) not in allowed]
    server = balancer.pick(dict.fromkeys((*view.tried, *refused)), view)
    return server if server is not None and (server.address, server.port) in allowed else None
