"""Accepts the clients that wait on one listening socket, a few in each turn of the event loop.

The kernel's queue can be refilled as fast as it is emptied. If it were emptied in one go, every client that is already
connected would wait for as long as somebody connects over and over.
"""

import errno
import logging
import os
import socket
from collections.abc import Callable
from enum import Enum

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
    """Accepts on one non-blocking socket.

    `on_client` is given the descriptor of a non-blocking socket, which it owns from then on, the other end's address
    and the entrypoint. A descriptor, as a socket object costs as much as accepting does, and asks the kernel for the
    address once more.
    """

    def __init__(self, sock: socket.socket, entrypoint: int, on_client: Callable[[int, str, int], None]) -> None:
        self._sock = sock
        self._entrypoint = entrypoint
        self._on_client = on_client
        self._has_failed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted sockets inherit both
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def accept(self, limit: int) -> Waiting:
        """Accept up to `limit` clients. The first of failures in a row is logged."""
        for _ in range(limit):
            try:
                descriptor, address = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001
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
            os.set_blocking(descriptor, False)
            self._on_client(descriptor, address[0], self._entrypoint)
        return Waiting.MAYBE
