"""An exchange whose client offers to go on in another protocol (RFC 9110 section 7.8): WebSocket and others.

It takes a pooled connection as any request does: attempts that are answered in the ordinary way would otherwise leave
one connection each in the pool. A 101 makes a tunnel of its two connections. Middlewares cannot repeat it once it is
sent; a pooled connection that was stale costs it nothing, as in exchange.py.
"""

from maesh_core.errors import UpstreamProtocolError
from maesh_core.proxy.http.exchanges.chained import ChainedExchange
from maesh_core.proxy.http.exchanges.owner import GIVEN_UP, Passing
from maesh_core.proxy.http.exchanges.tunnel import Tunnel
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import parse_list
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection


class UpgradeExchange(ChainedExchange):
    """Differs from others in what a 101 does, and in what bytes behind the request may mean.

    A client may not send in the new protocol before the 101, but who does could have them taken for a request: they
    are held for the tunnel, and where there is none they are thrown away with the connection.
    """

    __slots__ = ()

    _is_sent = False

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: not once the request is sent."""
        return not self._is_sent and super().can_repeat

    def send(self, upstream: UpstreamConnection) -> None:
        """Send the request; from now on there is no other attempt, and no body is kept for one."""
        self._is_sent = self._is_too_large_to_keep = True
        super().send(upstream)

    def on_switching(self, upstream: UpstreamConnection, response: ResponseHead, rest: bytes) -> None:
        """Make a tunnel of the two connections. Raises UpstreamProtocolError for a change that was not offered."""
        chosen = parse_list(response.upgrade)
        if self.request_left or not chosen or not set(chosen) <= set(parse_list(self.head.upgrade)):
            raise UpstreamProtocolError("the upstream wants another protocol")
        if self.on_response_head(response, is_whole=False) is GIVEN_UP:
            return
        self.has_started_response = True
        self.upstream = None
        fields = b"Connection: upgrade\r\nUpgrade: %b\r\n\r\n" % response.upgrade
        answer = b"".join((response.status_line, *self.response_headers.lines, fields))
        self._server = upstream.server
        if not self.may_go_on():  # its route has changed since it was sent
            upstream.abandon()
            self.cut()
            return
        tunnel = Tunnel(self.connection.environment, self.on_tunnel_closed, self.may_go_on)
        tunnel.open(self.connection.release(), upstream.release(rest), answer=answer)

    def on_tunnel_closed(self) -> None:
        """End: both connections are gone."""
        self.connection.environment.slots.give_back(self.connection.address)
        self.finish(self.status)

    def connection_field(self) -> bytes:
        """Render what the client must know about its connection."""
        if self.connection.is_holding:
            self.is_keep_alive = False
        return super().connection_field()

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Take the head of the final response, and say what becomes of it."""
        return super().on_response_head(response, is_whole=is_whole and not self.connection.is_holding)

    def on_response_complete(self) -> None:
        """End well: the whole response is with the client's transport."""
        if self.connection.is_holding:
            self.is_keep_alive = False
        super().on_response_complete()
