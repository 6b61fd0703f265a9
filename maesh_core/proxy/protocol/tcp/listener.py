"""Accepts the clients of one entrypoint on one socket, and hands each to the handler."""

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable

from maesh_core.interfaces import SocketWatcher

ACCEPTS_IN_A_TURN = 64
ACCEPT_PAUSE_S = 0.25
"""When there are no descriptors left, clients wait in the kernel's queue this long."""
_OF_THE_CLIENT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of accepting that say something of one client alone (accept(2))."""
_logger = logging.getLogger(__name__)


class TcpListener:
    """An open entrypoint. `on_client` is given the socket, its other end's address, and the entrypoint."""

    def __init__(
        self,
        sockets: SocketWatcher,
        sock: socket.socket,
        entrypoint: int,
        on_client: Callable[[socket.socket, str, int], None],
    ) -> None:
        self._sockets = sockets
        self._on_client = on_client
        self._sock = sock
        self._entrypoint = entrypoint
        self._is_open = True
        self._has_failed = self._is_pausing = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.watch(sock.fileno(), self._on_event, select.EPOLLIN | select.EPOLLET)

    def __repr__(self) -> str:
        return f"<TcpListener {self._entrypoint}>"

    def close(self) -> None:
        """Stop accepting; what was accepted goes on."""
        if self._is_open:
            self._is_open = False
            self._sockets.forget(self._sock.fileno())
            self._sock.close()

    def _on_event(self, events: int) -> None:
        if not self._is_pausing:
            self._accept()

    def _accept(self) -> None:
        """Accept who waits, some at a time."""
        self._is_pausing = False
        for _ in range(ACCEPTS_IN_A_TURN if self._is_open else 0):
            try:
                client, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OF_THE_CLIENT:
                    continue
                if not self._has_failed:
                    _logger.error("no connection can be accepted on %d: %s", self._entrypoint, error.strerror)
                self._has_failed = self._is_pausing = True
                asyncio.get_running_loop().call_later(ACCEPT_PAUSE_S, self._accept)
                return
            self._has_failed = False
            client.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._on_client(client, address[0], self._entrypoint)
        if self._is_open:
            self._sockets.put_off(self._accept)
