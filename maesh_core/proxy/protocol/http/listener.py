"""Accepts the clients of one HTTP entrypoint, and makes each a connection of the event loop.

The kernel's queue is first come, first served: behind somebody who connects over and over, all others wait. So it is
emptied quickly, as accepting costs a tenth of making a connection, and connections are made for one client address
after the other, a few in each turn of the loop.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from maesh_core.proxy.accepting import ACCEPT_PAUSE_S, Acceptor, Waiting

ACCEPTS_IN_A_TURN = 16
"""Clients taken out of the kernel's queue in one turn of the event loop."""
CONNECTIONS_IN_A_TURN = 2
"""Clients whose connections are made in one turn."""
ARRIVED_LIMIT = 4096
"""Clients that were accepted and have no connection yet; above, one of the address that has most is closed."""


class Arrivals:
    """Accepted sockets, by the addresses they came from; addresses take turns."""

    __slots__ = ("_by_address", "_count")

    def __init__(self) -> None:
        self._by_address: dict[str, deque[socket.socket]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<Arrivals {self._count} of {len(self._by_address)} addresses>"

    def __len__(self) -> int:
        return self._count

    def add(self, client: socket.socket, address: str) -> None:
        """Add a socket; if there are too many, close the latest one of the address that has most."""
        self._by_address.setdefault(address, deque()).append(client)
        self._count += 1
        if self._count > ARRIVED_LIMIT:
            most = max(self._by_address, key=lambda each: len(self._by_address[each]))
            self._take(most, self._by_address[most].pop).close()

    def pop(self) -> socket.socket:
        """Take the oldest socket of the address whose turn it is; there must be one."""
        address = next(iter(self._by_address))
        waiting = self._by_address[address]
        client = self._take(address, waiting.popleft)
        if waiting:
            self._by_address[address] = self._by_address.pop(address)
        return client

    def _take(self, address: str, take: Callable[[], socket.socket]) -> socket.socket:
        self._count -= 1
        client = take()
        if not self._by_address[address]:
            del self._by_address[address]
        return client


class HttpListener:
    """An open entrypoint. `build_protocol` makes the protocol of each connection. To be made in the loop's thread."""

    def __init__(
        self, sock: socket.socket, entrypoint: int, build_protocol: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._entrypoint = entrypoint
        self._build_protocol = build_protocol
        self._arrivals = Arrivals()
        self._acceptor = Acceptor(sock, entrypoint, self._on_client, limit=ACCEPTS_IN_A_TURN)
        self._connecting: set[asyncio.Task[object]] = set()
        self._is_queued = False
        self._is_open = True
        self._loop.add_reader(sock, self._accept)

    def __repr__(self) -> str:
        return f"<HttpListener {self._entrypoint} {self._arrivals!r}>"

    @property
    def is_busy(self) -> bool:
        """Whether clients were accepted that have no connection yet."""
        return bool(self._arrivals or self._connecting)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes of it."""
        return not (self._is_open or self.is_busy)

    def close(self) -> None:
        """Stop accepting; what was accepted goes on."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _accept(self) -> None:
        if self._acceptor.accept() is Waiting.NOT_TO_BE_HAD:
            self._loop.remove_reader(self._sock)
            self._loop.call_later(ACCEPT_PAUSE_S, self._go_on)
        if self._arrivals and not self._is_queued:
            self._take_turn()

    def _go_on(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._sock, self._accept)

    def _on_client(self, client: socket.socket, address: str, _entrypoint: int) -> None:
        self._arrivals.add(client, address)

    def _take_turn(self) -> None:
        """Make some connections, and leave the others for the next turn. One that is broken already costs no turn."""
        self._is_queued = False
        left = CONNECTIONS_IN_A_TURN
        while left and self._arrivals:
            client = self._arrivals.pop()
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                client.close()
            else:
                left -= 1
                self._connect(client)
        if self._arrivals:
            self._is_queued = True
            self._loop.call_soon(self._take_turn)

    def _connect(self, client: socket.socket) -> None:
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._build_protocol, client))
        self._connecting.add(task)
        task.add_done_callback(self._on_connected)

    def _on_connected(self, task: "asyncio.Task[object]") -> None:
        self._connecting.discard(task)
        if not task.cancelled():
            task.exception()  # a client that has gone already is nobody's error
