"""The HTTP engine without sockets: tests send the bytes of both sides, let connects succeed or fail, and set the clock.

A transcript keeps what each side did, and a failed expectation shows it.
"""

import asyncio
import contextlib
from typing import Any, cast

import pytest

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.clients.client_connection import ClientConnection
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

from .observed import ENTRYPOINT, Observed

HOST = "a.test.maesh"
FORWARDED = (
    b"X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: a.test.maesh\r\nX-Forwarded-Port: 80\r\n"
    b"X-Forwarded-Proto: http\r\nX-Forwarded-Server: node\r\nX-Real-Ip: 10.0.0.9\r\n\r\n"
)


class FakeSocket:
    def __init__(self):
        self.options = []

    def setsockopt(self, *option):
        self.options.append(option)

    def fileno(self):
        return -1


class FakePeerWatch:
    """Keeps who watches which transport, for `Peer.leave_unread()`."""

    def __init__(self):
        self.watched = {}

    def watch(self, transport, on_peer_left):
        self.watched[transport] = on_peer_left

    def forget(self, transport):
        self.watched.pop(transport, None)

    def close(self):
        pass


class FakeTransport(asyncio.Transport):
    """Keeps what is written.

    Tells of its end at the next `World.settle()`, as a real one does in a later round, once all is taken from it.
    """

    def __init__(self, world, name, protocol, peer):
        super().__init__()
        self.world, self.name, self.protocol, self.peer = world, name, protocol, peer
        self.sent = bytearray()
        self.socket = FakeSocket()
        self.is_reading: Any = True
        self.has_ended = self.is_lost = self.is_aborted = False
        self.unsent_bytes = 0
        self._is_closing = False

    def get_extra_info(self, name, default=None):
        return {"peername": (self.peer, 1), "socket": self.socket}.get(name, default)

    def write(self, data):
        assert isinstance(data, bytes | bytearray)
        assert not self.has_ended, f"{self.name} was written to after its end"
        if not self._is_closing:
            self.sent += data
            self.world.transcript.append(f"to {self.name}: {bytes(data)!r}")

    def get_write_buffer_size(self):
        return self.unsent_bytes

    def set_protocol(self, protocol):
        self.protocol = protocol

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.has_ended = True
        self.world.transcript.append(f"to {self.name}: end")

    def is_closing(self):
        return self._is_closing

    def close(self):
        self._end(None)

    def abort(self):
        self.is_aborted = True
        self._end(None)

    def pause_reading(self):
        assert not self.is_lost
        self.is_reading = False

    def resume_reading(self):
        assert not self.is_lost
        self.is_reading = True

    @property
    def is_reset(self):
        return self.is_aborted and bool(self.socket.options)

    def _end(self, error):
        if not self._is_closing:
            self._is_closing = True
            self.world.ending.append((self, error))
            self.world.transcript.append(f"{self.name} is {'aborted' if self.is_aborted else 'closed'}")


class Peer:
    """A client or a server, from its own side."""

    def __init__(self, world, name, protocol, address):
        self.world = world
        self.transport = FakeTransport(world, name, protocol, address)
        protocol.connection_made(self.transport)

    @property
    def protocol(self):
        return self.transport.protocol

    def send(self, data):
        """Send bytes, which are lost where nobody reads any more."""
        if not self.transport.is_closing():
            assert self.transport.is_reading, f"{self.transport.name} is not read now"
            self.world.transcript.append(f"from {self.transport.name}: {bytes(data)!r}")
            self.protocol.data_received(bytes(data))

    def take(self):
        """Return what has come since the last time."""
        taken = bytes(self.transport.sent)
        self.transport.sent.clear()
        return taken

    def expect(self, wanted):
        """Check what has come since the last time."""
        got = self.take()
        story = "\n  ".join(self.world.transcript)
        assert got == wanted, f"{self.transport.name} got\n  {got!r}, not\n  {wanted!r}\nafter\n  {story}"

    def end(self):
        """End our side of the connection."""
        self.world.transcript.append(f"{self.transport.name} ends its side")
        if not self.protocol.eof_received():
            self.transport.close()

    def leave_unread(self, *, is_broken=False):
        """End our side, or break the connection, while nobody reads it."""
        self.world.transcript.append(f"{self.transport.name} leaves unread")
        self.world.peer_watch.watched[self.transport](is_broken)

    def lose(self, error=None):
        """Break the connection."""
        self.transport._end(error)
        self.world.tell_ends()

    def stop_taking(self, unsent_bytes=65536):
        self.transport.unsent_bytes = unsent_bytes
        self.protocol.pause_writing()

    def take_again(self):
        self.transport.unsent_bytes = 0
        self.protocol.resume_writing()

    @property
    def is_closed(self):
        return self.transport.is_closing()


class World:
    """A handler with one host, its servers, and a clock that stands still."""

    passed = 0.0
    """Seconds that the fixture `pass_time` has let pass."""

    def __init__(
        self, *, middlewares=(), servers=1, settings=None, load_balancer="round-robin", balancers=None, scheme="http"
    ):
        self.scheme = scheme
        self.transcript, self.ending, self.connects, self.servers = [], [], [], []
        self.now = 1000.0
        clock = Clock(asyncio.get_running_loop())
        self.handler = HttpHandler(settings or CarryingSettings(node="node"), clock, balancers=balancers)
        self.peer_watch = self.handler.environment.peer_watch = FakePeerWatch()
        self.handler.environment.clock._time = self.handler.environment.clock_time = lambda: self.now + self.passed
        self.handler.environment.clock.tick()
        self.apply(middlewares=middlewares, servers=servers, load_balancer=load_balancer)
        self.loop = cast("Any", asyncio.get_running_loop())
        self.loop.create_connection = self._create_connection

    def apply(self, *, middlewares=(), servers=1, load_balancer="round-robin"):
        """Route the host through these middlewares to so many servers, 10.0.1.1 and so on."""
        keys = tuple(f"m{index}" for index in range(len(middlewares)))
        addresses = tuple(Server(address=f"10.0.1.{index + 1}", port=80) for index in range(servers))
        router = HttpRouter(entrypoint=ENTRYPOINT, hosts=(HOST,), service="a", middlewares=keys)
        service = Service(servers=addresses, load_balancer=load_balancer, scheme=self.scheme)
        section = Section(routers={"a": router}, services={"a": service})
        instances = dict(zip(keys, middlewares, strict=True))
        self.handler.apply_table(self.handler.compile_table(section, middlewares=instances, changed=None))

    def open_client(self, address="10.0.0.9"):
        handler = self.handler
        return Peer(self, "client", ClientConnection(handler.environment, handler.current, ENTRYPOINT), address)

    async def _create_connection(self, factory, host, port):
        waiting = self.loop.create_future()
        self.connects.append((factory, host, waiting))
        return await waiting

    async def settle(self):
        """Let everything happen that is due, every turn of every connection included."""
        rounds = 6
        while rounds or self._has_turns():
            rounds = max(0, rounds - 1)
            self.tell_ends()
            await asyncio.sleep(0)

    def _has_turns(self):
        environment: Any = self.handler.environment
        connections = (*environment.clients, *environment.upstreams)
        multiplexed = [each for each in connections if hasattr(each, "streams")]
        if any(each._is_turn_queued or each.out for each in multiplexed):
            return True
        return any(each._is_queued for each in connections if each not in multiplexed)

    async def until(self, is_so):
        """Let things happen until it is so; the test's own time-out ends what never is."""
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)

    def tell_ends(self):
        while ready := [each for each in self.ending if each[0].is_aborted or not each[0].unsent_bytes]:
            transport, error = ready[0]
            self.ending.remove(ready[0])
            if not transport.is_lost:
                transport.is_lost = True
                transport.protocol.connection_lost(error)

    async def accept(self):
        """Let the oldest connect succeed; return the server's side."""
        await self.settle()
        server = self.let_connect()
        await self.settle()
        return server

    def let_connect(self):
        """Let the oldest connect succeed, without what follows from it; return the server's side."""
        factory, host, waiting = self.connects.pop(0)
        server = Peer(self, f"server {host}", factory(), host)
        waiting.set_result((server.transport, server.protocol))
        self.servers.append(server)
        return server

    async def refuse(self, error=None):
        """Let the oldest connect fail; return the address that was tried."""
        await self.settle()
        _, host, waiting = self.connects.pop(0)
        self.transcript.append(f"no connection to {host}")
        waiting.set_exception(error or ConnectionRefusedError())
        await self.settle()
        return host

    async def pool(self):
        """Have one idle connection in the pool."""
        client = self.open_client()
        client.send(b"GET /pool HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n")
        server = await self.accept()
        server.take()
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        client.lose()
        return server

    def advance(self, seconds):
        self.transcript.append(f"{seconds} s pass")
        self.now += seconds
        self.handler.environment.clock.tick()

    @property
    def idle(self):
        return [upstream for server in self.handler._servers.values() for upstream in server.idle]

    async def close(self):
        """End everything, and check that nothing is left behind."""
        self.handler.abort()
        self.handler.environment.clock.close()
        await self.settle()
        assert not self.handler.environment.clients
        assert not self.handler.environment.tunnels
        assert not self.handler.environment.upstreams
        assert not self.peer_watch.watched
        assert not any(server._connecting for server in self.handler._servers.values())
        assert not any(server.opened for server in self.handler._servers.values())
        del self.loop.create_connection
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, others


@pytest.fixture(scope="session")
def observe():
    """Observe a world's traffic from now on: `observe(world)` gives an `Observed`."""
    return Observed


@contextlib.asynccontextmanager
async def _open_world(**arguments):
    world = World(**arguments)
    yield world
    await world.close()


@pytest.fixture(scope="session")
def open_world():
    """Open a world by `async with open_world(middlewares=(), servers=1, settings=None) as world`."""
    return _open_world


@pytest.fixture
async def world():
    async with _open_world() as opened:
        yield opened


@pytest.fixture(scope="session")
def forwarded():
    """The fields that the mesh adds to a request for the host, and the end of its head."""
    return FORWARDED


@pytest.fixture
async def pass_time(monkeypatch):
    """Let seconds pass in the world: runs what its loop was asked to call meanwhile, except sweeps."""
    loop, timers = asyncio.get_running_loop(), []

    def call_later(delay_s, callback, *arguments):
        timer = asyncio.TimerHandle(World.passed + delay_s, callback, arguments, loop)
        if not isinstance(getattr(callback, "__self__", None), Clock):
            timers.append(timer)
        return timer

    def run(seconds):
        end = World.passed + seconds
        while due := [timer for timer in timers if timer.when() <= end and not timer.cancelled()]:
            first = min(due, key=asyncio.TimerHandle.when)
            timers.remove(first)
            World.passed = first.when()
            first._run()
        World.passed = end

    monkeypatch.setattr(World, "passed", 0.0)
    monkeypatch.setattr(loop, "call_later", call_later)
    return run
