"""Two connections that speak another protocol after a 101: bytes go both ways as they come.

Takes over both transports from the connections of an exchange. Either side may end its half (RFC 9110 section 7.8 says
no more of HTTP here); one that breaks breaks the other, so that nobody takes a part for the whole.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.transports import FULL_READ_BYTES, TURN_READS, is_broken, reset

_NEVER: Final = float("inf")


class Released(NamedTuple):
    """A transport that its connection has let go of, and how that left it.

    `held` is what was read and is not used yet; `has_ended` says that its peer will send no more. `on_lost` is called
    once, at the transport's end.
    """

    transport: asyncio.Transport
    held: bytes
    has_ended: bool
    is_read_paused: bool
    is_write_paused: bool
    on_lost: Callable[[], None] | None = None


class Tunnel:
    """A pair of ends. It has a deadline while `tunnel_timeout` is set, and once one end is gone."""

    __slots__ = (
        "_environment",
        "_on_closed",
        "_unsent",
        "client",
        "deadline",
        "has_unread_end",
        "may_go_on",
        "upstream",
    )

    def __init__(self, environment: Environment, on_closed: Callable[[], None], may_go_on: Callable[[], bool]) -> None:
        self._environment = environment
        self.may_go_on = may_go_on
        self._on_closed: Callable[[], None] | None = on_closed
        self._unsent = 0
        self.deadline = _NEVER
        self.has_unread_end = False
        self.client: TunnelEnd | None = None
        self.upstream: TunnelEnd | None = None

    def __repr__(self) -> str:
        return f"<Tunnel {self.client!r} {self.upstream!r}>"

    def open(self, client: Released, upstream: Released, *, answer: bytes) -> None:
        """Begin: the client gets the answer and what came behind it, the upstream what the client sent early."""
        self._environment.tunnels.add(self)
        self.client, self.upstream = TunnelEnd(self, client), TunnelEnd(self, upstream)
        self.client.other, self.upstream.other = self.upstream, self.client
        self.on_bytes()
        self.client.write(answer + upstream.held)
        self.upstream.write(client.held)
        for end, released in ((self.client, client), (self.upstream, upstream)):
            end.follow_other()
            if released.has_ended:
                end.eof_received()

    def on_bytes(self) -> None:
        """Wait anew, if anybody waits."""
        timeout_s = self._environment.settings.tunnel_timeout
        if timeout_s:
            self.deadline = self._environment.clock.now + timeout_s

    def on_deadline(self) -> None:
        """Close what was idle for too long; cut what does not take the rest."""
        ends = [end for end in (self.client, self.upstream) if end is not None]
        unsent = sum(end.unsent_bytes for end in ends)
        if all(end.is_closing for end in ends) and not unsent < self._unsent:
            self.cut()
        else:
            self.close()

    def close(self) -> None:
        """Close both ends once they have taken what was written."""
        settings = self._environment.settings
        ends = [end for end in (self.client, self.upstream) if end is not None]
        self._unsent = sum(end.unsent_bytes for end in ends)
        self.deadline = self._environment.clock.now + settings.body_timeout
        for end in ends:
            end.close()

    def check(self) -> None:
        """Cut it if an end that is not read was reset: the event loop does not report that.

        The sweep calls this while there is such an end. Otherwise one that takes nothing would hold both for ever.
        """
        unread = [end for end in (self.client, self.upstream) if end is not None and end.is_unread]
        self.has_unread_end = bool(unread)
        if any(end.is_broken for end in unread):
            self.cut()

    def cut(self) -> None:
        """Reset both ends."""
        for end in (self.client, self.upstream):
            if end is not None:
                end.cut()

    def on_lost(self, end: "TunnelEnd") -> None:
        """Forget an end; with both, the exchange is over."""
        if end is self.client:
            self.client = None
        else:
            self.upstream = None
        if self.client is None and self.upstream is None and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            self._environment.tunnels.discard(self)
            on_closed()


class TunnelEnd:
    """One side's connection; what it brings goes to `other`."""

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
    )

    def __init__(self, tunnel: Tunnel, released: Released) -> None:
        self._tunnel = tunnel
        self._on_lost = released.on_lost
        self._transport: asyncio.Transport | None = released.transport
        self._has_ended = False
        self._is_read_paused = released.is_read_paused
        self._is_write_paused = released.is_write_paused
        self._full_reads = 0
        self._is_queued = False
        self.other: TunnelEnd | None = None
        tunnel.has_unread_end |= released.is_read_paused
        released.transport.set_protocol(cast("asyncio.BaseProtocol", self))

    def __repr__(self) -> str:
        return f"<TunnelEnd unsent={self.unsent_bytes} ended={self._has_ended}>"

    @property
    def unsent_bytes(self) -> int:
        """What was written here and is not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def is_broken(self) -> bool:
        """Whether this side was reset."""
        return self._transport is not None and is_broken(self._transport)

    @property
    def is_unread(self) -> bool:
        """Whether this side is open and not read, so that a reset is not reported."""
        return self._transport is not None and (self._is_read_paused or self._has_ended)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is taken from this side."""
        return self._transport is None or self._transport.is_closing()

    # --- what the event loop tells

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        self._tunnel.on_bytes()
        if self.other is not None:
            self.other.write(data)
        if len(data) >= FULL_READ_BYTES:
            self._count_full_read()

    def _count_full_read(self) -> None:
        """Leave more for the loop's next turn: the loop reads on at once while reads are full."""
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
        """Pass on that this side sends no more; True keeps the other half open."""
        self._has_ended = self._tunnel.has_unread_end = True
        other = self.other
        if other is None or self._transport is None or other.has_ended:
            self._tunnel.close()
            return False
        other.end()
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side in the same way."""
        self._transport = None
        if self._on_lost is not None:
            self._on_lost()
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if exc is None:
                self._tunnel.close()
            else:
                other.cut()
        self._tunnel.on_lost(self)

    def pause_writing(self) -> None:
        """Stop reading the other side: this one is slower."""
        self._is_write_paused = True
        if self.other is not None:
            self.other.follow_other()

    def resume_writing(self) -> None:
        """Read the other side again."""
        self._is_write_paused = False
        if self.other is not None:
            self.other.follow_other()

    # --- what the other end and the tunnel ask for

    @property
    def has_ended(self) -> bool:
        """Whether this side sends no more."""
        return self._has_ended

    def follow_other(self) -> None:
        """Read on while the other side takes what comes, and this one's turn lasts."""
        transport, other = self._transport, self.other
        if transport is None or other is None or transport.is_closing() or self._has_ended:
            return
        must_pause = self._is_queued or other._is_write_paused  # noqa: SLF001 - its twin
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

    def end(self) -> None:
        """End our half towards this side; a transport that has no halves closes."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            self._tunnel.close()

    def close(self) -> None:
        """Close once everything written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            reset(self._transport)
