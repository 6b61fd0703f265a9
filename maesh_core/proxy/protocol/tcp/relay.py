"""One client's TCP connection and the one to its server, joined.

Bytes pass as they come, with back-pressure both ways; one side's end of stream is passed on alone (half-close), and a
reset becomes a reset. What a side says before the other is connected is kept, one read of it, and handed over then.
"""

import asyncio
import socket
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from maesh_core.proxy.protocol.tcp.handler import TcpHandler, TcpRoute


class Relay:
    """The two ends, from the client's arrival until both have closed."""

    __slots__ = ("_connecting", "_handler", "_route", "client", "upstream")

    def __init__(self, handler: "TcpHandler", route: "TcpRoute", client: "End") -> None:
        self._handler = handler
        self._route = route
        self.client = client
        self.upstream: End | None = None
        route.counters.opened += 1
        handler.relays.add(self)
        self._connecting: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._connect())

    def __repr__(self) -> str:
        return f"<Relay {self.client!r} to {self.upstream!r}>"

    async def _connect(self) -> None:
        """Connect to one server after the other, before the client notices; close when none takes the connection."""
        loop = asyncio.get_running_loop()
        for address, port in self._route.list_servers():
            upstream = End()
            try:
                async with asyncio.timeout(self._handler.settings.connect_timeout):
                    await loop.create_connection(lambda end=upstream: end, address, port)  # type: ignore[misc]
            except (OSError, TimeoutError):
                self._route.counters.failed_connects += 1
                continue
            self._connecting = None
            self._join(upstream)
            return
        self._connecting = None
        self._route.counters.refused += 1
        self.client.reset()

    def _join(self, upstream: "End") -> None:
        client = self.client
        self.upstream = upstream
        client.relay, upstream.relay = self, self
        client.peer, upstream.peer = upstream, client
        if client.is_lost or upstream.is_lost:
            self.abort()
            return
        client.hand_over()
        upstream.hand_over()
        if client.has_ended and upstream.has_ended:
            client.close()
            upstream.close()

    def on_lost(self) -> None:
        """Forget the relay once both ends have closed."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self.client.is_lost and (self.upstream is None or self.upstream.is_lost) and self in self._handler.relays:
            self._handler.relays.discard(self)
            self._route.counters.closed += 1

    def abort(self) -> None:
        """Reset both connections."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.client.reset()
        if self.upstream is not None:
            self.upstream.reset()


class End(asyncio.Protocol):
    """One of the two connections. Read no further than its first bytes until it has a peer."""

    __slots__ = ("_early", "_transport", "has_ended", "is_lost", "peer", "relay")

    def __init__(self) -> None:
        self.peer: End | None = None
        self.relay: Relay | None = None
        self.is_lost = False
        self.has_ended = False
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        peername = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"<End {peername} ended={self.has_ended} lost={self.is_lost}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the peer; probe a silent connection, so that a dead one is found."""
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side likewise: what was written goes out, unless this side was reset."""
        self.is_lost = True
        if self.peer is not None and not self.peer.is_lost:
            self.peer.reset() if exc is not None else self.peer.close()
        if self.relay is not None:
            self.relay.on_lost()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        peer = self.peer
        if peer is None:
            # uvloop reads once after a pause in connection_made, and a server may speak before we see it connected.
            self._early.append(data)
            self.pause_reading()
        elif peer._transport is not None and not peer.is_lost:  # noqa: SLF001 - the same class
            peer._transport.write(data)  # noqa: SLF001 - the same class

    def hand_over(self) -> None:
        """Read on, unless the peer says otherwise on getting what came before it."""
        self.resume_reading()
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self.has_ended and self.peer is not None:
            self.peer.end()

    def eof_received(self) -> bool:
        """Pass the end of this side's stream on; the other direction goes on until it ends too."""
        self.has_ended = True
        peer = self.peer
        if peer is None:
            return True
        if peer.is_lost or peer.has_ended:
            return False
        peer.end()
        return True

    def pause_writing(self) -> None:
        """Stop reading the other side: this one is slower."""
        if self.peer is not None:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        """Read the other side again."""
        if self.peer is not None:
            self.peer.resume_reading()

    def pause_reading(self) -> None:
        """Take no more bytes."""
        if self._transport is not None and not self.is_lost and not self.has_ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        if self._transport is not None and not self.is_lost and not self.has_ended:
            self._transport.resume_reading()

    def end(self) -> None:
        """Send the end of stream, behind what was written."""
        if self._transport is not None and not self.is_lost and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Close once everything written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
