"""Picks the server of an attempt: the preferred one, one of the allowed ones, or the balancer's next.

Takes a balancer and what middlewares have set on the exchange; returns a server, or None. Before the exchange exists,
`choose_backend` asks the middlewares which server a request should go to.
"""

from typing import Final, NamedTuple

from maesh_core.plugin_system.interfaces import BackendChoice
from maesh_core.proxy.balancing.balancer import Balancer, begin_due_trial
from maesh_core.proxy.balancing.division import Division
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.exchange_view import ExchangeView
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer

_NO_PREFERENCE: Final = "it has no preference"


class Chosen(NamedTuple):
    """A server that a middleware has chosen for a request, and the key of its part; empty without parts."""

    server: HttpServer
    part: str


def choose_backend(client: ClientStream, route: Route, head: RequestHead) -> Chosen | None:
    """Ask the middlewares of a route which server a request should go to; None if it is not usable, or for any."""
    backends = route.backends
    for call in route.chain.choose_backend:
        try:
            choice = call(head, backends.choices)
            if choice is None:
                continue
            if not isinstance(choice, BackendChoice):
                raise TypeError(f"choose_backend returned {type(choice).__name__}")
        except Exception as error:  # a middleware's error affects only its own choice
            client.environment.failures.note(call, error, _NO_PREFERENCE)
            continue
        server = backends.servers.get(choice)
        if server is None or (server.aside is not None and not server.aside.is_due):
            return None
        return Chosen(server, choice.part)
    return None


def pick_server(view: ExchangeView, balancer: Balancer[HttpServer]) -> HttpServer | None:
    """Pick the server of the next attempt."""
    if view.preferred_server is not None and view.attempts == 1:
        server = _pick_preferred(view, view.preferred_server, balancer)
        if server is not None:
            return server
    if view.allowed_servers is None:
        return balancer.pick(view.tried, view)
    return _pick_allowed(view, balancer)


def _pick_preferred(view: ExchangeView, wanted: tuple[str, int], balancer: Balancer[HttpServer]) -> HttpServer | None:
    """Pick the preferred server if it may be used, from the part that was chosen with it if it is in several."""
    if view.allowed_servers is not None and wanted not in view.allowed_servers:
        return None
    chosen: Chosen | None = view.chosen
    if chosen is None or (chosen.server.address, chosen.server.port) != wanted:
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
