"""The transport of a protocol whose connection is a stream of a tunnel: it has the methods of asyncio.Transport.

Takes bytes of the protocol, and keeps those that the windows or the socket do not allow. While the protocol pauses
reading, received bytes are kept and not credited, so there is at most one window of them. The end of a stream, and a
reset, follow the bytes that arrived before. As with a socket, connection_lost() is called in a later turn.
"""

import asyncio
import logging
from collections import deque
from typing import Any

from maesh_core.plugin_system.transports import OutgoingProtocol
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import CANCEL, NO_ERROR, PROTOCOL_ERROR
from maesh_core.proxy.tunnel.limits import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from maesh_core.proxy.tunnel.stream import UNLIMITED, StreamOutput, TunnelStream

_logger = logging.getLogger(__name__)


class StreamTransport(TunnelStream):
    """One stream as a transport. `peer` is the address and port of the stream's other end."""

    __slots__ = (
        "_has_held_end",
        "_held",
        "_high_bytes",
        "_is_closing",
        "_is_delivering",
        "_is_ending",
        "_is_lost",
        "_is_protocol_paused",
        "_is_reading_paused",
        "_loop",
        "_low_bytes",
        "_peer",
        "_pending",
        "_pending_bytes",
        "_protocol",
        "_reset_error",
    )

    def __init__(
        self,
        connection: StreamOutput,
        stream_id: int,
        send_window: int,
        *,
        protocol: OutgoingProtocol | None,
        peer: tuple[str, int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(connection, stream_id, send_window)
        self._protocol: Any = protocol
        self._peer = peer
        self._loop = loop
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_bytes = 0
        self._held: deque[bytes] = deque()
        self._has_held_end = False
        self._reset_error: ConnectionError | None = None
        self._high_bytes = WRITE_HIGH_BYTES
        self._low_bytes = WRITE_LOW_BYTES
        self._is_closing = self._is_ending = self._is_lost = False
        self._is_protocol_paused = self._is_reading_paused = self._is_delivering = False

    def start(self, protocol: OutgoingProtocol) -> None:
        """Connect a protocol to the stream."""
        self._protocol = protocol
        try:
            protocol.connection_made(self)
        except Exception as error:  # an error in one stream must not affect others
            self._fail(error)

    def on_retired(self) -> None:
        """Call the protocol's `path_retired`, if it has one."""
        notify = getattr(self._protocol, "path_retired", None)
        if notify is not None and not self._is_closing:
            try:
                notify()
            except Exception as error:  # as above
                self._fail(error)

    # --- called by the connection

    def on_headers(self, fields: Fields) -> None:
        """Refuse further header lists: a stream of CONNECT has none."""
        raise StreamError(PROTOCOL_ERROR, "a further header list")

    def on_data(self, data: bytes | memoryview) -> None:
        """Pass data on, or keep it while reading is paused."""
        received = data if isinstance(data, bytes) else bytes(data)
        if self._is_reading_paused or self._is_delivering:
            self._held.append(received)
        else:
            self._deliver(received)

    def on_end(self) -> None:
        """Report the end of what the peer sends, after its data."""
        if self._is_reading_paused or self._is_delivering:
            self._has_held_end = True
        else:
            self._deliver_end()

    def on_reset(self, code: int) -> None:
        """Report the reset after the bytes that arrived before it."""
        self._break(ConnectionResetError("the stream was reset"))

    def on_connection_lost(self) -> None:
        """Report a reset: nobody knows whether the peer would have sent more."""
        self._break(ConnectionAbortedError("the connection to the node has ended"))

    def on_closed(self) -> None:
        """Report the end, unless something that was received before has not been reported yet."""
        if not self._is_holding:
            self._lose(None)

    def pump(self, limit: int) -> bool:
        """Send bytes that wait; return whether more wait for the connection."""
        pending = self._pending
        while pending and limit > 0:
            data = pending[0]
            sent = self.connection.put_data(self, data, limit)
            if not sent:
                break
            limit -= sent
            self._pending_bytes -= sent
            if sent == len(data):
                pending.popleft()
            else:
                pending[0] = memoryview(data)[sent:]
        if self._is_protocol_paused and self._pending_bytes <= self._low_bytes:
            self._resume_protocol()
        if not pending:
            self._end_if_due()
            return False
        return self.send_window > 0

    # --- delivering to the protocol

    @property
    def _is_holding(self) -> bool:
        """Whether something that was received has not been reported yet."""
        return bool(self._held) or self._has_held_end or self._is_delivering

    def _deliver(self, data: bytes) -> None:
        self.credit(len(data))
        protocol = self._protocol
        if protocol is None or self._is_closing:
            return
        try:
            protocol.data_received(data)
        except Exception as error:  # as above
            self._fail(error)

    def _deliver_end(self) -> None:
        protocol = self._protocol
        if protocol is None or self._is_closing:
            return
        try:
            is_kept_open = protocol.eof_received()
        except Exception as error:  # as above
            self._fail(error)
            return
        if not is_kept_open:
            self.close()

    def _deliver_held(self) -> None:
        """Report what was received while reading was paused, as long as it is not paused again."""
        self._is_delivering = False
        held = self._held
        while held and not self._is_reading_paused:
            self._deliver(held.popleft())
        if held or self._is_reading_paused:
            return
        if self._has_held_end:
            self._has_held_end = False
            self._deliver_end()
        if self._reset_error is not None:
            self._lose(self._reset_error)
        elif self.is_gone:
            self._lose(None)

    def _break(self, error: ConnectionError) -> None:
        self._drop_pending()
        if self._is_holding and not self._is_closing:
            self._reset_error = error
        else:
            self._lose(error)

    def _fail(self, error: Exception) -> None:
        _logger.error("serving a stream failed", exc_info=error)
        self.cut()

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._held.clear()
            protocol, self._protocol = self._protocol, None
            if protocol is not None:
                self._loop.call_soon(protocol.connection_lost, error)

    def _resume_protocol(self) -> None:
        self._is_protocol_paused = False
        protocol = self._protocol
        if protocol is not None and not self._is_closing:
            try:
                protocol.resume_writing()
            except Exception as error:  # as above
                self._fail(error)

    # --- ends

    def _end_if_due(self) -> None:
        if self._is_closing:
            self._close_now()
        elif self._is_ending:
            self.send_end()

    def _close_now(self) -> None:
        if not self.is_gone:
            self.send_end()
            if not self.is_gone:
                self.reset(NO_ERROR)
        self._lose(None)

    def _drop_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0

    def cut(self) -> None:
        """Reset the peer, so that it cannot mistake what it received for a complete message."""
        self._is_closing = True
        self._drop_pending()
        self.reset(CANCEL)
        self._lose(None)

    # --- the methods of asyncio.Transport that protocols use

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return the `peername`, or what resets the peer (`reset`): a stream has no socket for this."""
        if name == "peername":
            return self._peer
        return self.cut if name == "reset" else default

    def get_protocol(self) -> Any:
        """Return the protocol; None after its end."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Call the methods of another protocol from now on."""
        if not self._is_lost:
            self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether it has ended, or will end once everything is sent."""
        return self._is_closing or self.is_gone

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes now, or as soon as the peer accepts them."""
        if self._is_closing or self._is_ending or self.is_gone or not data:
            return
        rest: bytes | memoryview = data if isinstance(data, bytes) else bytes(data)
        if not self._pending:
            sent = self.connection.put_data(self, rest, UNLIMITED)
            if sent == len(rest):
                return
            if sent:
                rest = memoryview(rest)[sent:]
        self._pending.append(rest)
        self._pending_bytes += len(rest)
        if self.send_window > 0:
            self.connection.add_blocked(self)
        protocol = self._protocol
        if self._pending_bytes > self._high_bytes and not self._is_protocol_paused and protocol is not None:
            self._is_protocol_paused = True
            protocol.pause_writing()

    def writelines(self, lines: Any) -> None:
        """Send several pieces of bytes."""
        self.write(b"".join(lines))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits at which the protocol is paused and resumed."""
        self._high_bytes = WRITE_HIGH_BYTES if high is None else high
        self._low_bytes = self._high_bytes // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits at which the protocol is resumed and paused."""
        return self._low_bytes, self._high_bytes

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait."""
        return self._pending_bytes

    def can_write_eof(self) -> bool:
        """Whether one side can end alone; always True."""
        return True

    def write_eof(self) -> None:
        """End our side once everything is sent."""
        if not self._is_ending and not self._is_closing:
            self._is_ending = True
            if not self._pending:
                self.send_end()

    def is_reading(self) -> bool:
        """Whether received bytes are passed on."""
        return not self._is_reading_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Keep what is received."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """Pass on what was kept, in the next turn, and then what is received."""
        if not self._is_reading_paused:
            return
        self._is_reading_paused = False
        if (self._held or self._has_held_end or self._reset_error is not None) and not self._is_delivering:
            self._is_delivering = True
            self._loop.call_soon(self._deliver_held)

    def close(self) -> None:
        """End once everything is sent. Nothing more is received."""
        if not self._is_closing:
            self._is_closing = True
            self._held.clear()
            if not self._pending or self.is_gone:
                self._close_now()

    def abort(self) -> None:
        """End now. If bytes were not sent, the peer is reset; else this looks like a socket that was closed."""
        if self._pending:
            self.cut()
            return
        self._is_closing = True
        self.reset(NO_ERROR)
        self._lose(None)
