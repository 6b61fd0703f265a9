"""Accepts the clients of one HTTP entrypoint and passes them to newcomers.py.

Accepting costs a tenth of creating a connection. The listener therefore empties the kernel's queue quickly, so that a
client behind many others of one address is found soon.
"""

import asyncio
import socket
from collections.abc import Callable

from maesh_core.proxy.http.clients.newcomers import Newcomer, NewcomerProtocol, Newcomers
from maesh_core.proxy.network.accepting import ACCEPT_PAUSE_S, Acceptor, QueueState


class HttpListener:
    """An open entrypoint. `build_protocol` creates each connection's protocol. Create it in the event loop's thread."""

    def __init__(
        self,
        newcomers: Newcomers,
        sock: socket.socket,
        entrypoint: int,
        build_protocol: Callable[[], NewcomerProtocol],
    ) -> None:
        self._newcomers = newcomers
        self._sock = sock
        self._entrypoint = entrypoint
        self._build_protocol = build_protocol
        self._acceptor = Acceptor(sock, entrypoint, self._on_client)
        self._is_open = True
        newcomers.listen(sock.fileno(), self._accept)

    def __repr__(self) -> str:
        return f"<HttpListener {self._entrypoint} open={self._is_open}>"

    def close(self) -> None:
        """Stop accepting; connections that were already accepted continue."""
        if self._is_open:
            self._is_open = False
            self._newcomers.stop_listening(self._sock.fileno())
            self._sock.close()

    def _accept(self, limit: int) -> None:
        if self._acceptor.accept(limit) is QueueState.OUT_OF_RESOURCES:
            self._newcomers.stop_listening(self._sock.fileno())
            asyncio.get_running_loop().call_later(ACCEPT_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if self._is_open:
            self._newcomers.listen(self._sock.fileno(), self._accept)

    def _on_client(self, descriptor: int, address: str, _entrypoint: int) -> None:
        self._newcomers.add(Newcomer(descriptor, address, self._build_protocol))
