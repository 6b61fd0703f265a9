"""Accepts clients from one listening socket, a few in each turn of the event loop.

A client that connects repeatedly can refill the kernel's queue as fast as it is emptied. Accepting until the queue is
empty would then make all connected clients wait.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from enum import Enum

ACCEPT_PAUSE_S = 0.25
"""The wait before accepting again after descriptors ran out; clients stay in the kernel's queue."""
STEADY_S = 10.0
"""Accepting works again once it has not failed for this long: at the limit, each client that leaves lets one in."""
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
        self._failed_at_s = 0.0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self, limit: int) -> QueueState:
        """Accept up to `limit` clients. A failure is logged once, and once more when it is over."""
        for _ in range(limit):
            try:
                descriptor, address = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except BlockingIOError:
                return QueueState.EMPTY
            except OSError as error:
                if error.errno in _CLIENT_ERRORS:
                    continue
                if not self._failed_at_s:
                    _logger.error("cannot accept connections on port %d: %s", self._entrypoint, error.strerror)
                self._failed_at_s = time.monotonic()
                return QueueState.OUT_OF_RESOURCES
            if self._failed_at_s:
                self._note_success()
            os.set_blocking(descriptor, False)
            self._on_client(descriptor, address[0], self._entrypoint)
        return QueueState.MAYBE_MORE

    def _note_success(self) -> None:
        if time.monotonic() - self._failed_at_s >= STEADY_S:
            self._failed_at_s = 0.0
            _logger.warning("connections on port %d can be accepted again", self._entrypoint)
