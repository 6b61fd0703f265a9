"""Watches raw sockets edge-triggered, with its own epoll whose descriptor is one reader of the event loop.

uvloop does not watch descriptors of its transports, and reports idle writers repeatedly; a nested epoll avoids both. A
watcher is called once per change, so it must handle everything that is ready, or defer the rest with put_off().
"""

import asyncio
import logging
import select
import socket
from collections.abc import Callable
from typing import Final

EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
GONE: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""The peer has closed its side, or the connection has ended; a read returns at least the end."""
ROUND_LIMIT: Final = 256
"""Descriptors served in one turn of the loop."""
FEW_EVENTS: Final = 8
"""After at most this number of events, the poller polls again before it returns to the loop: replies have often
arrived by then, and a turn of the loop costs more than a poll."""
POLLS_IN_A_TURN: Final = 4
"""Polls in one turn of the loop, which limits how long other work waits."""
MISSES_LIMIT: Final = 16
"""Further polls without an event, after which a turn has only one poll: few requests are in progress."""
GAIN: Final = 4
"""Misses that one further poll with events outweighs."""
PROBE_TURNS: Final = 16
"""Turns with one poll before a further one is tried again."""

_logger = logging.getLogger(__name__)


class EdgePoller:
    """Calls watchers when events of their descriptors occur. Create, use and close it in the event loop's thread."""

    __slots__ = (
        *("_epoll", "_finishing", "_forgotten", "_is_closed", "_later"),
        *("_loop", "_misses", "_poll", "_single_turns", "_watchers"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._poll = self._epoll.poll  # found once: it is called in each turn
        self._is_closed = False
        self._watchers: dict[int, Callable[[int], None]] = {}
        self._later: list[Callable[[], None]] = []
        self._finishing: list[Callable[[], None]] = []
        self._forgotten: set[int] = set()
        """Descriptors forgotten since the current events were read: their numbers may have been reused."""
        self._misses = 0
        self._single_turns = 0
        """Turns that still have only one poll."""
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def __repr__(self) -> str:
        """Show how many descriptors are watched."""
        return f"<EdgePoller {len(self._watchers)} descriptors>"

    def watch(self, descriptor: int, watcher: Callable[[int], None], events: int = EDGES) -> None:
        """Call `watcher(events)` at each change of a descriptor, first with its current state; raises OSError."""
        self._epoll.register(descriptor, events)
        self._watchers[descriptor] = watcher

    def rewatch(self, descriptor: int, watcher: Callable[[int], None]) -> None:
        """Replace the watcher of a descriptor."""
        self._watchers[descriptor] = watcher

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor. Call this before closing it."""
        if self._watchers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            self._forgotten.add(descriptor)

    def close_socket(self, sock: socket.SocketType) -> None:
        """Forget a socket and close it. No other process may hold it: the kernel then removes it from the epoll."""
        descriptor = sock.fileno()
        if self._watchers.pop(descriptor, None) is not None:
            self._forgotten.add(descriptor)
        sock.close()

    def put_off(self, work: Callable[[], None]) -> None:
        """Run `work` in the loop's next turn, after other connections."""
        if not self._later:
            self._loop.call_soon(self._go_on)
        self._later.append(work)

    def finish(self, work: Callable[[], None]) -> None:
        """Run `work` after the current events were reported; watchers use this to batch work."""
        self._finishing.append(work)

    def close(self) -> None:
        """Stop watching all descriptors."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._watchers.clear()
        self._later.clear()
        self._finishing.clear()

    def _on_ready(self) -> None:
        poll, watchers, forgotten, finishing = self._poll, self._watchers, self._forgotten, self._finishing
        for number in range(POLLS_IN_A_TURN):
            if number and not self._is_worth_polling():
                return
            ready = poll(0, ROUND_LIMIT)
            if number:
                self._note_further_poll(has_events=bool(ready))
            if not ready:
                return
            forgotten.clear()
            for descriptor, events in ready:
                watcher = watchers.get(descriptor)
                if watcher is not None and descriptor not in forgotten:
                    try:
                        watcher(events)
                    except Exception:  # an edge is reported once, so an error of one watcher must not skip the others
                        _logger.exception("serving a connection failed")
            while finishing:
                self._do(finishing.pop())
            if len(ready) > FEW_EVENTS or self._is_closed:
                return

    def _is_worth_polling(self) -> bool:
        """Whether a further poll in this turn is likely to find events."""
        if self._single_turns:
            self._single_turns -= 1
            return False
        return True

    def _note_further_poll(self, *, has_events: bool) -> None:
        if has_events:
            self._misses = max(0, self._misses - GAIN)
        elif self._misses < MISSES_LIMIT:
            self._misses += 1
        else:
            self._single_turns = PROBE_TURNS

    def _go_on(self) -> None:
        later, self._later = self._later, []
        for work in later:
            self._do(work)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # as above
            _logger.exception("serving a connection failed")
