"""Accepts clients from one listening socket, a few in each turn of the event loop.

A client that connects repeatedly can refill the kernel's queue as fast as it is emptied. Accepting until the queue is
empty would then make all connected clients wait.
"""

import errno
import logging
import os
import socket
from collections.abc import Callable
from enum import Enum

ACCEPT_PAUSE_S = 0.25
"""The wait before accepting again after descriptors ran out; clients stay in the kernel's queue."""
_CLIENT_ERRORS = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of accept(2) that concern one client only."""

_logger = logging.getLogger(__name__)


class QueueState(Enum):
    """The state of the kernel's queue after some clients were accepted."""

    EMPTY = 1
    MAYBE_MORE = 2
    OUT_OF_RESOURCES = 3
    """Accepting failed because descriptors or memory ran out: try again in ACCEPT_PAUSE_S."""


class Acceptor:
    """Accepts clients on one non-blocking socket.

    `on_client` receives the descriptor of a non-blocking socket, which it then owns, the client's address and the
    entrypoint. It receives a descriptor because creating a socket object costs as much as accepting, and asks the
    kernel for the address again.
    """

    def __init__(self, sock: socket.socket, entrypoint: int, on_client: Callable[[int, str, int], None]) -> None:
        self._sock = sock
        self._entrypoint = entrypoint
        self._on_client = on_client
        self._has_failed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self, limit: int) -> QueueState:
        """Accept up to `limit` clients. Of consecutive failures, only the first is logged."""
        for _ in range(limit):
            try:
                descriptor, address = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except BlockingIOError:
                return QueueState.EMPTY
            except OSError as error:
                if error.errno in _CLIENT_ERRORS:
                    continue
                if not self._has_failed:
                    _logger.error("cannot accept connections on port %d: %s", self._entrypoint, error.strerror)
                self._has_failed = True
                return QueueState.OUT_OF_RESOURCES
            self._has_failed = False
            os.set_blocking(descriptor, False)
            self._on_client(descriptor, address[0], self._entrypoint)
        return QueueState.MAYBE_MORE
