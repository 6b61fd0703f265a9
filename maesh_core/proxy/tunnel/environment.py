"""The state that all tunnels of a worker share: settings, clock, sockets, counters and buffers. Makes no decisions.

Encrypted bytes are read into one buffer, decrypted into a second one, and processed from there before anything else is
read, so that idle connections need no buffers. `Flusher` sends what many streams have written in one turn at once.
"""

import asyncio
from typing import Final, Protocol

from maesh_core.plugin_system.node import Node
from maesh_core.proxy.http.http2.frames import FRAME_HEADER_BYTES
from maesh_core.proxy.tunnel.counters import TunnelCounters
from maesh_core.proxy.tunnel.limits import FRAME_LIMIT_BYTES, READ_BYTES

RECORD_BYTES: Final = 16384
"""Plain bytes of a TLS record, at most."""


class Flushable(Protocol):
    """A connection with bytes to send."""

    __slots__ = ()

    def flush(self) -> None:
        """Send what was written."""


class Flusher:
    """Sends what connections have written: after the current events of the poller, or at the end of the turn."""

    __slots__ = ("_end", "_is_scheduled", "_is_serving", "_loop", "_sockets", "_waiting")

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self._sockets = node.sockets
        self._loop = loop
        self._end = self._end_events
        self._waiting: list[Flushable] = []
        self._is_scheduled = False
        self._is_serving = False

    def __repr__(self) -> str:
        return f"<Flusher {len(self._waiting)} waiting>"

    def begin_event(self) -> None:
        """Send after the poller's current events; every watcher of the poller calls this first."""
        if not self._is_serving:
            self._is_serving = True
            self._sockets.finish(self._end)

    def queue(self, connection: Flushable) -> None:
        """Call the connection's `flush` soon; it must not be queued already."""
        self._waiting.append(connection)
        if not self._is_serving and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.run)

    def run(self) -> None:
        """Send what is waiting."""
        self._is_scheduled = False
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()

    def _end_events(self) -> None:
        self._is_serving = False
        self.run()


class TunnelEnvironment:
    """The shared state of one worker's tunnels."""

    __slots__ = (
        "cipher",
        "clock",
        "counters",
        "flusher",
        "loop",
        "node",
        "plain",
        "plain_view",
        "scratch",
        "scratch_payload",
        "sockets",
    )

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.clock = node.clock
        self.sockets = node.sockets
        self.loop = loop
        self.counters = TunnelCounters()
        self.flusher = Flusher(node, loop)
        self.cipher = memoryview(bytearray(READ_BYTES))
        kept_bytes = FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES
        self.plain = bytearray(READ_BYTES + kept_bytes + 2 * RECORD_BYTES)
        """Decrypted bytes: the rest of the last read, and what was read since."""
        self.plain_view = memoryview(self.plain)
        self.scratch = memoryview(bytearray(FRAME_HEADER_BYTES + FRAME_LIMIT_BYTES))
        """One frame whose payload is read from a pod's socket."""
        self.scratch_payload = self.scratch[FRAME_HEADER_BYTES:]

    def __repr__(self) -> str:
        return f"<TunnelEnvironment {self.counters!r}>"
