"""Raw sockets, watched edge-triggered by an epoll of their own, whose descriptor is one reader of the event loop.

uvloop watches no descriptor that is a transport's, and its idle writers fire without end; an epoll inside its own does
neither. What watches is told once for each change, and so must do all there is to do, or put the rest off.
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from typing import Final

EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""The other side has ended its stream, or the connection is over: there is something to read, if only an end."""
ROUND_LIMIT: Final = 256
"""Descriptors served in one round of the loop."""
FEW_EVENTS: Final = 8
"""After so few events the poller looks again before it returns to the loop: what they led to has often come by then,
and a round of the loop costs more than a look."""
LOOKS_LIMIT: Final = 4
"""Looks in one round of the loop, so that others wait no longer than for some events."""

_logger = logging.getLogger(__name__)


class EdgePoller:
    """Tells watchers of their descriptors' events. To be made, used and closed in the loop's thread."""

    __slots__ = ("_epoll", "_finishing", "_forgotten", "_later", "_loop", "_watchers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watchers: dict[int, Callable[[int], None]] = {}
        self._later: list[Callable[[], None]] = []
        self._finishing: list[Callable[[], None]] = []
        self._forgotten: set[int] = set()
        """Since the events at hand were read: a descriptor of these numbers is another one by now."""
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def __repr__(self) -> str:
        """Show how many descriptors are watched."""
        return f"<EdgePoller {len(self._watchers)} descriptors>"

    def watch(self, descriptor: int, watcher: Callable[[int], None], events: int = EDGES) -> None:
        """Call `watcher(events)` at each change of a descriptor, its present state first; raises OSError."""
        self._epoll.register(descriptor, events)
        self._watchers[descriptor] = watcher

    def rewatch(self, descriptor: int, watcher: Callable[[int], None]) -> None:
        """Have another watcher called from now on."""
        self._watchers[descriptor] = watcher

    def forget(self, descriptor: int) -> None:
        """Watch a descriptor no more; to be called before it is closed."""
        if self._watchers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            self._forgotten.add(descriptor)

    def close_socket(self, sock: socket.SocketType) -> None:
        """Forget a socket and close it. No other process may have it: the kernel then takes it off the epoll itself."""
        descriptor = sock.fileno()
        if self._watchers.pop(descriptor, None) is not None:
            self._forgotten.add(descriptor)
        sock.close()

    def put_off(self, work: Callable[[], None]) -> None:
        """Do the rest of some work in the loop's next round, when others have had their turn."""
        if not self._later:
            self._loop.call_soon(self._go_on)
        self._later.append(work)

    def finish(self, work: Callable[[], None]) -> None:
        """Do some work when the events at hand have been told; for watchers to gather what is better done together."""
        self._finishing.append(work)

    def close(self) -> None:
        """Watch nothing any more."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watchers.clear()
        self._later.clear()
        self._finishing.clear()

    def _on_ready(self) -> None:
        poll, watchers, forgotten, finishing = self._epoll.poll, self._watchers, self._forgotten, self._finishing
        for _ in range(LOOKS_LIMIT):
            ready = poll(0, ROUND_LIMIT)
            if not ready:
                return
            forgotten.clear()
            for descriptor, events in ready:
                watcher = watchers.get(descriptor)
                if watcher is not None and descriptor not in forgotten:
                    try:
                        watcher(events)
                    except Exception:  # an edge is reported once: a defect must not cost others theirs
                        _logger.exception("serving a connection failed")
            while finishing:
                self._do(finishing.pop())
            if len(ready) > FEW_EVENTS or self._epoll.closed:
                return

    def _go_on(self) -> None:
        later, self._later = self._later, []
        for work in later:
            self._do(work)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # as above
            _logger.exception("serving a connection failed")
