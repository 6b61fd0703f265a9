"""The HTTP engine of a node, with paths of the fake transport, between clients and servers of a test."""

import asyncio
import contextlib
import dataclasses
import socket
from typing import Any

from maesh_core.model.configuration import HttpRouter, Part, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    REFUSED_STREAM,
    SETTINGS,
    render_frame_header,
    render_rst_stream,
)
from maesh_core.proxy.http.http2.hpack.encoder import Encoder
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.transport.paths import Paths
from maesh_core.settings import CarryingSettings

HERE, THERE = "here", "there"


class Sender:
    """A handler for one service `a`, whose servers are on node `there` unless a test says otherwise."""

    def __init__(self, transport, *ports, node=THERE, mode="permissive", scheme="http", tls_name="", **settings):
        self._transport = transport
        self.ports, self.node, self.mode, self.scheme, self.tls_name = ports, node, mode, scheme, tls_name
        self._settings = dataclasses.replace(CarryingSettings(node=HERE), **settings)
        self.nodes = {}
        """The nodes of servers that are on others, by port."""
        self.middlewares = {}
        self.kinds = {}
        self.parts = {}
        """The ports and the weights of the parts of `a`, by key; without any, it has servers itself."""

    async def __aenter__(self):
        self.clock = Clock(asyncio.get_running_loop())
        self.paths = Paths(
            HERE,
            self.clock,
            self._transport,
            guard_kinds=("guard",),
            names_clients=self._settings.client_header,
            random_share=lambda: 0.5,
        )
        self.handler = HttpHandler(self._settings, self.clock, paths=self.paths)
        self.apply()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.address = listening.getsockname()
        self._listener = await self.handler.open_listener(listening, 1)
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self.handler.abort()
        self.clock.close()
        environment = self.handler.environment
        while environment.clients or environment.upstreams or environment.tunnels:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)

    def apply(self):
        section = Section(
            routers={"n/a:80": HttpRouter(entrypoint=1, hosts=("a",), service="n/a:80", middlewares=tuple(self.kinds))},
            services=self._build_services(),
            middlewares=self.kinds,
        )
        table = self.handler.compile_table(section, middlewares=self.middlewares, changed=None)
        self.handler.apply_table(table)

    def _build_services(self):
        if not self.parts:
            return {"n/a:80": self._build_service(self.ports)}
        whole = Service(parts=tuple(Part(service=key, weight=weight) for key, (_, weight) in self.parts.items()))
        return {"n/a:80": whole, **{key: self._build_service(ports) for key, (ports, _) in self.parts.items()}}

    def _build_service(self, ports):
        servers = tuple(
            Server(address="127.0.0.1", port=port, node=self.nodes.get(port, self.node), tls_name=self.tls_name)
            for port in ports
        )
        return Service(servers=servers, scheme=self.scheme, encryption=self.mode)

    @property
    def callers(self):
        return self.handler.environment.callers

    @property
    def servers(self):
        return list(self.handler._servers.values())

    @property
    def aside(self):
        return [server for server in self.servers if server.aside is not None]

    def count_paths(self):
        families = {family.name: family for family in self.paths.collect_metrics()}
        samples: Any = families["maesh_transport_connections"].samples
        return {labels[1:]: int(count) for labels, count in samples}

    def count_sent(self, noun="requests"):
        """Return what was sent by path and reason."""
        families = {family.name: family for family in self.paths.collect_metrics()}
        samples: Any = families[f"maesh_transport_{noun}"].samples
        return {labels[1:]: int(count) for labels, count in samples}

    async def ask(self, request=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        """Send a request over a connection of its own; return the status, and the reason or the body."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(request)
            return await read_response(reader)
        finally:
            writer.transport.abort()


async def read_response(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
    body = (await reader.readexactly(int(fields.get("content-length", 0)))).decode()
    return int(head.split()[1]), body.strip()


class Http2Server:
    """A server of HTTP/2 that answers requests without a body, or refuses them."""

    def __init__(self, *, refuses=False):
        self._refuses, self.requests = refuses, 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        encoder = Encoder()
        writer.write(render_frame_header(0, SETTINGS, 0, 0))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(PREFACE))
            while header := await reader.readexactly(9):
                await reader.readexactly(int.from_bytes(header[:3], "big"))
                stream_id = int.from_bytes(header[5:], "big")
                if header[3] == HEADERS:
                    self.requests += 1
                    block = encoder.encode(((b":status", b"200"), (b"content-length", b"0")))
                    answer = render_frame_header(len(block), HEADERS, END_HEADERS | END_STREAM, stream_id) + block
                    writer.write(render_rst_stream(stream_id, REFUSED_STREAM) if self._refuses else answer)
        writer.transport.abort()


class HttpServer:
    """A server that counts connections and requests."""

    def __init__(self):
        self.connections = self.requests = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.transport.abort()
