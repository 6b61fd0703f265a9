"""Connections to pods through an API server for tests: the subresources `proxy` and `portforward`.

Takes where the port of a pod really is. As a real API server does, `proxy` removes who the user is, and `portforward`
passes on bytes over a WebSocket with the protocol `v4.channel.k8s.io`.
"""

import asyncio
import contextlib
import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import web

from maesh_testing.kubernetes.access import Call

PROTOCOL = "v4.channel.k8s.io"
_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/:]+)(?::(\d+))?/(proxy|portforward)(/.*)?")
_REMOVED = {"authorization", "connection", "host", "content-length"}


class PodTarget(NamedTuple):
    """What a request names; `call` is in RBAC's words."""

    call: Call
    port: int
    path: str


def parse_pod_target(method: str, path: str, query: Mapping[str, str]) -> PodTarget | None:
    """Parse the path of a request; None if it is no connection to a pod."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    namespace, name, port, subresource, rest = found.groups()
    verb = "create" if method == "POST" or subresource == "portforward" else "get"
    call = Call(verb, "", "pods", subresource, namespace, name)
    return PodTarget(call, int(port or query.get("ports", "80")), rest or "/")


class PodConnections:
    """Where the ports of pods are, by namespace, name and port."""

    def __init__(self) -> None:
        self.addresses: dict[tuple[str, str, int], tuple[str, int]] = {}
        self.seen: list[bytes] = []
        """What has passed through forwarded ports, to look for secrets."""

    def __repr__(self) -> str:
        return f"<PodConnections {self.addresses}>"

    async def handle(self, request: web.BaseRequest, target: PodTarget) -> web.StreamResponse:
        """Connect to the pod."""
        address = self.addresses.get((target.call.namespace, target.call.name, target.port))
        if target.call.subresource == "portforward":
            return await self._forward(request, target.port, address)
        if address is None:
            return web.Response(status=503, text="no endpoints available")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _REMOVED}
        url = f"http://{address[0]}:{address[1]}{target.path}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, url, params=request.rel_url.query, headers=headers, data=await request.read()
            ) as found,
        ):
            return web.Response(status=found.status, body=await found.read(), content_type=found.content_type)

    async def _forward(
        self, request: web.BaseRequest, port: int, address: tuple[str, int] | None
    ) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await websocket.prepare(request)
        for channel in (0, 1):
            await websocket.send_bytes(struct.pack("<BH", channel, port))
        try:
            if address is None:
                raise ConnectionRefusedError
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            await websocket.send_bytes(b"\x01error forwarding port: connection refused")
            return websocket

        async def receive() -> None:
            while data := await reader.read(65536):
                self.seen.append(data)
                await websocket.send_bytes(b"\0" + data)
            await websocket.close()

        receiving = asyncio.create_task(receive())
        try:
            async for message in websocket:
                self.seen.append(message.data[1:])
                writer.write(message.data[1:])
                await writer.drain()
        finally:
            receiving.cancel()
            writer.transport.abort()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await receiving
        return websocket
