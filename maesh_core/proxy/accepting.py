"""Accepts the clients that wait on one listening socket, a few in each turn of the event loop.

The kernel's queue can be refilled as fast as it is emptied. Whoever empties it in one go keeps every client that is
already connected waiting for as long as somebody connects over and over.
"""

import errno
import logging
import socket
from collections.abc import Callable
from enum import Enum
from typing import cast

ACCEPT_PAUSE_S = 0.25
"""When there are no descriptors left, clients wait in the kernel's queue this long."""
_OF_THE_CLIENT = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of accepting that say something of one client alone (accept(2))."""

_logger = logging.getLogger(__name__)


class Waiting(Enum):
    """What is known of the kernel's queue after some clients were accepted."""

    NONE = 1
    MAYBE = 2
    NOT_TO_BE_HAD = 3
    """Accepting failed for want of descriptors or memory: try again in ACCEPT_PAUSE_S."""


class Acceptor:
    """Accepts on one non-blocking socket. `on_client` is given the socket, its other end's address, the entrypoint."""

    def __init__(
        self, sock: socket.socket, entrypoint: int, on_client: Callable[[socket.socket, str, int], None], *, limit: int
    ) -> None:
        self._sock = sock
        self._entrypoint = entrypoint
        self._on_client = on_client
        self._limit = limit
        self._has_failed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self) -> Waiting:
        """Accept up to `limit` clients. The first of failures in a row is logged."""
        for _ in range(self._limit):
            try:
                client, address = self._accept_one()
            except BlockingIOError:
                return Waiting.NONE
            except OSError as error:
                if error.errno in _OF_THE_CLIENT:
                    continue
                if not self._has_failed:
                    _logger.error("no connection can be accepted on %d: %s", self._entrypoint, error.strerror)
                self._has_failed = True
                return Waiting.NOT_TO_BE_HAD
            self._has_failed = False
            client.setblocking(False)  # noqa: FBT003 - the standard library's signature
            self._on_client(client, address, self._entrypoint)
        return Waiting.MAYBE

    def _accept_one(self) -> tuple[socket.socket, str]:
        """Accept a client; gives its IP address too."""
        client, address = self._sock.accept()
        return client, address[0]


class BareAcceptor(Acceptor):
    """Gives each client as `socket.SocketType`, the class below `socket.socket`: a third less time for a client."""

    def __init__(
        self,
        sock: socket.socket,
        entrypoint: int,
        on_client: Callable[[socket.SocketType, str, int], None],
        *,
        limit: int,
    ) -> None:
        super().__init__(sock, entrypoint, on_client, limit=limit)
        self._family, self._type, self._protocol = int(sock.family), int(sock.type), sock.proto

    def _accept_one(self) -> tuple[socket.socket, str]:
        accept = self._sock._accept  # type: ignore[attr-defined]  # noqa: SLF001 - what `socket.accept` itself calls
        descriptor, address = accept()
        client = socket.SocketType(self._family, self._type, self._protocol, descriptor)
        return cast("socket.socket", client), address[0]  # `on_client` above takes no more than it is
