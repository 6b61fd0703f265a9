"""A worker's side of the memory that the workers of a node have in common.

Takes the socket and the arena that the parent gave (workers/memory_keeper.py); gives regions by name. Asking waits for
the parent's answer, so it is done where a configuration is taken, and never where a request passes. Where there is no
parent, or no room, a region is this process's own.
"""

import ctypes
import logging
import mmap
import os
import socket
import weakref

import msgspec

from maesh_core.proxy.workers.memory_messages import DESCRIPTORS_VARIABLE, Answer, Wish

ANSWER_LIMIT_S = 2.0
NAME_LIMIT_CHARACTERS = 16384

logger = logging.getLogger(__name__)

_Cells = ctypes.Array[ctypes.c_char]


class SharedRegion:
    """Bytes that all workers of the node see; given back when neither their view nor a cast of it is left."""

    __slots__ = ("view",)

    def __init__(self, cells: _Cells) -> None:
        self.view = memoryview(cells).cast("B")

    def __repr__(self) -> str:
        """Show the size."""
        return f"<SharedRegion of {self.view.nbytes} bytes>"


class WorkerMemory:
    """Where a worker of a slot gets regions from. Without a socket every region is private."""

    __slots__ = ("__weakref__", "_arena", "_held", "_sock", "slot")

    def __init__(self, sock: socket.socket | None = None, arena: int = -1, *, slot: int = 0) -> None:
        self.slot = slot
        self._sock = sock
        self._held: weakref.WeakValueDictionary[tuple[str, int], _Cells] = weakref.WeakValueDictionary()
        self._arena: mmap.mmap | None = None
        if sock is not None:
            sock.settimeout(ANSWER_LIMIT_S)
            self._arena = mmap.mmap(arena, 0)

    def __repr__(self) -> str:
        """Show what is held."""
        return f"<WorkerMemory {len(self._held)} regions{'' if self._sock else ', private'}>"

    @classmethod
    def inherit(cls) -> "WorkerMemory":
        """Take over what the parent left, if it did."""
        text = os.environ.pop(DESCRIPTORS_VARIABLE, "")
        if not text:
            return cls()
        slot, sock, arena = map(int, text.split(","))
        memory = cls(socket.socket(fileno=sock), arena, slot=slot)
        os.close(arena)
        return memory

    def share(self, name: str, size: int) -> SharedRegion:
        """Give the region of a name and size: the same bytes to every worker, zeros to the first."""
        if not 0 < size <= 1 << 24 or len(name) > NAME_LIMIT_CHARACTERS:
            raise ValueError(f"no region can have this name and {size} bytes")
        cells = self._held.get((name, size))
        if cells is None:
            cells = self._held[name, size] = self._take(name, size)
        return SharedRegion(cells)

    def settle(self) -> None:
        """Say that the first configuration is in force: what a former worker had, and nobody asked for since, goes."""
        self._tell(Wish("settle"))

    def close(self) -> None:
        """Ask for nothing any more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _take(self, name: str, size: int) -> _Cells:
        """Take a region as an array: whatever looks into it keeps it, and its end is the region's."""
        offset = self._ask(Wish("take", name, size)) if self._arena is not None else -1
        if offset < 0 or self._arena is None:
            return (ctypes.c_char * size)()
        cells = (ctypes.c_char * size).from_buffer(self._arena, offset)
        weakref.finalize(cells, self._tell, Wish("leave", name, size)).atexit = False
        return cells

    def _ask(self, wish: Wish) -> int:
        if self._sock is None:
            return -1
        try:
            self._sock.send(msgspec.msgpack.encode(wish))
            return msgspec.msgpack.decode(self._sock.recv(256), type=Answer).offset
        except (OSError, msgspec.DecodeError) as error:  # the answer could come late, and be taken for another's
            logger.error("the parent gives no memory, so limits hold for this worker alone: %s", error)
            self.close()
            return -1

    def _tell(self, wish: Wish) -> None:
        if self._sock is not None:
            try:
                self._sock.send(msgspec.msgpack.encode(wish))
            except OSError:
                self.close()
