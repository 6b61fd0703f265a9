"""A client connection that reads and writes its file descriptor directly.

Creating and closing an event loop's transport costs more than one small request. This transport costs much less to
create and slightly more per read, so it suits short connections (newcomers.py). It behaves as an asyncio.Transport does
for its protocol: it calls connection_lost() in a later turn, never from inside a call of the protocol.
"""

import asyncio
import os
import select
import socket
from typing import Any, Final, Protocol

from maesh_core.proxy.http.transports import WRITE_HIGH_BYTES, WRITE_LOW_BYTES

READ_BYTES: Final = 65536
"""Bytes read at once. Other connections that are ready are read once before the same connection is read again."""
_READ: Final = select.EPOLLIN
_WRITE: Final = select.EPOLLOUT
_BROKEN: Final = select.EPOLLERR
_ENDED: Final = select.EPOLLHUP | select.EPOLLERR


class StreamProtocol(Protocol):
    """The methods of asyncio.Protocol that a transport calls."""

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""

    def eof_received(self) -> bool | None:
        """Handle the peer's FIN; return a true value to keep our side open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""

    def pause_writing(self) -> None:
        """Pause writing."""

    def resume_writing(self) -> None:
        """Resume writing."""


class DescriptorWatcher(Protocol):
    """Watches descriptors, and reports ended connections in a later turn."""

    __slots__ = ()

    def rewatch(self, descriptor: int, events: int) -> None:
        """Change the events for which a descriptor is watched."""

    def lose(self, transport: "DescriptorTransport", error: Exception | None) -> None:
        """Stop watching a transport, and call its `on_lost(error)` in a later turn."""


class DescriptorTransport:
    """One connection. It owns the descriptor; `watching` watches it for the epoll events in `interest`."""

    __slots__ = (
        "_has_ended",
        "_is_closing",
        "_is_ending_write",
        "_is_lost",
        "_is_write_paused",
        "_peer",
        "_protocol",
        "_socket",
        "_unsent",
        "_watching",
        "descriptor",
        "interest",
        "reads",
    )

    def __init__(self, watching: DescriptorWatcher, descriptor: int, peer: tuple[str, int]) -> None:
        self._watching = watching
        self.descriptor = descriptor
        self._peer = peer
        self._protocol: StreamProtocol | None = None
        self._socket: socket.socket | None = None
        self._unsent = bytearray()
        self._is_closing = self._is_lost = self._has_ended = False
        self._is_ending_write = self._is_write_paused = False
        self.interest: int = _READ
        self.reads = 0

    def __repr__(self) -> str:
        return f"<DescriptorTransport {self.descriptor} of {self._peer[0]} unsent={len(self._unsent)}>"

    # --- called by the watcher of the descriptor

    def on_events(self, events: int) -> None:
        """Write and read as far as `events` allow."""
        if events & _WRITE and self._unsent:
            self._flush()
        if events & _READ and self.interest & _READ:
            self._read()
        elif events & _ENDED:
            self.fail(ConnectionResetError() if events & _BROKEN else None)

    def fail(self, error: Exception | None) -> None:
        """End now. connection_lost() receives `error`, which is None for a normal end."""
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self._watching.lose(self, error)

    def on_lost(self, error: Exception | None) -> None:
        """Notify the protocol that the connection has ended, and close the descriptor."""
        protocol, self._protocol = self._protocol, None
        try:
            if protocol is not None:
                protocol.connection_lost(error)
        finally:
            if self._socket is not None:
                self._socket.close()
            else:
                os.close(self.descriptor)

    def detach(self) -> socket.socket:
        """Return the socket and give up its ownership. The protocol may go on writing until pass_on()."""
        self._is_lost = True
        self._protocol = None
        return self._get_socket()

    def pass_on(self, successor: asyncio.Transport) -> None:
        """Let another transport of the detached socket send what could not be sent since, and end as this one did."""
        if self._unsent:
            successor.write(bytes(self._unsent))
            self._unsent.clear()
        if self._is_ending_write:
            successor.write_eof()
        if self._is_closing:
            successor.close()

    def _read(self) -> None:
        protocol = self._protocol
        if protocol is None or self._is_lost:
            return
        try:
            data = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        if data:
            self.reads += 1
            protocol.data_received(data)
            return
        self._has_ended = True
        self._watch(self.interest & ~_READ)
        if not protocol.eof_received():
            self.close()

    def _flush(self) -> None:
        sent = self._send(self._unsent)
        del self._unsent[:sent]
        if self._is_lost:
            return
        if not self._unsent:
            self._watch(self.interest & ~_WRITE)
            self._end_if_due()
        if self._is_write_paused and len(self._unsent) <= WRITE_LOW_BYTES and self._protocol is not None:
            self._is_write_paused = False
            self._protocol.resume_writing()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.fail(error)
            return len(data)

    def _end_if_due(self) -> None:
        if self._is_closing:
            self.fail(None)
        elif self._is_ending_write:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._get_socket().shutdown(socket.SHUT_WR)
        except OSError as error:
            self.fail(error)

    def _watch(self, interest: int) -> None:
        if interest != self.interest and not self._is_lost:
            self.interest = interest
            self._watching.rewatch(self.descriptor, interest)

    def _get_socket(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(fileno=self.descriptor)
            self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        return self._socket

    # --- the methods of asyncio.Transport that protocols use

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return the `peername`, whose port is 0 because it is not stored, or the `socket`."""
        if name == "peername":
            return self._peer
        return self._get_socket() if name == "socket" else default

    def set_protocol(self, protocol: StreamProtocol) -> None:
        """Call the methods of another protocol from now on."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether it has ended, or will end once everything is sent."""
        return self._is_closing

    def write(self, data: bytes) -> None:
        """Send bytes now, or as soon as the peer accepts them."""
        if self._is_closing or self._is_ending_write:
            return
        if not self._unsent:
            sent = self._send(data)
            if sent == len(data):
                return
            data = data[sent:]
            self._watch(self.interest | _WRITE)
        self._unsent += data
        if len(self._unsent) > WRITE_HIGH_BYTES and not self._is_write_paused and self._protocol is not None:
            self._is_write_paused = True
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the limits of transports.py always apply."""

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes."""
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        """Whether one side can be shut down alone; always True."""
        return True

    def write_eof(self) -> None:
        """Shut down our side once everything is sent."""
        if not self._is_ending_write and not self._is_closing:
            self._is_ending_write = True
            if not self._unsent:
                self._shut_down()

    def pause_reading(self) -> None:
        """Pause reading."""
        self._watch(self.interest & ~_READ)

    def resume_reading(self) -> None:
        """Resume reading."""
        if not self._has_ended and not self._is_closing:
            self._watch(self.interest | _READ)

    def close(self) -> None:
        """End once everything is sent."""
        if not self._is_closing:
            self._is_closing = True
            if self._unsent:
                self._watch(_WRITE)
            else:
                self.fail(None)

    def abort(self) -> None:
        """End now."""
        self.fail(None)
