"""Moves bytes between a client's socket and a connection over a path, which has the methods of an asyncio transport.

Takes the socket, which is watched edge-triggered, and is the protocol of the path's connection. The end of one
direction is forwarded alone (half-close), a reset after the bytes that arrived before it. Each side is only read while
the other one has room. The relay (relay.py) decides what follows.
"""

import asyncio
import logging
import select
import socket
from typing import Any, Final, Protocol, final

from maesh_core.model.traffic_record import CUT
from maesh_core.plugin_system.node import StreamServer
from maesh_core.plugin_system.transports import Delivery, OpenFailure, Opening, Path, RemoteServer
from maesh_core.proxy.http.transports import reset
from maesh_core.proxy.network.edges import GONE
from maesh_core.proxy.tcp.environment import Environment
from maesh_core.proxy.tcp.tls_connection import TlsConnection
from maesh_core.proxy.transport.opening import BROKEN

TURN_BYTES: Final = 1 << 20
"""Bytes of one client in a turn of the loop."""
WRITE_HIGH_BYTES: Final = 65536
WRITE_LOW_BYTES: Final = 16384
"""Above WRITE_HIGH_BYTES of unsent bytes, the client is not read; below WRITE_LOW_BYTES, it is again."""
_logger = logging.getLogger(__name__)
_READABLE: Final = int(select.EPOLLIN) | int(GONE)
_BROKEN: Final = int(select.EPOLLHUP) | int(select.EPOLLERR)


class TunnelUser(Protocol):
    """The relay that a tunnel belongs to. `active_at` is the time of the last byte."""

    __slots__ = ("active_at",)

    active_at: float

    def on_tunnel_open(self) -> None:
        """Start to move bytes."""

    def on_tunnel_failed(self, failure: OpenFailure) -> None:
        """Handle that there is no connection."""

    def abort(self, reason: str = CUT) -> None:
        """Reset both sides."""

    def close(self) -> None:
        """Close both sides, since both directions have ended."""


def build_target(server: StreamServer) -> RemoteServer:
    """Describe a server to the paths."""
    return RemoteServer(*server.socket_address, server.node)


@final
class TunnelRelay:
    """One client's connection over a path, from the attempt to open it until both sides are closed."""

    __slots__ = (
        "_client",
        "_environment",
        "_has_client_ended",
        "_has_server_ended",
        "_is_closed",
        "_is_put_off",
        "_is_reset",
        "_is_settled",
        "_is_up_done",
        "_is_write_paused",
        "_opening",
        "_transport",
        "_unsent",
        "_user",
        "received_bytes",
        "sent_bytes",
    )

    def __init__(self, user: TunnelUser, client: socket.SocketType, environment: Environment[Any]) -> None:
        self._user = user
        self._client = client
        self._environment = environment
        self._opening: Opening | None = None
        self._transport: Any = None
        self._unsent = bytearray()
        self._has_client_ended = False
        self._is_up_done = False
        self._has_server_ended = False
        self._is_reset = False
        self._is_settled = False
        self._is_write_paused = False
        self._is_put_off = False
        self._is_closed = False
        self.received_bytes = self.sent_bytes = 0
        """Bytes read from the client and from the server; the caller that counts them may reset these."""

    def __repr__(self) -> str:
        return f"<TunnelRelay unsent={len(self._unsent)} ended={self._has_client_ended}, {self._has_server_ended}>"

    def open(self, path: Path, delivery: Delivery) -> None:
        """Open the connection; the outcome may be reported before this returns, a failure only later."""
        try:
            opening = path.open(delivery, self)
        except Exception as error:  # a plugin's error is a path that cannot be opened
            _logger.error("a transport failed to open a path: %r", error)
            self.open_failed(OpenFailure(BROKEN, 0, is_servers_fault=False))
            return
        if not self._is_settled:
            self._opening = opening

    @property
    def has_connection(self) -> bool:
        """Whether there is a connection to the server's node."""
        return self._transport is not None or (self._opening is not None and self._opening.has_connection)

    @property
    def is_in_handshake(self) -> bool:
        """Whether the TLS handshake with the server has begun, but is not complete."""
        return isinstance(self._opening, TlsConnection) and self._opening.is_in_handshake

    # --- called by the path

    def connection_made(self, transport: Any) -> None:
        """Start."""
        self._is_settled, self._opening = True, None
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self._user.on_tunnel_open()

    def open_failed(self, failure: OpenFailure) -> None:
        """Report a failure, in a later turn, as the relay may be in the middle of trying servers."""
        self._is_settled, self._opening = True, None
        asyncio.get_running_loop().call_soon(self._report_failure, failure)

    def _report_failure(self, failure: OpenFailure) -> None:
        if not self._is_closed:
            self._user.on_tunnel_failed(failure)

    def data_received(self, data: bytes) -> None:
        """Send bytes of the server to the client."""
        if self._is_closed:
            return
        self.sent_bytes += len(data)
        self._user.active_at = self._environment.clock.now
        has_waited = bool(self._unsent)
        self._unsent += data
        if has_waited or not self._flush():
            return
        if self._unsent and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Forward the server's end; the other direction goes on."""
        self._has_server_ended = True
        if not self._is_closed and not self._unsent:
            self._end_client()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Forward the end, or the reset after the bytes that arrived before it."""
        self._transport = None
        if self._is_closed:
            return
        self._is_reset = error is not None or not self._has_server_ended
        self._is_up_done = True
        if self._unsent:
            self._environment.resetting.add(self._user)
        elif self._is_reset:
            self._user.abort()
        else:
            self._user.close()

    def pause_writing(self) -> None:
        """Read the client no more."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Read the client again."""
        self._is_write_paused = False
        self._pump_client()

    # --- called by the relay and by the epoll

    def on_client_event(self, events: int) -> None:
        """Move bytes after an event of the client's socket."""
        self._user.active_at = self._environment.clock.now
        if self._unsent and not self._flush():
            return
        if events & _READABLE or events & _BROKEN:
            self._pump_client()
        if events & select.EPOLLERR and not self._is_closed:
            self._environment.resetting.add(self._user)

    def go_on(self) -> None:
        """Continue after a turn that was put off."""
        self._is_put_off = False
        self._pump_client()

    def close(self) -> None:
        """Close, or stop opening; bytes that were written are still sent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()
        elif self._opening is not None:
            self._opening.cancel()

    def abort(self) -> None:
        """Reset the path, or stop opening it."""
        if not self._is_closed and self._transport is not None:
            self._is_closed = True
            reset(self._transport)
        else:
            self.close()

    def _pump_client(self) -> None:
        """Read the client until it has no more bytes, the path has no room, or the turn is over."""
        left, buffer = TURN_BYTES, self._environment.buffer
        while not (self._is_closed or self._is_write_paused or self._has_client_ended or self._transport is None):
            if left <= 0:
                if not self._is_put_off:
                    self._is_put_off = True
                    self._environment.sockets.put_off(self.go_on)
                return
            try:
                count = self._client.recv_into(buffer)
            except BlockingIOError:
                return
            except OSError:
                self._user.abort()
                return
            if not count:
                self._end_server()
                return
            left -= count
            self.received_bytes += count
            self._transport.write(bytes(buffer[:count]))

    def _end_server(self) -> None:
        """Forward the client's end."""
        self._has_client_ended = self._is_up_done = True
        transport = self._transport
        if self._has_server_ended and not self._unsent:
            self._user.close()
        elif transport is not None and transport.can_write_eof():
            transport.write_eof()
        else:
            self._user.close()

    def _flush(self) -> bool:
        """Send waiting bytes to the client; return False if the relay has ended."""
        try:
            sent = self._client.send(self._unsent)
        except BlockingIOError:
            return True
        except OSError:
            self._user.abort()
            return False
        del self._unsent[:sent]
        if self._unsent:
            return True
        if self._is_reset:
            self._user.abort()
            return False
        if self._has_server_ended:
            self._end_client()
        elif self._transport is not None:
            self._transport.resume_reading()
        return not self._is_closed

    def _end_client(self) -> None:
        """Forward the server's end, after all of its bytes."""
        if self._is_up_done:
            self._user.close()
            return
        try:
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            self._user.abort()
