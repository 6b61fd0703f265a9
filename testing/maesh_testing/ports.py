"""Finds ports for what a test starts, so that tests which run at the same time never choose the same.

A range of ports is divided into lots. A process claims a whole lot with an abstract Unix socket, which the kernel
removes when the process ends and which belongs to the same network namespace as the ports (unix(7), "Abstract
sockets"). This module opens nothing but such sockets and probes.
"""

import atexit
import contextlib
import itertools
import random
import socket
from collections.abc import Iterator

FIRST_PORT, LAST_PORT = 20000, 32000  # below the ports that Linux gives to outgoing connections
LOTS = 24
"""How many processes can have a lot of the same range at the same time; further ones share."""
STRIDE = 10
"""The distance between two ports: the entrypoints of a service with several ports follow the first one."""


class PortLot:
    """Some ports of a range, which no other process has unless `is_shared`."""

    def __init__(self, ports: range, claim: socket.socket | None) -> None:
        self.ports, self._claim = ports, claim
        self._next = self._iterate()

    def __repr__(self) -> str:
        return f"<PortLot {self.ports[0]}-{self.ports[-1]}{' shared' if self.is_shared else ''}>"

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the same ports."""
        return self._claim is None

    def find(self, kind: socket.SocketKind) -> int | None:
        """Find the next port that nothing is bound to; None when there is none."""
        for port in itertools.islice(self._next, len(self.ports)):
            with socket.socket(type=kind) as probe, contextlib.suppress(OSError):
                probe.bind(("", port))
                return port
        return None

    def release(self) -> None:
        """Let other processes claim it."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _iterate(self) -> Iterator[int]:
        ports = [port for offset in range(STRIDE) for port in self.ports[offset::STRIDE]]
        if self.is_shared:
            random.shuffle(ports)
        return itertools.cycle(ports)


def claim_lot(first: int, last: int) -> PortLot:
    """Claim a lot of this range; where other processes have them all, return the whole range, shared."""
    size = max(1, (last + 1 - first) // LOTS)
    starts = range(first, last + 2 - size, size)
    for start in random.sample(starts, len(starts)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0maesh-test-ports-{start}-{size}")
        except OSError:
            claim.close()
            continue
        return PortLot(range(start, start + size), claim)
    return PortLot(range(first, last + 1), None)


class PortFinder:
    """The lots of one process, claimed when they are first needed."""

    def __init__(self) -> None:
        self._lots: dict[tuple[int, int], PortLot] = {}

    def find(self, kind: socket.SocketKind, first: int, last: int) -> int:
        """Find a port in this range. Raises AssertionError where every port of the lot is bound."""
        lot = self._lots.get((first, last))
        if lot is None:
            lot = self._lots[first, last] = claim_lot(first, last)
        port = lot.find(kind)
        assert port is not None, f"every port of {lot} is bound"
        return port

    def release(self) -> None:
        """Release every lot."""
        for lot in self._lots.values():
            lot.release()
        self._lots.clear()


_finder = PortFinder()
atexit.register(_finder.release)


def find_free_port(
    kind: socket.SocketKind = socket.SOCK_STREAM, *, first: int = FIRST_PORT, last: int = LAST_PORT
) -> int:
    """Find a port that nothing is bound to, and that comes again only after all others of this process's lot.

    The nine ports that follow are free as well when the range is large enough, for the further ports of a service.
    Give a protocol of its own another range, below the default one.
    """
    return _finder.find(kind, first, last)
