"""Creates the exchange of a request: chooses its route, and gives it a run if a middleware or an upgrade needs one."""

from typing import Final

from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.middleware_run import MiddlewareRun
from maesh_core.proxy.http.exchanges.picking import choose_backend
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.middleware.chain import Skip

COSTLY_S: Final = 0.0002
"""A client rests after a request whose matching took more CPU time than this."""
REST_TIMES: Final = 16
REST_LIMIT_S: Final = 1.0
"""A rest lasts the matching time times the number of other clients (at most `REST_TIMES`), up to this limit."""


def open_exchange(client: ClientStream, route: Route | None, request: RequestHead, now: float) -> Exchange:
    """Create the exchange of a request to a host with this route: choose the branch, and add a run if it needs one."""
    is_chained, part, chosen = False, "", None
    if route is not None and not route.is_plain:
        if route.has_choice:
            route = route.choose(request, client.find_namespace() if route.consumers else "")
            if request.matching_s > COSTLY_S:
                _rest(client, request.matching_s)
            request.matching_s = 0.0
        if route.chain.choose_backend:
            chosen = choose_backend(client, route, request)
        if route.parts:
            route = route.pick_part() if chosen is None else route.parts.get(chosen.part, route)
            part = route.part
        is_chained = route.is_chained
        if is_chained and route.skips_request is not None and not request.upgrade:
            is_chained = not _skips(client, route, route.skips_request, request)
    exchange = Exchange(client, request, route, now)
    if part:
        exchange.part = part
    if is_chained or request.upgrade:
        run = exchange.run = MiddlewareRun(exchange)
        if chosen is not None:
            run.chosen, run.preferred_server = chosen, chosen.address
        if is_chained and request.body and route is not None and route.chain.on_request_body:
            run.expect_body()
    return exchange


def _rest(client: ClientStream, matching_s: float) -> None:
    """Let a client rest after a request that took long to match, if there are other clients."""
    others = len(client.environment.clients) - 1
    if others > 0:
        client.rest(min(min(REST_TIMES, others) * matching_s, REST_LIMIT_S))


def _skips(client: ClientStream, route: Route, skip: Skip, request: RequestHead) -> bool:
    """Whether the route's only middleware lets a request pass."""
    count = route.skip_count
    if count is not None and count.left > 0 and not request.has_trace_context:
        count.left -= 1
        return True
    try:
        return skip(request) is True
    except Exception as error:  # fail closed: the middleware decides in its other methods
        client.environment.failures.note(skip, error, "the request is not skipped")
        return False
