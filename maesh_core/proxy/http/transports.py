"""What the engine asks of transports: to hold little, and to end so that nobody takes a part for the whole.

A side that is slower than the other pauses the other. What is on its way then is at most the high-water mark and the
one read (uvloop: 250 KB) that went over it, in each direction: that bounds an exchange's memory, however large its
messages are.
"""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Final

WRITE_HIGH_BYTES: Final = 65536
WRITE_LOW_BYTES: Final = 16384
"""Above the one the other side is not read, below the other it is again. 4 to 16 times as much cost a tenth more CPU
for bodies of 1 MiB: the bytes leave the processor's cache. A TLS transport would take 512 KiB of its own accord."""
PENDING_LIMIT_BYTES: Final = 65536
"""Body bytes held while there is no upstream to send them to; then the client is not read any further."""
HELD_LIMIT_BYTES: Final = 65536
"""Bytes behind the current request that are read ahead; then reading pauses until they are due."""
FULL_READ_BYTES: Final = 256000
"""What uvloop reads at most in one go. A read of this size is followed by up to 31 more before other connections."""
TURN_READS: Final = 4
"""Full reads of one connection in a turn of the loop: 1 MB, which passes in less than a millisecond."""
UNREAD_LIMIT_BYTES: Final = 1 << 20
"""Bytes that are still read from a connection on which a write has failed; the rest of a longer response is lost."""
_READ_BYTES: Final = 65536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def limit_write_buffer(transport: asyncio.WriteTransport) -> None:
    """Have a transport pause its protocol in time."""
    transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset a connection: its peer cannot take what it got for complete."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def is_broken(transport: asyncio.BaseTransport) -> bool:
    """Say whether a connection was reset. An event loop reports that only of one that it reads, or writes to."""
    raw = transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(raw.fileno(), 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def read_unread(transport: asyncio.BaseTransport) -> Iterator[bytes]:
    """Give what the socket of a transport still holds, after a write to it has failed.

    An event loop reads no more then, but Linux keeps bytes that came before a reset readable until the socket is
    closed: the transport must not have reported its end, or be reporting it now.
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
