"""Sends copies of requests to side services.

Takes an exchange, its chain and its view; the view is what middlewares get. A copy that a guard does not allow is not
sent. Copies never affect the exchange: what goes wrong with one is only counted.
"""

import logging
from typing import Final

from maesh_core.plugin_system.interfaces import Exchange as ExchangeInterface
from maesh_core.proxy.http.copies import DENIED, DROPPED, FAILED, NO_SERVER
from maesh_core.proxy.http.exchanges.copy_attempt import CopyAttempt, build_copy_head
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.guarding import find_allowed_servers
from maesh_core.proxy.http.messages.forwarding import NO_FORWARDED
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import Chain

COPIES_OF_REQUEST: Final = 32
"""Copies of one request, at most."""

_logger = logging.getLogger(__name__)


def may_copy(exchange: Exchange, service: str, size: int) -> bool:
    """Return whether the limits allow another copy; otherwise count that one is dropped."""
    copies = exchange.client.environment.copies
    if copies.has_room(service, size):
        return True
    copies.count(_name_service(exchange), service, DROPPED)
    return False


def send_copy(exchange: Exchange, chain: Chain, service: str, body: bytes, view: ExchangeInterface) -> bool:
    """Send a copy of a request to one server of a side service; return whether it was sent."""
    route = exchange.route
    balancer = route.sides.get(service) if route is not None else None
    if route is None or balancer is None:
        return False
    environment = exchange.client.environment
    if not may_copy(exchange, service, len(body)):
        return False
    try:
        allowed = find_allowed_servers(exchange, chain, service, view)
        refused: tuple[HttpServer, ...] = ()
        if allowed is not None:
            refused = tuple(each for each in balancer.servers if (each.address, each.port) not in allowed)
        server = balancer.pick(refused, view) if len(refused) < len(balancer.servers) else None
        if server is None or server in refused:
            outcome = NO_SERVER if allowed is None or allowed else DENIED
            environment.copies.count(route.label, service, outcome)
            return False
        head, rendered = exchange.rewritten or exchange.head, exchange.client.forwarded
        if server.authority and head.authority == exchange.head.authority:
            head = head.rewrite(b"", server.authority)
        copy = CopyAttempt(
            environment,
            server,
            build_copy_head(head, exchange.changed_headers, len(body)),
            body,
            forwarded=NO_FORWARDED
            if server.hides_client
            else rendered.render(exchange.head.authority, exchange.head.forwarded),
            service=route.label,
            destination=service,
            client_address=exchange.client.address,
        )
        copy.begin()
    except Exception:  # a copy must not affect the request
        _logger.exception("a copy of a request for %s could not be sent to %s", route.label, service)
        environment.copies.count(route.label, service, FAILED)
        return False
    return True


def _name_service(exchange: Exchange) -> str:
    return exchange.route.label if exchange.route is not None else ""
