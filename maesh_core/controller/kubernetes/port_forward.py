"""Forwards TCP connections to a port of a pod, through the API server, as `kubectl port-forward` does.

Takes a client and a pod; listens on 127.0.0.1, and passes each connection on over a WebSocket of its own, with the
protocol `v4.channel.k8s.io`. The API server needs the permission to create `pods/portforward`. Whoever uses this must
not trust the way: TLS with the pod is a matter of the connections themselves.
"""

import asyncio
import contextlib
import socket
from typing import Final, Self

import aiohttp

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError

PROTOCOL: Final = "v4.channel.k8s.io"
READ_BYTES: Final = 32 * 1024
_DATA, _ERROR = 0, 1
"""Channels of the first port: the first byte of each message."""
_PORT_BYTES: Final = 2
"""The first message of each channel has the number of the port."""


class PortForward:
    """A listening socket whose connections reach a port of a pod: `async with`. `failure` is that of the last one."""

    def __init__(self, client: KubernetesClient, namespace: str, pod: str, pod_port: int) -> None:
        self._client = client
        self._path = build_path("v1", "pods", namespace=namespace, name=pod, subresource="portforward")
        self._pod_port = pod_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.failure: KubernetesError | None = None

    def __repr__(self) -> str:
        return f"<PortForward {self.port} to {self._path}>"

    async def __aenter__(self) -> Self:
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._tasks.add(task)
        try:
            query = {"ports": str(self._pod_port)}
            async with self._client.open_websocket(self._path, query, protocol=PROTOCOL) as websocket:
                self.failure = None
                await _pump_both(reader, writer, websocket)
        except KubernetesError as error:
            self.failure = error
        except (OSError, aiohttp.ClientError):
            pass  # the connection ends, which its user sees
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _pump_both(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, websocket: aiohttp.ClientWebSocketResponse
) -> None:
    """Pass bytes on in both directions, until either side ends. Raises KubernetesError if the pod cannot be reached."""
    sending = asyncio.create_task(_send(reader, websocket))
    receiving = asyncio.create_task(_receive(websocket, writer))
    try:
        done, _ = await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _send(reader: asyncio.StreamReader, websocket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(READ_BYTES):
        await websocket.send_bytes(bytes((_DATA,)) + data)


async def _receive(websocket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    begun: set[int] = set()
    async for message in websocket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel not in begun:
            begun.add(channel)
            content = content[_PORT_BYTES:]
        if channel == _ERROR and content:
            raise KubernetesError(f"port-forward: {' '.join(content[:300].decode(errors='replace').split())}")
        if channel == _DATA and content:
            writer.write(content)
            await writer.drain()
