"""Asks the guards of a route, which are the middlewares of access control, about requests that have passed them before.

They are asked again if a request is sent otherwise than the client sent it, before a copy of it is sent, and if the
routing table changes while the exchange is in progress. Fails closed: what a guard does not allow, or raises for, is
denied.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from maesh_core.model.traffic_record import ROUTE_REMOVED
from maesh_core.plugin_system.interfaces import Exchange as ExchangeInterface
from maesh_core.proxy.http.answers import CHANGED, REVOKED
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.exchange_view import ExchangeView
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, ChangeJudge, Judge, read_verdict

Allowed = Collection[tuple[str, int]]
"""The address and port of each server that guards allow."""


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
            exchange.client.environment.failures.note(judge, error, "access is denied")
            return False
    return True


def find_allowed_servers(exchange: Exchange, chain: Chain, service: str, view: ExchangeInterface) -> Allowed | None:
    """Return the servers that the guards allow: None for all, an empty collection for none."""
    if not chain.judge_copy:
        return None
    sent = _build_sent(exchange)
    allowed: frozenset[tuple[str, int]] | None = None
    for judge in chain.judge_copy:
        try:
            verdict = judge(view, service, sent)
        except Exception as error:  # fail closed: a guard that raises denies access
            exchange.client.environment.failures.note(judge, error, "no copy is sent")
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


class GuardedExchange(ExchangeView):
    """One exchange whose guards are asked again. `_judged` is the changed head that they were asked about last."""

    _judged: RequestHead | None = None

    @property
    def chain(self) -> Chain:
        """The middlewares of the route."""
        route = self._exchange.route
        return route.chain if route is not None else EMPTY_CHAIN

    def note_failure(self, call: Callable[..., Any], error: BaseException, outcome: str) -> None:
        """Count a middleware's failure; log the first failure of each middleware type, with its outcome."""
        self._exchange.client.environment.failures.note(call, error, outcome)

    # --- before the request is sent

    def admits_changed(self) -> bool:
        """Whether the guards allow the request as it is sent; if not, it is answered."""
        exchange = self._exchange
        rewritten, judged = exchange.rewritten, self._judged or exchange.head
        if rewritten is not None and not (
            rewritten.target == judged.target and rewritten.authority == judged.authority
        ):
            judges = self.chain.judge_changed
            self._judged = rewritten
        elif exchange.changed_headers is not None:
            judges = self.chain.judge_headers
        else:
            return True
        if judge_changed(exchange, judges, self):
            return True
        exchange.answer(CHANGED)
        return False

    # --- while the exchange is in progress

    def find_revocation(self) -> str:
        """Return why the exchange, or its tunnel, is no longer allowed under the current table; empty if it is.

        If the host now has no route, or another service, the exchange stays allowed unless a judge was in its chain:
        that judge no longer applies, so the exchange ends. If its branch no longer exists, the branch that the request
        would now be routed to is judged instead.
        """
        exchange = self._exchange
        route, current = exchange.route, exchange.client.find_route(exchange.head.host)
        if route is None or (current is not None and current.has_route(route)):
            return ""
        if current is None or current.service != route.service:
            return ROUTE_REMOVED if route.chain.is_still_allowed else ""
        target = current.find_target(route.destination)
        if target is None:
            namespace = exchange.client.find_namespace() if current.consumers else ""
            target = current.choose(exchange.head, namespace)
            if target.balancer is None:
                return REVOKED.reason
            self._judged_destination = target.destination
        is_allowed = all(self._judge(judge) for judge in target.chain.is_still_allowed)
        if is_allowed and self._judged is not None:
            is_allowed = judge_changed(exchange, target.chain.judge_changed, self)
        elif is_allowed and exchange.changed_headers is not None:
            is_allowed = judge_changed(exchange, target.chain.judge_headers, self)
        self._judged_destination = ""
        return "" if is_allowed else REVOKED.reason

    def revoke(self) -> None:
        """End the exchange: answer it, or reset the connection if a response has started."""
        if self._exchange.has_started_response:
            self._exchange.abort(reason=REVOKED.reason, is_failure=False)
        else:
            self._exchange.answer(REVOKED)

    def _judge(self, judge: Judge) -> bool:
        try:
            return read_verdict(judge(self), default=False)
        except Exception as error:  # fail closed: a judge that raises denies access
            self.note_failure(judge, error, "access is denied")
            return False
