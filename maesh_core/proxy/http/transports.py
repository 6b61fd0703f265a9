"""Limits and functions for transports: bounded buffers, and resets that reveal truncated messages.

When one side is slower, reading the other side pauses. In each direction, an exchange then buffers at most the
high-water mark and one more read (uvloop: 250 KB). This bounds the memory of an exchange, whatever the size of its
messages.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

WRITE_HIGH_BYTES: Final = 65536
WRITE_LOW_BYTES: Final = 16384
"""Above WRITE_HIGH_BYTES, the other side is paused; below WRITE_LOW_BYTES, it resumes. Values of 4 to 16 times as
much cost a tenth more CPU for bodies of 1 MiB, because the bytes leave the processor's cache. A TLS transport's
default is 512 KiB."""
PENDING_LIMIT_BYTES: Final = 65536
"""Body bytes that are stored while there is no upstream. Above this, reading the client pauses."""
HELD_LIMIT_BYTES: Final = 65536
"""Bytes after the current request that are read ahead. Above this, reading pauses until they are needed."""
FULL_READ_BYTES: Final = 256000
"""The largest read of uvloop. After a read of this size, it reads up to 31 more times before it serves other
connections."""
TURN_READS: Final = 4
"""Full reads of one connection in a turn of the loop: 1 MB, which takes less than a millisecond to forward."""
UNREAD_LIMIT_BYTES: Final = 1 << 20
"""Bytes that are still read from a connection after a write failed; the rest of a longer response is lost."""
_READ_BYTES: Final = 65536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ReleasedTransport(NamedTuple):
    """A transport that its connection has given up, and its state at that time.

    `held` contains bytes that were read but not used. `has_ended` means that the peer sends no more. `on_lost` is
    called once, when the transport ends.
    """

    transport: asyncio.Transport
    held: bytes
    has_ended: bool
    is_read_paused: bool
    is_write_paused: bool
    on_lost: Callable[[], None] | None = None


def limit_write_buffer(transport: asyncio.WriteTransport) -> None:
    """Set the limits at which a transport pauses writing."""
    transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset a connection, so that its peer cannot mistake what it received for a complete message."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    elif (cut := transport.get_extra_info("reset")) is not None:  # a stream of a tunnel between nodes
        cut()
    transport.abort()


def is_broken(transport: asyncio.BaseTransport) -> bool:
    """Return whether a connection was reset, which an event loop reports only while it reads or writes it."""
    raw = transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(raw.fileno(), 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def read_unread(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """Yield the bytes that a transport's socket still contains after a write has failed.

    The event loop then reads no more, but Linux keeps bytes that arrived before a reset readable until the socket is
    closed. Call this before or while the transport reports its end, not later.
    """
    raw = transport.get_extra_info("socket")
    left = UNREAD_LIMIT_BYTES if raw is not None else 0
    while left > 0:
        try:
            data = os.read(raw.fileno(), min(left, _READ_BYTES))
        except OSError:
            return
        if not data:
            return
        left -= len(data)
        yield data
