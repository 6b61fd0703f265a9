"""Accepts the clients of one entrypoint on one socket, and passes each to the handler."""

import asyncio
import select
import socket
from collections.abc import Callable

from maesh_core.plugin_system.node import SocketWatcher
from maesh_core.proxy.network.accepting import ACCEPT_PAUSE_S, Acceptor, QueueState

ACCEPTS_IN_A_TURN = 8


class TcpListener:
    """An open entrypoint. `on_client` receives the socket, the client's address, and the entrypoint."""

    def __init__(
        self,
        sockets: SocketWatcher,
        sock: socket.socket,
        entrypoint: int,
        on_client: Callable[[socket.SocketType, str, int], None],
    ) -> None:
        self._sockets = sockets
        self._acceptor = Acceptor(sock, entrypoint, self._on_client)
        self._hand_over = on_client
        self._family, self._type, self._protocol = int(sock.family), int(sock.type), sock.proto
        self._sock = sock
        self._entrypoint = entrypoint
        self._is_open = True
        self._is_pausing = False
        sockets.watch(sock.fileno(), self._on_event, select.EPOLLIN | select.EPOLLET)

    def __repr__(self) -> str:
        return f"<TcpListener {self._entrypoint}>"

    def close(self) -> None:
        """Stop accepting; connections that were already accepted continue."""
        if self._is_open:
            self._is_open = False
            self._sockets.forget(self._sock.fileno())
            self._sock.close()

    def _on_client(self, descriptor: int, address: str, entrypoint: int) -> None:
        client = socket.SocketType(self._family, self._type, self._protocol, descriptor)
        self._hand_over(client, address, entrypoint)

    def _on_event(self, events: int) -> None:
        if not self._is_pausing:
            self._accept()

    def _accept(self) -> None:
        """Accept some waiting clients, and leave the others for the next turn."""
        self._is_pausing = False
        if not self._is_open:
            return
        waiting = self._acceptor.accept(ACCEPTS_IN_A_TURN)
        if waiting is QueueState.OUT_OF_RESOURCES:
            self._is_pausing = True
            asyncio.get_running_loop().call_later(ACCEPT_PAUSE_S, self._accept)
        elif waiting is QueueState.MAYBE_MORE and self._is_open:
            self._sockets.put_off(self._accept)
