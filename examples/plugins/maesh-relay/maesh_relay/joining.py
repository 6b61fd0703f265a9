"""Joins two connections byte for byte. The end of one side is forwarded alone, and a reset as a reset.

Each side is read only while the other one has room.
"""

import asyncio
import socket
import struct
from typing import cast

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero time: closing the socket resets the connection."""


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection, so that its peer cannot take what it has received for complete."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class Side(asyncio.Protocol):
    """One of two joined connections; `other` is set before any byte arrives."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and read nothing until both sides are joined."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if self.other is None:
            self.transport.pause_reading()

    def join(self, other: "Side") -> None:
        """Let bytes flow between this side, which was connected first, and another one."""
        self.other = other
        assert self.transport is not None
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if (transport := self._find_other()) is not None:
            transport.write(data)

    def eof_received(self) -> bool:
        """Forward the end, and keep this side open for what the other one still sends."""
        self._has_ended = True
        if (transport := self._find_other()) is not None and self.other is not None:
            if self.other._has_ended:  # noqa: SLF001 - of the same class
                transport.close()
                return False
            transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End the other side: by a reset, unless both have ended in good order."""
        transport = self._find_other()
        if transport is None:
            return
        if error is None and self._has_ended:
            transport.close()
        else:
            reset(transport)

    def pause_writing(self) -> None:
        """Read the other side no more."""
        if (transport := self._find_other()) is not None:
            transport.pause_reading()

    def resume_writing(self) -> None:
        """Read the other side again."""
        if (transport := self._find_other()) is not None:
            transport.resume_reading()

    def _find_other(self) -> asyncio.Transport | None:
        transport = None if self.other is None else self.other.transport
        return None if transport is None or transport.is_closing() else transport
