"""Switches an exchange to another protocol after a 101 (RFC 9110 section 7.8).

Takes an exchange whose client offered an upgrade, such as to WebSocket, and joins its two connections to a tunnel. A
client must not use the new protocol before the 101. If it does, the bytes are kept for the tunnel and never parsed as a
request; if no tunnel is opened, they are discarded with the connection.
"""

from maesh_core.errors import UpstreamProtocolError
from maesh_core.model.transport import CLEAR
from maesh_core.proxy.http.answers import OTHER_PROTOCOL
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.tunnel import Tunnel
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import parse_list
from maesh_core.proxy.http.upstreams.upstream_stream import DISCARDED, UpstreamStream


def switch_protocols(exchange: Exchange, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
    """Open the tunnel. `response` is the 101, and `rest` the bytes after it.

    Raises UpstreamProtocolError if the client did not offer the protocol.
    """
    chosen = parse_list(response.upgrade)
    if exchange.request_left or not chosen or not set(chosen) <= set(parse_list(exchange.head.upgrade)):
        raise UpstreamProtocolError(OTHER_PROTOCOL)
    attempt, run = exchange.attempt, exchange.run
    assert attempt is not None  # noqa: S101 - the attempt received the response
    assert run is not None  # noqa: S101 - an exchange whose client offers an upgrade has a run
    attempt.response = response
    if exchange.on_response_head(response, is_whole=False) is DISCARDED:
        return
    exchange.has_started_response = True
    attempt.upstream = None
    revocation = run.find_revocation()  # its route may have changed since the request was sent
    if revocation:
        upstream.abandon()
        exchange.abort(reason=revocation, is_failure=False)
        return
    changed = run.changed_response
    lines = changed.lines if changed is not None else response.build_headers().lines
    fields = b"Connection: upgrade\r\nUpgrade: %b\r\n\r\n" % response.upgrade
    answer = b"".join((response.status_line, *lines, fields))
    client = exchange.client
    environment, address = client.environment, client.address

    def on_closed() -> None:
        environment.slots.release(address)
        exchange.reason = tunnel.reason
        exchange.received_bytes, exchange.sent_bytes = tunnel.received_bytes, tunnel.sent_bytes
        exchange.finish(exchange.status)

    tunnel = Tunnel(environment, on_closed, run.find_revocation)
    tunnel.server_key = attempt.server.key
    tunnel.is_in_clear = attempt.path is None or attempt.path.kind == CLEAR
    tunnel.open(client.release(), upstream.release(rest), answer=answer)
