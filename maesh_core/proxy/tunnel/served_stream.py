"""The receiver's end of a stream whose requests this node judges: the transport of the protocol that serves it.

Takes the place of the stream that was judged (pod_connection.py), when a server is known to accept connections. What
the stream carries goes to the protocol, never to a pod directly.
"""

import asyncio
from typing import final

from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.tunnel.stream import StreamOutput
from maesh_core.proxy.tunnel.transport import StreamTransport


@final
class ServedStream(StreamTransport):
    """One stream; its `peername` is the client's address."""

    __slots__ = ("delivery",)

    def __init__(
        self,
        connection: StreamOutput,
        stream_id: int,
        send_window: int,
        *,
        delivery: Delivery,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(connection, stream_id, send_window, protocol=None, peer=(delivery.client, 0), loop=loop)
        self.delivery = delivery
