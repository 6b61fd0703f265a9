"""Detects that a peer has left while its connection is not read.

An event loop reports the end of a connection only while it reads it. This module watches paused transports with an
epoll of its own (proxy/network/edges.py) until they are read again. Only paused transports cost anything.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

from maesh_core.proxy.network.edges import EdgePoller

_EVENTS: Final = select.EPOLLRDHUP | select.EPOLLET
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR


class EpollPeerWatch:
    """Watches the ends of paused transports. Use it only in the event loop's thread."""

    __slots__ = ("_poller", "_watched")

    def __init__(self) -> None:
        self._poller: EdgePoller | None = None
        self._watched: dict[asyncio.BaseTransport, int] = {}

    def __repr__(self) -> str:
        return f"<EpollPeerWatch watched={len(self._watched)}>"

    def watch(self, transport: asyncio.BaseTransport, on_peer_left: Callable[[bool], None]) -> None:
        """Call `on_peer_left(is_broken)` when the peer closes its side (False) or the connection breaks (True).

        A FIN after bytes that do not fit into the kernel's receive buffer has not arrived yet, and is not detected.
        """
        raw = transport.get_extra_info("socket")
        if raw is None or transport in self._watched:
            return
        descriptor = raw.fileno()
        if self._poller is None:
            self._poller = EdgePoller(asyncio.get_running_loop())
        try:
            self._poller.watch(descriptor, lambda events: on_peer_left(bool(events & _BROKEN)), _EVENTS)
        except OSError:  # the limit of epoll watches is reached; the connection's time-outs still apply
            return
        self._watched[transport] = descriptor

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Stop watching a transport that is read again or has ended. Call this before its socket is closed."""
        descriptor = self._watched.pop(transport, None)
        if descriptor is not None and self._poller is not None:
            self._poller.forget(descriptor)

    def close(self) -> None:
        """Stop watching all transports."""
        self._watched.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None
