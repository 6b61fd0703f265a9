"""The first lines of a connection between two nodes, before it belongs to another protocol.

A subclass reads a line in `on_line`; `hand_over` passes the transport and the bytes after the line to another protocol.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, cast

from maesh_relay.wire import LINE_LIMIT_BYTES


class LineProtocol(asyncio.Protocol, ABC):
    """Reads lines. It has ended when the connection has ended or belongs to another protocol."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held = b""
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Split bytes into lines. One that is too long or cannot be read ends the connection."""
        self._held += data
        while not self._has_ended:
            line, end, rest = self._held.partition(b"\n")
            if len(line) > LINE_LIMIT_BYTES:
                self.fail("a line is too long")
            elif not end:
                return
            else:
                self._held = rest
                try:
                    self.on_line(line)
                except ValueError as error:
                    self.fail(str(error))

    @abstractmethod
    def on_line(self, line: bytes) -> None:
        """Use one line; ValueError ends the connection."""

    def fail(self, reason: str) -> None:
        """End the connection."""
        if not self._has_ended:
            self._has_ended = True
            if self.transport is not None:
                self.transport.abort()
            self.on_failed(reason)

    def on_failed(self, reason: str) -> None:
        """Handle that the connection has ended before it was handed over."""

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end."""
        self.fail("the connection ended")

    def hand_over(self, protocol: Any) -> None:
        """Let another protocol have the transport, and the bytes that were read too far."""
        transport = self.transport
        assert transport is not None
        self._has_ended = True
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._held:
            protocol.data_received(self._held)
