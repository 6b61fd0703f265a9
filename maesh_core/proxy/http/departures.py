"""Notices that a peer has left while its connection is not read.

An event loop sees the end of a connection only where it reads it. A transport whose reading is paused is watched here,
by an epoll of its own (proxy/network/edges.py), until it is read again. Only transports that are paused cost anything.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

from maesh_core.proxy.network.edges import EdgePoller

_EVENTS: Final = select.EPOLLRDHUP | select.EPOLLET
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR


class Departures:
    """Transports whose ends are watched. To be used in the loop's thread; a forgotten transport costs nothing."""

    __slots__ = ("_poller", "_watched")

    def __init__(self) -> None:
        self._poller: EdgePoller | None = None
        self._watched: dict[asyncio.BaseTransport, int] = {}

    def __repr__(self) -> str:
        return f"<Departures watched={len(self._watched)}>"

    def watch(self, transport: asyncio.BaseTransport, on_departure: Callable[[bool], None]) -> None:
        """Call `on_departure(is_broken)` when the peer ends its side, or, with True, when the connection is broken.

        A FIN behind bytes that do not fit into the kernel's receive buffer has not arrived yet, and is not noticed.
        """
        raw = transport.get_extra_info("socket")
        if raw is None or transport in self._watched:
            return
        descriptor = raw.fileno()
        if self._poller is None:
            self._poller = EdgePoller(asyncio.get_running_loop())
        try:
            self._poller.watch(descriptor, lambda events: on_departure(bool(events & _BROKEN)), _EVENTS)
        except OSError:  # no more watches are to be had: the connection's time-outs hold all the same
            return
        self._watched[transport] = descriptor

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Watch a transport no more: it is read again, or has ended. To be called before its socket is closed."""
        descriptor = self._watched.pop(transport, None)
        if descriptor is not None and self._poller is not None:
            self._poller.forget(descriptor)

    def close(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        if self._poller is not None:
            self._poller.close()
            self._poller = None
