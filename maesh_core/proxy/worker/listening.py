"""One port, listened on for one protocol: from its sockets to the handler's listeners, and closed with care.

Takes a handler and bound sockets. A port on all addresses is several sockets; it opens whole or not at all.
"""

import asyncio
import select
import socket
from collections.abc import Iterable, Sequence

import msgspec

from maesh_core.plugin_system.hookspecs import Listener, ProtocolHandler
from maesh_core.proxy.network.sockets import BACKLOG

ACCEPT_ROUNDS_LIMIT = 2 * BACKLOG
"""Rounds of the loop that the accept queue of a closing port is given: a listener accepts one client or more in a
round, and a full queue is BACKLOG long. Clients that never stop coming lose."""

QUIET_ROUNDS = 2
"""Rounds after the last one: asyncio's own loop makes a transport the round after it accepted."""


class Listening(msgspec.Struct, frozen=True):
    """An open port."""

    listeners: tuple[Listener, ...]
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Stop accepting at once: what waits to be accepted is reset, unless another process has the socket too."""
        for listener in self.listeners:
            listener.close()


async def listen_on(handler: ProtocolHandler, sockets: Sequence[socket.socket], port: int) -> Listening:
    """Serve a port on its sockets, which this now owns. Raises OSError."""
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
    """Stop accepting, after everything that waits was accepted: closing a socket resets its whole queue."""
    opened = list(opened)
    try:
        await _wait_accepted([sock for each in opened for sock in each.sockets])
    finally:
        for each in opened:
            each.close()


def _restore_backlog(sock: socket.socket) -> None:
    """Listen as was meant: a handler that uses the event loop's own server listens again, with a backlog of 100."""
    if sock.type == socket.SOCK_STREAM and sock.fileno() >= 0:
        sock.listen(BACKLOG)


async def _wait_accepted(sockets: Iterable[socket.socket]) -> None:
    """Let the loop run until nothing waits on the sockets."""
    poll = select.poll()
    pending = [sock for sock in sockets if sock.fileno() >= 0]
    for sock in pending:
        poll.register(sock.fileno(), select.POLLIN)
    rounds = quiet_rounds = 0
    while pending and quiet_rounds < QUIET_ROUNDS and rounds < ACCEPT_ROUNDS_LIMIT:
        rounds += 1
        quiet_rounds = 0 if poll.poll(0) else quiet_rounds + 1
        await asyncio.sleep(0)
