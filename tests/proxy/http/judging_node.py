"""A node whose HTTP engine judges the requests that other nodes send on, and a sender that sends what a test wants.

The sender has a valid certificate, opens streams by itself, and writes any bytes into them: what a node under an
attacker's control can do.
"""

import asyncio
import contextlib
import socket

from maesh_core.model.configuration import (
    HttpBranch,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Middleware,
    Part,
    Section,
    Server,
    Service,
)
from maesh_core.model.matches import HttpMatch
from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware as MiddlewareBase
from maesh_core.plugin_system.transports import Delivery, Peer
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.routing.middlewares import CompiledMiddleware
from maesh_core.proxy.routing.sections import ResolvedSection
from maesh_core.proxy.transport.deliveries import Deliveries
from maesh_core.proxy.transport.paths import Paths
from maesh_core.proxy.tunnel.engine import TunnelEngine
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

from ..transport.fake_transport import FakeTransport
from ..tunnel.conftest import Recorder, wait_until
from ..tunnel.node_certificates import Authority, build_identity

CLIENT = "10.1.0.1"
SERVICE, BRANCH, PART = "n/a:80", "n/a:80/beta", "n/a:80/part"
DENIED = Response(status=403, reason="not this path")


class Guard(MiddlewareBase):
    """Denies requests of the paths that begin with /secret, and of other clients."""

    def __init__(self):
        self.verdict = None
        self.is_open = False
        self.seen = []

    def on_request(self, exchange):
        self.seen.append((exchange.client_address, exchange.method, exchange.target, exchange.destination))
        if self.is_open or (exchange.client_address == CLIENT and not exchange.target.startswith(b"/secret")):
            return None
        return DENIED

    def is_still_allowed(self, connection):
        return self.is_open

    def judge_delivery(self, delivery):
        return self.verdict


class Pod:
    """A server of HTTP/1.1 that keeps the heads that it receives."""

    def __init__(self, tls=None):
        self._tls = tls
        self.heads, self.connections, self.upgraded, self._writers = [], 0, bytearray(), set()
        self.holds = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                if b"Upgrade: chat" in head:
                    writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
                    while data := await reader.read(65536):
                        self.upgraded += data
                        writer.write(data)
                    break
                if not self.holds:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.transport.abort()
        self._writers.discard(writer)

    @property
    def targets(self):
        return [head.split(b" ")[1] for head in self.heads]


class _Rules:
    def __init__(self, deliveries):
        self._deliveries = deliveries

    def find_identity(self, certificate, address):
        return "a"

    async def judge(self, node, delivery):
        return await self._deliveries.judge(node, delivery)

    def judge_again(self, node, delivery):
        return self._deliveries.find_verdict(delivery)


class _Recording:
    name = "recording"

    def __init__(self):
        self.records = []

    def observe(self, record):
        self.records.append(record)


class JudgingNode:
    """The receiver `b`, which has a service `a` with a guard, and the sender `a`."""

    def __init__(self, *ports, scheme="http", has_guard=True, **settings):
        self.ports, self.scheme, self.mode, self.has_guard = ports, scheme, "strict", has_guard
        self.branch_port, self.is_part, self.is_ruled = 0, False, False
        self.settings = ProxySettings(node="b", connect_timeout=5, **settings)
        self.guard = Guard()

    async def __aenter__(self):
        authority = Authority()
        self.clock = Clock(asyncio.get_running_loop())
        self.failures = MiddlewareFailures()
        self.recording, observers = _Recording(), Observers()
        observers.add(self.recording)
        self.paths = paths = Paths("b", self.clock, FakeTransport(), guard_kinds=("guard",))
        self.handler = HttpHandler(self.settings, self.clock, paths=paths, failures=self.failures, observers=observers)
        self.deliveries = Deliveries(
            "b",
            lambda _: self.resolved,
            guard_kinds=("guard",),
            failures=self.failures,
            names_clients=self.settings.client_header,
        )
        self.node, self.sending = FakeNode(settings=self.settings), FakeNode(settings=ProxySettings(node="a"))
        self.engine = TunnelEngine(self.node, _Rules(self.deliveries), self.handler.open_delivery)
        self.sender = TunnelEngine(self.sending, _Rules(self.deliveries))
        self.engine.use(*authority.build_contexts("b"))
        self.sender.use(*authority.build_contexts("a"))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.peer = Peer("b", ("127.0.0.1",), sock.getsockname()[1], build_identity("b"))
        self._listener = await self.engine.open_listener(sock, 15008)
        self.apply()
        return self

    async def __aexit__(self, *_):
        self.sender.abort()
        self.engine.abort()
        self._listener.close()
        self.handler.abort()
        environment = self.handler.environment
        async with asyncio.timeout(60):
            while environment.clients or environment.upstreams or environment.tunnels:  # noqa: ASYNC110
                await asyncio.sleep(0)
        self.clock.close()
        self.node.close()
        self.sending.close()
        await asyncio.sleep(0)

    def apply(self, **changes):
        """Apply a configuration with these changes, as a worker does."""
        for name, value in changes.items():
            setattr(self, name, value)
        kinds = {"guard": Middleware(kind="guard")} if self.has_guard else {}
        section = Section(
            routers={SERVICE: self._build_router(tuple(kinds))},
            services=self._build_services(),
            middlewares=kinds,
        )
        compiled = {key: CompiledMiddleware("guard", {}, self.guard) for key in kinds}
        instances = dict.fromkeys(kinds, self.guard)
        table = self.handler.compile_table(section, middlewares=instances, changed=None)
        self.handler.apply_table(table)
        self.resolved = ResolvedSection(section=section, middlewares=compiled)
        self.deliveries.on_update()
        self.engine.review()

    def _build_router(self, keys):
        """Build the router; with `is_ruled`, one whose rules alone have middlewares."""
        if not self.is_ruled:
            branches = self._build_branches()
            return HttpRouter(entrypoint=1, hosts=("a",), service=SERVICE, middlewares=keys, branches=branches)
        found = [HttpRule(service=BRANCH, middlewares=keys), HttpRule(service=SERVICE, middlewares=keys)]
        order = (HttpOrder(rule=0, match=HttpMatch(path_prefix="/beta")), HttpOrder(rule=1))
        return HttpRouter(entrypoint=1, hosts=("a",), rules=HttpRules(rules=tuple(found), order=order))

    def _build_branches(self):
        """Send requests to /beta to another service, if there is one."""
        if not self.branch_port:
            return ()
        return (HttpBranch(service=BRANCH, matches=(HttpMatch(paths=("/beta",)),)),)

    def _build_services(self):
        def build(*ports):
            servers = tuple(Server(address="127.0.0.1", port=port, node="b") for port in ports)
            return Service(servers=servers, scheme=self.scheme, encryption=self.mode)

        if not self.is_part:
            return {SERVICE: build(*self.ports), **({BRANCH: build(self.branch_port)} if self.branch_port else {})}
        divided = Service(parts=(Part(service=PART, weight=1),), encryption=self.mode)
        return {SERVICE: divided, BRANCH: divided, PART: build(*self.ports)}

    async def open(self, port=None, *, client=CLIENT, protocol="http", service=SERVICE):
        """Open a stream to a server; return its recorder."""
        recorder = Recorder()
        delivery = Delivery("127.0.0.1", port or self.ports[0], service, client, protocol)
        self.sender.open(self.peer, delivery, recorder)
        async with asyncio.timeout(60):
            await recorder.seen.wait()
        return recorder

    async def ask(self, recorder, *pieces):
        """Send bytes, and wait for further bytes of an answer, or for the end."""
        before = len(recorder.data)
        for piece in pieces:
            recorder.transport.write(piece)
        await wait_until(lambda: recorder.lost or b"\r\n\r\n" in recorder.data[before:])
        return bytes(recorder.data[before:])
