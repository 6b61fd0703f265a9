"""A worker's access to the memory that the workers of a node share.

Takes the socket and the arena from the parent (workers/memory_keeper.py); returns regions by name. A request for a
region waits for the parent's reply, so call it only while a configuration is applied, never per request. Without a
parent, or if the arena is full, a region is private to this process.
"""

import ctypes
import logging
import mmap
import os
import socket
import weakref

import msgspec

from maesh_core.proxy.workers.memory_messages import DESCRIPTORS_VARIABLE, MemoryReply, MemoryRequest

ANSWER_LIMIT_S = 2.0
NAME_LIMIT_CHARACTERS = 16384

logger = logging.getLogger(__name__)

_Cells = ctypes.Array[ctypes.c_char]


class SharedRegion:
    """Bytes that all workers of the node share. They are released when no view or cast of them is left."""

    __slots__ = ("view",)

    def __init__(self, cells: _Cells) -> None:
        self.view = memoryview(cells).cast("B")

    def __repr__(self) -> str:
        """Show the size."""
        return f"<SharedRegion of {self.view.nbytes} bytes>"


class WorkerMemory:
    """Returns regions for the worker of a slot. Without a socket, every region is private."""

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
        """Show the number of regions."""
        return f"<WorkerMemory {len(self._held)} regions{'' if self._sock else ', private'}>"

    @classmethod
    def inherit(cls) -> "WorkerMemory":
        """Take over the socket and the arena from the parent, if there is one."""
        text = os.environ.pop(DESCRIPTORS_VARIABLE, "")
        if not text:
            return cls()
        slot, sock, arena = map(int, text.split(","))
        memory = cls(socket.socket(fileno=sock), arena, slot=slot)
        os.close(arena)
        return memory

    def share(self, name: str, size: int) -> SharedRegion:
        """Return the region with this name and size: all workers share its bytes, which are zero at first.

        Raises ValueError.
        """
        if not 0 < size <= 1 << 24 or len(name) > NAME_LIMIT_CHARACTERS:
            raise ValueError(f"a region of {size} bytes with this name is not allowed")
        cells = self._held.get((name, size))
        if cells is None:
            cells = self._held[name, size] = self._acquire(name, size)
        return SharedRegion(cells)

    def settle(self) -> None:
        """Report that the first configuration was applied; the parent frees regions of former workers."""
        self._send(MemoryRequest("settle"))

    def close(self) -> None:
        """Close the socket; later regions are private."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _acquire(self, name: str, size: int) -> _Cells:
        """Return a region as an array. Views of it keep it alive; when the array is freed, the region is released."""
        offset = self._request(MemoryRequest("acquire", name, size)) if self._arena is not None else -1
        if offset < 0 or self._arena is None:
            return (ctypes.c_char * size)()
        cells = (ctypes.c_char * size).from_buffer(self._arena, offset)
        weakref.finalize(cells, self._send, MemoryRequest("release", name, size)).atexit = False
        return cells

    def _request(self, request: MemoryRequest) -> int:
        if self._sock is None:
            return -1
        try:
            self._sock.send(msgspec.msgpack.encode(request))
            return msgspec.msgpack.decode(self._sock.recv(256), type=MemoryReply).offset
        except (OSError, msgspec.DecodeError) as error:  # a late reply could be mistaken for the next one
            logger.error("cannot use shared memory, so limits apply to this worker only: %s", error)
            self.close()
            return -1

    def _send(self, request: MemoryRequest) -> None:
        if self._sock is not None:
            try:
                self._sock.send(msgspec.msgpack.encode(request))
            except OSError:
                self.close()
