"""Memory that the workers of a node share; the parent allocates it by name, and frees it.

The arena is one anonymous file that every worker maps. Takes workers' requests over one socket per worker; returns
offsets of regions, which are zero at first. A region is freed when no worker uses it. Regions of a dead worker stay
until its replacement has settled, so that rate limits and circuit breakers survive. It never reads regions.
"""

import asyncio
import itertools
import logging
import mmap
import os
import socket

import msgspec

from maesh_core.proxy.workers.memory_messages import GRAIN_BYTES, MemoryReply, MemoryRequest

ARENA_BYTES = 64 << 20
"""Bytes per worker, since the counters grow with the number of workers. Memory is used only when written to."""

logger = logging.getLogger(__name__)

_Key = tuple[str, int]


class _Client:
    """One worker's slot, and the parent's side of its socket."""

    __slots__ = ("number", "slot", "sock")

    def __init__(self, number: int, slot: int, sock: socket.socket) -> None:
        self.number = number
        self.slot = slot
        self.sock = sock


class _Region:
    """A named region; `holders` maps the numbers of the clients that use it to their slots."""

    __slots__ = ("holders", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.holders: dict[int, int] = {}


class MemoryKeeper:
    """The arena of a node. Create and close it in the event loop."""

    __slots__ = ("_clients", "_end", "_file", "_free", "_has_logged_full", "_map", "_numbers", "_regions", "_size")

    def __init__(self, size: int = ARENA_BYTES) -> None:
        self._size = size
        self._file = os.memfd_create("maesh-node", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._regions: dict[_Key, _Region] = {}
        self._clients: dict[int, _Client] = {}
        self._numbers = itertools.count(1)
        self._has_logged_full = False

    def __repr__(self) -> str:
        """Show the allocated regions."""
        return f"<MemoryKeeper {len(self._regions)} regions, {self._end} of {self._size} bytes>"

    def attach(self, slot: int) -> tuple[socket.socket, int]:
        """Start serving a new worker of a slot; return its end of the socket and the arena, which it inherits."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
        client = _Client(next(self._numbers), slot, ours)
        self._clients[client.number] = client
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable, client)
        return theirs, self._file

    def close(self) -> None:
        """Stop serving; workers keep what they have mapped."""
        for client in list(self._clients.values()):
            self._detach(client)
        if not self._map.closed:
            self._map.close()
            os.close(self._file)

    def _on_readable(self, client: _Client) -> None:
        try:
            message = client.sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message = b""
        if not message:
            self._detach(client)
            return
        try:
            self._execute(client, msgspec.msgpack.decode(message, type=MemoryRequest))
        except (msgspec.DecodeError, OSError) as error:
            logger.error("invalid memory request from worker %d: %s", client.slot, error)
            self._detach(client)

    def _execute(self, client: _Client, request: MemoryRequest) -> None:
        key = (request.name, request.size)
        if request.verb == "acquire":
            client.sock.send(msgspec.msgpack.encode(MemoryReply(self._acquire(client, key))))
        elif request.verb == "release":
            self._release(key, client.number)
        else:
            self._settle(client)

    def _acquire(self, client: _Client, key: _Key) -> int:
        region = self._regions.get(key)
        if region is None:
            offset = self._allocate(_round_up(key[1]))
            if offset < 0:
                return offset
            region = self._regions[key] = _Region(offset)
        region.holders[client.number] = client.slot
        return region.offset

    def _allocate(self, size: int) -> int:
        """Return the offset of a free region of zeros; -1 if there is no room."""
        free = self._free.get(size)
        if free:
            return free.pop()
        if self._end + size > self._size:
            if not self._has_logged_full:
                logger.error(
                    "the shared memory is full: new limits and circuit breakers apply to each worker separately"
                )
            self._has_logged_full = True
            return -1
        self._end += size
        return self._end - size

    def _release(self, key: _Key, number: int) -> None:
        region = self._regions.get(key)
        if region is None:
            return
        region.holders.pop(number, None)
        if not region.holders:
            del self._regions[key]
            size = _round_up(key[1])
            self._map[region.offset : region.offset + size] = bytes(size)
            self._free.setdefault(size, []).append(region.offset)

    def _settle(self, client: _Client) -> None:
        """Release regions of former workers of the slot."""
        for key, region in list(self._regions.items()):
            for number, slot in list(region.holders.items()):
                if slot == client.slot and number < client.number:
                    self._release(key, number)

    def _detach(self, client: _Client) -> None:
        if self._clients.pop(client.number, None) is not None:
            asyncio.get_running_loop().remove_reader(client.sock.fileno())
            client.sock.close()


def _round_up(size: int) -> int:
    """Round a size up, so that every region is aligned for numbers of any type."""
    return -(-max(size, 1) // GRAIN_BYTES) * GRAIN_BYTES
