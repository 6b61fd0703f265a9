"""Asks guards about requests that are sent otherwise than the client sent them, and sends copies of requests.

Takes an exchange, its chain and its view; the view is what middlewares get. Fails closed: whatever a guard does not
allow is neither sent nor copied. Copies never affect the exchange: what goes wrong with one is only counted.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

from maesh_core.plugin_system.interfaces import Exchange as ExchangeInterface
from maesh_core.proxy.http.copies import DENIED, DROPPED, FAILED, NO_SERVER
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.copy_attempt import CopyAttempt, build_copy_head
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.messages.forwarding import NO_FORWARDED
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import Chain, ChangeJudge

COPIES_OF_REQUEST: Final = 32
"""Copies of one request, at most."""

Allowed = Collection[tuple[str, int]]

_logger = logging.getLogger(__name__)


def note_failure(environment: Environment, call: Any, error: BaseException, outcome: str) -> None:
    """Count a middleware's failure; log the first failure of each middleware type, with its outcome."""
    owner = type(getattr(call, "__self__", call))
    if environment.failures.count(owner):
        _logger.error("middleware %s failed; %s", owner.__qualname__, outcome, exc_info=error)


def judge_changed(exchange: Exchange, judges: Sequence[ChangeJudge], view: ExchangeInterface) -> bool:
    """Return whether every guard allows the request with what other middlewares have set."""
    if not judges:
        return True
    sent = _build_sent(exchange)
    for judge in judges:
        try:
            if judge(view, sent) is not True:
                return False
        except Exception as error:  # fail closed: a guard that raises denies access
            note_failure(exchange.client.environment, judge, error, "access is denied")
            return False
    return True


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
        allowed = _judge_copy(exchange, chain, service, view)
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


def _judge_copy(exchange: Exchange, chain: Chain, service: str, view: ExchangeInterface) -> Allowed | None:
    """Return the servers that the guards allow: None for all, an empty collection for none."""
    if not chain.judge_copy:
        return None
    sent = _build_sent(exchange)
    allowed: frozenset[tuple[str, int]] | None = None
    for judge in chain.judge_copy:
        try:
            verdict = judge(view, service, sent)
        except Exception as error:  # fail closed: a guard that raises denies access
            note_failure(exchange.client.environment, judge, error, "no copy is sent")
            return ()
        if verdict is True:
            continue
        if not isinstance(verdict, frozenset | set | tuple | list):
            return ()
        allowed = frozenset(verdict) if allowed is None else allowed & frozenset(verdict)
    return allowed


def _build_sent(exchange: Exchange) -> RequestHead:
    """Build the head of the request as it is sent, for guards."""
    head = exchange.rewritten or exchange.head
    changed = exchange.changed_headers
    return head if changed is None else _build_changed(head, changed)


def _build_changed(head: RequestHead, changed: Headers) -> RequestHead:
    text = b"".join((head.render_start(), *(b"%b: %b\r\n" % field for field in changed.items()), head.framing, b"\r\n"))
    return RequestHead(
        text,
        head.method,
        head.target,
        head.authority,
        head.host,
        text,
        body=head.body,
        framing=head.framing,
        is_http_1_0=head.is_http_1_0,
        dropped=head.dropped,
        forwarded=head.forwarded,
    )


def _name_service(exchange: Exchange) -> str:
    return exchange.route.label if exchange.route is not None else ""
