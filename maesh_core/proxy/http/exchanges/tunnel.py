"""Two connections that use another protocol after a 101: bytes are forwarded both ways unchanged.

Takes over both transports of an exchange. Each side may shut down its half of the connection (RFC 9110 section 7.8 says
nothing more for HTTP). If one connection breaks, the other is reset, so that no peer mistakes a part for the whole.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from maesh_core.model.traffic_record import CUT, IDLE, PROXY_ENDED
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.transports import FULL_READ_BYTES, TURN_READS, ReleasedTransport, is_broken, reset

_NEVER: Final = float("inf")


class Tunnel:
    """The two ends of a tunnel. It has a deadline if `tunnel_timeout` is set, and after one end has closed."""

    __slots__ = (
        "_environment",
        "_on_closed",
        "_unsent",
        "client",
        "deadline",
        "find_revocation",
        "has_unread_end",
        "is_in_clear",
        "reason",
        "received_bytes",
        "sent_bytes",
        "server_key",
        "upstream",
    )

    def __init__(
        self, environment: Environment, on_closed: Callable[[], None], find_revocation: Callable[[], str]
    ) -> None:
        self._environment = environment
        self.find_revocation = find_revocation
        self._on_closed: Callable[[], None] | None = on_closed
        self._unsent = 0
        self.deadline = _NEVER
        self.has_unread_end = False
        self.server_key: object = None
        """The key of its server."""
        self.is_in_clear = True
        """Whether its server is reached in clear; it may be on this node."""
        self.reason = ""
        """Why the mesh ended it, or that a side reset it; empty if a side has closed it."""
        self.client: TunnelEnd | None = None
        self.upstream: TunnelEnd | None = None
        self.received_bytes = self.sent_bytes = 0
        """Bytes that were forwarded to the server and to the client, without the 101; added when an end is lost."""

    def __repr__(self) -> str:
        return f"<Tunnel {self.client!r} {self.upstream!r}>"

    def open(self, client: ReleasedTransport, upstream: ReleasedTransport, *, answer: bytes) -> None:
        """Start: send the 101 and the bytes after it to the client, and the client's early bytes to the upstream."""
        self._environment.tunnels.add(self)
        self.client, self.upstream = TunnelEnd(self, client), TunnelEnd(self, upstream)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.on_bytes()
        self.client.write(answer + upstream.held)
        self.client.written_bytes = len(upstream.held)
        self.upstream.write(client.held)
        for end, released in ((self.client, client), (self.upstream, upstream)):
            end.follow_other()
            if released.has_ended:
                end.eof_received()

    def on_bytes(self) -> None:
        """Restart the idle time-out, if one is set."""
        timeout_s = self._environment.settings.tunnel_timeout
        if timeout_s:
            self.deadline = self._environment.clock.now + timeout_s

    def on_deadline(self) -> None:
        """Close a tunnel that was idle for too long; abort one that was closed and makes no progress."""
        ends = [end for end in (self.client, self.upstream) if end is not None]
        unsent = sum(end.unsent_bytes for end in ends)
        if all(end.is_closing for end in ends) and not unsent < self._unsent:
            self.abort()
        else:
            self._note(IDLE)
            self.close()

    def close(self) -> None:
        """Close both ends once they have received what was written."""
        settings = self._environment.settings
        ends = [end for end in (self.client, self.upstream) if end is not None]
        self._unsent = sum(end.unsent_bytes for end in ends)
        self.deadline = self._environment.clock.now + settings.body_timeout
        for end in ends:
            end.close()

    def check(self) -> None:
        """Abort the tunnel if an end that is not read was reset, which the event loop does not report.

        The sweep calls this while there is such an end. Otherwise a peer that stops reading could keep both connections
        open forever.
        """
        unread = [end for end in (self.client, self.upstream) if end is not None and end.is_unread]
        self.has_unread_end = bool(unread)
        if any(end.is_broken for end in unread):
            self.abort()

    def abort(self, reason: str = CUT) -> None:
        """Reset both ends. `reason` is the one in the record, unless there is an earlier one or the proxy ends."""
        self._note(PROXY_ENDED if self._environment.is_ending else reason)
        for end in (self.client, self.upstream):
            if end is not None:
                end.abort()

    def note_reset(self) -> None:
        """Note that a side has reset its connection."""
        self._note(CUT)

    def _note(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason

    def on_lost(self, end: "TunnelEnd") -> None:
        """Remove an end; after the second one, the exchange ends."""
        if end is self.client:
            self.client = None
            self.sent_bytes = end.written_bytes
        else:
            self.upstream = None
            self.received_bytes = end.written_bytes
        if self.client is None and self.upstream is None and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            self._environment.tunnels.discard(self)
            on_closed()


class TunnelEnd:
    """One side's connection; its bytes are forwarded to `other`."""

    __slots__ = (
        "_full_reads",
        "_has_ended",
        "_is_queued",
        "_is_read_paused",
        "_is_write_paused",
        "_on_lost",
        "_transport",
        "_tunnel",
        "other",
        "written_bytes",
    )

    def __init__(self, tunnel: Tunnel, released: ReleasedTransport) -> None:
        self._tunnel = tunnel
        self._on_lost = released.on_lost
        self._transport: asyncio.Transport | None = released.transport
        self._has_ended = False
        self._is_read_paused = released.is_read_paused
        self._is_write_paused = released.is_write_paused
        self._full_reads = 0
        self._is_queued = False
        self.written_bytes = 0
        self.other: TunnelEnd | None = None
        tunnel.has_unread_end |= released.is_read_paused
        released.transport.set_protocol(cast("asyncio.BaseProtocol", self))

    def __repr__(self) -> str:
        return f"<TunnelEnd unsent={self.unsent_bytes} ended={self._has_ended}>"

    @property
    def can_change_transport(self) -> bool:
        """Whether another transport may take over the connection: no (clients/newcomers.py)."""
        return False

    @property
    def unsent_bytes(self) -> int:
        """The number of bytes written to this side and not sent yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def is_broken(self) -> bool:
        """Whether this side was reset."""
        return self._transport is not None and is_broken(self._transport)

    @property
    def is_unread(self) -> bool:
        """Whether this side is open but not read, so that the event loop reports no reset."""
        return self._transport is not None and (self._is_read_paused or self._has_ended)

    @property
    def is_closing(self) -> bool:
        """Whether no more bytes are forwarded from this side."""
        return self._transport is None or self._transport.is_closing()

    # --- called by the event loop

    def data_received(self, data: bytes) -> None:
        """Forward bytes to the other side."""
        self._tunnel.on_bytes()
        if self.other is not None:
            self.other.write(data)
        if len(data) >= FULL_READ_BYTES:
            self._count_full_read()

    def _count_full_read(self) -> None:
        """Continue in the next turn after several full reads: the loop itself keeps reading while reads are full."""
        self._full_reads += 1
        if self._full_reads >= TURN_READS and not self._is_queued:
            self._full_reads = 0
            self._is_queued = True
            self.follow_other()
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_queued = False
        self.follow_other()

    def eof_received(self) -> bool:
        """Forward the end of this side; return True to keep the other half open."""
        self._has_ended = self._tunnel.has_unread_end = True
        other = self.other
        if other is None or self._transport is None or other.has_ended:
            self._tunnel.close()
            return False
        other.end()
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close or reset the other side in the same way."""
        self._transport = None
        if self._on_lost is not None:
            self._on_lost()
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if exc is None:
                self._tunnel.close()
            else:
                self._tunnel.note_reset()
                other.abort()
        self._tunnel.on_lost(self)

    def pause_writing(self) -> None:
        """Pause reading the other side, since this one is slower."""
        self._is_write_paused = True
        if self.other is not None:
            self.other.follow_other()

    def resume_writing(self) -> None:
        """Resume reading the other side."""
        self._is_write_paused = False
        if self.other is not None:
            self.other.follow_other()

    # --- called by the other end and by the tunnel

    @property
    def has_ended(self) -> bool:
        """Whether this side sends no more bytes."""
        return self._has_ended

    def follow_other(self) -> None:
        """Read this side unless the other side is paused or this side's turn is over."""
        transport, other = self._transport, self.other
        if transport is None or other is None or transport.is_closing() or self._has_ended:
            return
        must_pause = self._is_queued or other._is_write_paused  # noqa: SLF001 - the same class
        if must_pause and not self._is_read_paused:
            self._is_read_paused = True
            self._tunnel.has_unread_end = True
            transport.pause_reading()
        elif self._is_read_paused and not must_pause:
            self._is_read_paused = False
            transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes to this side."""
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)
            self.written_bytes += len(data)

    def end(self) -> None:
        """Shut down our half towards this side; close the tunnel if the transport has no halves."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            self._tunnel.close()

    def close(self) -> None:
        """Close once all written bytes are sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            reset(self._transport)
