"""Opens and closes the listeners of one port for one protocol.

Takes a handler and bound sockets. A port on all addresses has several sockets; either all listeners open or none.
"""

import asyncio
import select
import socket
from collections.abc import Iterable, Sequence

import msgspec

from maesh_core.plugin_system.protocols import Listener, ProtocolHandler
from maesh_core.proxy.network.sockets import BACKLOG

ACCEPT_ROUNDS_LIMIT = 2 * BACKLOG
"""Turns of the loop for emptying the accept queue of a closing port. A listener accepts at least one client per
turn, and a full queue has BACKLOG clients. After this many turns, clients that still connect are reset."""

QUIET_ROUNDS = 2
"""Turns without new clients before closing: asyncio's own loop creates a transport one turn after accepting."""


class Listening(msgspec.Struct, frozen=True):
    """An open port."""

    listeners: tuple[Listener, ...]
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Stop accepting at once. Clients in the accept queue are reset, unless another process has the socket too."""
        for listener in self.listeners:
            listener.close()


async def listen_on(handler: ProtocolHandler, sockets: Sequence[socket.socket], port: int) -> Listening:
    """Open listeners on a port's sockets, which this function then owns. Raises OSError."""
    listeners: list[Listener] = []
    try:
        for sock in sockets:
            listeners.append(await handler.open_listener(sock, port))
            _restore_backlog(sock)
    except BaseException:
        for listener in listeners:
            listener.close()
        for sock in sockets[len(listeners) :]:
            sock.close()
        raise
    return Listening(tuple(listeners), tuple(sockets))


async def close_listening(opened: Iterable[Listening]) -> None:
    """Accept all waiting clients, then stop accepting: closing a socket resets the clients in its queue."""
    opened = list(opened)
    try:
        await _wait_accepted([sock for each in opened for sock in each.sockets])
    finally:
        for each in opened:
            each.close()


def _restore_backlog(sock: socket.socket) -> None:
    """Set the backlog again: a handler that uses the event loop's own server calls listen() with a backlog of 100."""
    if sock.type == socket.SOCK_STREAM and sock.fileno() >= 0:
        sock.listen(BACKLOG)


async def _wait_accepted(sockets: Iterable[socket.socket]) -> None:
    """Run the loop until no client waits on the sockets."""
    poll = select.poll()
    pending = [sock for sock in sockets if sock.fileno() >= 0]
    for sock in pending:
        poll.register(sock.fileno(), select.POLLIN)
    rounds = quiet_rounds = 0
    while pending and quiet_rounds < QUIET_ROUNDS and rounds < ACCEPT_ROUNDS_LIMIT:
        rounds += 1
        quiet_rounds = 0 if poll.poll(0) else quiet_rounds + 1
        await asyncio.sleep(0)
