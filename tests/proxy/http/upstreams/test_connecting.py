"""Connections interrupted while they are made and used: whatever happens, every count returns to zero.

Real sockets, on uvloop and on asyncio's loop. A step is one round of the loop, so that an interruption falls between
any two things that the engine does.
"""

import asyncio
import contextlib
import dataclasses
import functools
import os
import random
import socket
import ssl
import struct

import pytest
import trustme
import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings
from maesh_testing import find_free_port

RESET = struct.pack("ii", 1, 0)
NAME = "cart.shop.svc"
STEPS = 14
"""More rounds of the loop than an exchange takes, TLS included."""
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
    "upload": b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 9\r\n\r\nabc",
    "upgrade": b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def root_ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "root.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def build_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def take_steps(count):
    for _ in range(count):
        await asyncio.sleep(0)


def list_descriptors():
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_socket(name)}


def _is_socket(name):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return False


class Impatient:
    """A middleware that gives each attempt little time, and wants another one now and then."""

    def __init__(self, chance):
        self._chance = chance

    def on_request(self, exchange):
        if self._chance.random() < 0.5:
            exchange.attempt_timeout_s = self._chance.random() * 0.002

    def on_attempt_failed(self, exchange, error):
        return exchange.attempts < 3 and self._chance.random() < 0.5


class Bench:
    """A proxy, servers of every kind behind it, and clients that leave."""

    def __init__(self, authority, root_ca, *, seed=0, **settings):
        self.chance = random.Random(seed)
        self._contexts = {
            "plain": None,
            "silent": None,
            "tls": build_context(authority.issue_cert(NAME)),
            "distrusted": build_context(authority.issue_cert("other.svc")),
        }
        self._settings = dataclasses.replace(CarryingSettings(root_ca=root_ca, passive_health=False), **settings)
        self._serving, self._ports, self.known = [], {}, set()
        self._tasks = set()
        self.answer = OK

    async def __aenter__(self):
        self.handler = HttpHandler(self._settings, Clock(asyncio.get_running_loop()))
        for kind, context in self._contexts.items():
            serve = functools.partial(self._serve, kind)
            serving = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            self._serving.append(serving)
            self._ports[kind] = serving.sockets[0].getsockname()[1]
        self._ports["refusing"] = find_free_port()
        self.apply()
        listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        listening.setblocking(False)
        self._address = listening.getsockname()
        self._listener = await self.handler.open_listener(listening, 1)
        return self

    async def __aexit__(self, *_):
        self._listener.close()
        self.handler.abort()
        self.handler.environment.clock.close()
        for serving in self._serving:
            serving.close()
        for task in self._tasks:
            task.cancel()
        await self.until(lambda: not (self._tasks or self.handler.environment.upstreams))

    @property
    def kinds(self):
        return sorted(self._ports)

    def apply(self, *, without=(), middlewares=()):
        """Route each kind's name to its server, but for those that are left out."""
        keys = tuple(f"m{index}" for index in range(len(middlewares)))
        services, routers = {}, {}
        for kind, port in self._ports.items():
            scheme = "http" if kind in ("plain", "refusing") else "https"
            server = Server(address="127.0.0.1", port=port, tls_name=NAME if scheme == "https" else "")
            services[kind] = Service(scheme=scheme, servers=() if kind in without else (server,))
            routers[kind] = HttpRouter(entrypoint=1, hosts=(kind,), service=kind, middlewares=keys)
        section = Section(routers=routers, services=services)
        instances = dict(zip(keys, middlewares, strict=True))
        self.handler.apply_table(self.handler.compile_table(section, middlewares=instances, changed=None))
        self.known.update(self.handler._servers.values())

    async def _serve(self, kind, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while kind != "silent":
                head = await reader.readuntil(b"\r\n\r\n")
                if self.answer is None and self.chance.random() < 0.3:
                    break
                answer = self.answer or self.chance.choice([OK, OK[:-1], SWITCHING])
                writer.write(SWITCHING if b"Upgrade" in head and answer is not OK else answer)
            await reader.read()
        writer.transport.abort()

    async def open_client(self, kind, request):
        """Connect a client that asks for something; where the listener has room, this takes no step."""
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self._address)
        client.send(REQUESTS[request] % kind.encode())
        return client

    def leave(self, client, *, is_reset):
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()

    async def until(self, is_so):
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0)

    def count(self):
        """Count connections as the servers do, in the pools, and by the gauge."""
        opened = sum(server.opened for server in self.known)
        return opened, sum(len(server.idle) for server in self.known), len(self.handler.environment.upstreams)

    @property
    def is_quiet(self):
        environment, (opened, idle, gauge) = self.handler.environment, self.count()
        is_anybody_here = environment.clients or environment.tunnels or any(each._connecting for each in self.known)
        return not is_anybody_here and opened == idle == gauge

    async def check_quiet(self):
        """Wait until clients, tunnels and connects are gone, and what is open is idle and counted as it is."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: self.is_quiet)
        assert self.is_quiet, (self.count(), self.handler.environment)

    async def check_nothing_is_left(self, descriptors):
        """Cut what is idle, and check that nothing is counted or open."""
        await self.check_quiet()
        self.handler.abort()
        await self.until(lambda: not self.handler.environment.upstreams)
        assert self.count() == (0, 0, 0)
        await self.until(lambda: list_descriptors().keys() <= descriptors.keys())


def play(run, scene, authority, root_ca, **arguments):
    """Run a scene on a bench; afterwards nothing may be open that was not open before its first client."""

    async def on_bench():
        async with Bench(authority, root_ca, **arguments) as bench:
            descriptors = list_descriptors()
            await scene(bench)
            await bench.check_nothing_is_left(descriptors)

    run(on_bench())


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("kind", ["plain", "tls", "distrusted", "silent", "refusing"])
@LOOPS
def test_a_client_that_resets_at_any_step_leaves_nothing(run, kind, request_, authority, root_ca):
    async def scene(bench):
        bench.answer = SWITCHING if request_ == "upgrade" else OK
        for steps in range(STEPS):
            client = await bench.open_client(kind, request_)
            await take_steps(steps)
            bench.leave(client, is_reset=True)
            await bench.check_quiet()

    play(run, scene, authority, root_ca)


@pytest.mark.parametrize("kind", ["plain", "tls", "distrusted", "silent", "refusing"])
@LOOPS
def test_a_proxy_that_ends_at_any_step_leaves_nothing(run, kind, authority, root_ca):
    async def scene(bench):
        for steps in range(STEPS):
            clients = [await bench.open_client(kind, request) for request in REQUESTS]
            await take_steps(steps)
            bench.handler.abort()
            await take_steps(1)
            for client in clients:
                bench.leave(client, is_reset=True)
            await bench.check_quiet()

    play(run, scene, authority, root_ca)


@pytest.mark.parametrize("kind", ["plain", "tls"])
@LOOPS
def test_a_server_that_is_removed_at_any_step_is_left(run, kind, authority, root_ca):
    async def scene(bench):
        for steps in range(STEPS):
            client = await bench.open_client(kind, "get")
            await take_steps(steps)
            bench.apply(without=(kind,))
            with client:
                await asyncio.get_running_loop().sock_recv(client, 100)
            await bench.check_quiet()
            assert bench.count() == (0, 0, 0)
            bench.apply()

    play(run, scene, authority, root_ca)


@pytest.mark.parametrize("kind", ["plain", "tls", "silent"])
@pytest.mark.parametrize("seconds", [0.0, 0.0002, 0.001, 0.003])
@LOOPS
def test_a_connect_that_runs_out_of_time_at_any_step_leaves_nothing(run, kind, seconds, authority, root_ca):
    async def scene(bench):
        for _ in range(STEPS):
            with await bench.open_client(kind, "get") as client:
                assert (await asyncio.get_running_loop().sock_recv(client, 100))[9:12] in (b"200", b"504")
            await bench.check_quiet()

    play(run, scene, authority, root_ca, connect_timeout=seconds)


@pytest.mark.parametrize("seed", range(4))
@LOOPS
def test_nothing_is_left_of_clients_servers_and_changes_that_interrupt_each_other_at_random(
    run, seed, authority, root_ca
):
    async def visit(bench):
        chance = bench.chance
        await take_steps(chance.randrange(40))
        client = await bench.open_client(chance.choice(bench.kinds), chance.choice(list(REQUESTS)))
        await take_steps(chance.choice([chance.randrange(STEPS), chance.randrange(200)]))
        bench.leave(client, is_reset=chance.random() < 0.7)

    async def scene(bench):
        bench.answer = None
        middlewares = [Impatient(bench.chance)] if seed % 2 else []
        bench.apply(middlewares=middlewares)
        visits = [asyncio.ensure_future(visit(bench)) for _ in range(150)]
        while not all(each.done() for each in visits):
            await take_steps(bench.chance.randrange(10))
            bench.apply(without=bench.chance.sample(bench.kinds, 2), middlewares=middlewares)
            await take_steps(bench.chance.randrange(10))
            bench.apply(middlewares=middlewares)
        await asyncio.gather(*visits)

    times = dict.fromkeys(("connect_timeout", "body_timeout", "upstream_body_timeout", "response_timeout"), 0.3)
    play(run, scene, authority, root_ca, seed=seed, **times)
