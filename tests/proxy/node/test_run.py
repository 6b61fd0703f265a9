"""A whole proxy in this process: a scripted controller on one side, a client on the other, over loopback."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from maesh_core import engine
from maesh_core.errors import SettingsError, StartupError
from maesh_core.model.configuration import HttpRouter, Middleware, Section, Server, Service, StreamRouter
from maesh_core.model.messages import Update, render_update
from maesh_core.proxy.node import run as run_module
from maesh_core.proxy.node.run import Shutdown, describe_connections, run_proxy
from maesh_core.proxy.worker import orders as orders_module
from maesh_core.proxy.worker import program as worker_module
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.program import run_worker
from maesh_core.settings import ProxySettings

GetPort = Callable[[], int]


class LoopbackServer:
    """Serves HTTP requests one by one with `answer`, which gets the head."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def answer(self, head: str) -> bytes:
        raise NotImplementedError

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                writer.write(await self.answer(head))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class ScriptedController(LoopbackServer):
    """Gives the update it was told last to whoever has not got it, and holds back whoever has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = b""
        self.revision = ""
        self.changed = asyncio.Event()

    def tell(self, revision: str, sections: dict[str, Section], plugins: tuple[str, ...] = ()) -> None:
        update = Update(revision=revision, full=True, plugins=plugins, sections=sections)
        self.body, self.revision = render_update(update), revision
        self.changed.set()

    async def answer(self, head: str) -> bytes:
        while f"since={self.revision}&" in head:
            self.changed.clear()
            await self.changed.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body)


class Upstream(LoopbackServer):
    """Answers with `hello` once `is_open`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.has_request = asyncio.Event()

    async def answer(self, head: str) -> bytes:
        self.has_request.set()
        await self.gate.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class FakePlugins:
    """Enabled plugins that give what they are told to."""

    def __init__(self, guards: tuple[str, ...] = (), **objects: list[Any]) -> None:
        self.guards = guards
        self.objects = objects

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        return self.objects.get(hook_name, [])

    def describe(self, provided: object) -> str:
        return f"plugin of {type(provided).__name__}"


class InProcessWorker:
    """A worker that is a task of this loop in place of a process."""

    pid = 1

    def __init__(self, settings: ProxySettings, plugins: FakePlugins) -> None:
        self.socket, theirs = socket.socketpair()
        self.task = asyncio.ensure_future(run_worker(theirs, settings, lambda: plugins, WorkerMemory()))

    async def wait(self) -> int:
        await asyncio.wait([self.task])
        return -9 if self.task.cancelled() else self.task.result()

    def kill(self) -> None:
        self.task.cancel()


class World:
    """A controller, an upstream, and a proxy between them."""

    def __init__(self, get_port: GetPort) -> None:
        self.controller = ScriptedController()
        self.upstream = Upstream()
        self.entrypoint = get_port()
        self.admin = get_port()
        self.shutdown = Shutdown()
        self.task: asyncio.Task[int] | None = None
        self.workers: list[InProcessWorker] = []

    @property
    def settings(self) -> ProxySettings:
        return ProxySettings(
            endpoint=f"http://127.0.0.1:{self.controller.port}",
            bind="127.0.0.1",
            admin_host="127.0.0.1",
            admin_port=self.admin,
            node="node-1",
        )

    def tell(self, revision: str = "e.1", *, plugins: tuple[str, ...] = (), **fields: Any) -> None:
        router = HttpRouter(**{"entrypoint": self.entrypoint, "hosts": ("web.shop.maesh",), "service": "s", **fields})
        service = Service(servers=(Server(address="127.0.0.1", port=self.upstream.port),))
        self.controller.tell(revision, {"http": Section(routers={"r": router}, services={"s": service})}, plugins)

    def start(self, *, plugins: FakePlugins | None = None, **changes: Any) -> "asyncio.Task[int]":
        settings = replace(self.settings, **changes)

        async def spawn(slot: int) -> InProcessWorker:
            self.workers.append(InProcessWorker(settings, plugins or FakePlugins()))
            return self.workers[-1]

        self.task = asyncio.ensure_future(run_proxy(settings, shutdown=self.shutdown, spawn=spawn))
        return self.task

    async def get(self, port: int, path: str = "/", host: str = "web.shop.maesh") -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            return int(head.split(" ")[1]), body.strip()
        finally:
            writer.close()

    async def wait_for(self, path: str, status: int) -> None:
        """Ask the admin port until it answers so; the test's time-out ends what never comes."""
        while True:
            try:
                if (await self.get(self.admin, path))[0] == status:
                    return
            except OSError:
                await asyncio.sleep(0)
            if self.task is not None and self.task.done():
                self.task.result()
                raise AssertionError("the proxy ended")

    async def wait_until_refused(self, port: int) -> None:
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()

    async def wait_for_revision(self, revision: str) -> dict[str, Any]:
        while True:
            status = json.loads((await self.get(self.admin, "/status"))[1])
            if status["revision"] == revision:
                return dict(status)


@pytest.fixture
async def world(unused_tcp_port_factory: GetPort, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    for module in (run_module, orders_module):
        monkeypatch.setattr(module, "settle_memory", lambda: None)
    for module in (run_module, worker_module):
        monkeypatch.setattr(module, "raise_open_files_limit", lambda: None)
    world = World(unused_tcp_port_factory)
    await world.controller.start()
    await world.upstream.start()
    yield world
    world.shutdown.request()
    world.shutdown.request()
    if world.task is not None:
        await asyncio.gather(world.task, return_exceptions=True)
    await world.controller.stop()
    await world.upstream.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_is_ready_once_it_has_a_configuration_and_carries_traffic(world: World) -> None:
    world.controller.body = b"not yet"
    world.start()
    await world.wait_for("/ping", 200)
    assert (await world.get(world.admin, "/ready"))[0] == 503
    world.tell()
    await world.wait_for("/ready", 200)
    assert await world.get(world.entrypoint) == (200, "hello")
    assert (await world.get(world.entrypoint, host="other"))[0] == 404
    assert f"node=node-1&admin={world.admin} " in world.controller.requests[0]


async def test_the_admin_port_tells_the_configuration_in_force_and_503_before_the_first(world: World) -> None:
    world.controller.body = b"not yet"
    world.start()
    await world.wait_for("/ping", 200)
    assert (await world.get(world.admin, "/configuration"))[0] == 503
    world.tell()
    await world.wait_for("/ready", 200)
    status, body = await world.get(world.admin, "/configuration")
    assert (status, json.loads(body)) == (200, json.loads(world.controller.body))


async def test_it_tells_the_admin_port_that_the_system_chose(world: World) -> None:
    world.tell()
    world.start(admin_port=0)
    while not world.controller.requests:  # noqa: ASYNC110 - the list tells nobody
        await asyncio.sleep(0)
    told = world.controller.requests[0].partition("&admin=")[2].partition(" ")[0]
    assert (await world.get(int(told), "/ping"))[0] == 200


async def test_it_follows_the_controller(world: World, unused_tcp_port_factory: GetPort) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    old, world.entrypoint = world.entrypoint, unused_tcp_port_factory()
    world.tell("e.2")
    await world.wait_for_revision("e.2")
    assert await world.get(world.entrypoint) == (200, "hello")
    with pytest.raises(ConnectionRefusedError):
        await world.get(old)


async def test_it_carries_on_while_the_controller_is_away_and_takes_up_again(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    await world.controller.stop()
    assert await world.get(world.entrypoint) == (200, "hello")
    assert (await world.get(world.admin, "/ready"))[0] == 200
    world.tell("f.1", hosts=("new.shop.maesh",))
    await world.controller.start()
    await world.wait_for_revision("f.1")
    assert await world.get(world.entrypoint, host="new.shop.maesh") == (200, "hello")


async def test_garbage_leaves_the_configuration_in_force(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    world.tell("e.2", hosts=("a\r\nb",))
    while "maesh_proxy_configuration_rejected_total 1.0" not in (await world.get(world.admin, "/metrics"))[1]:
        assert await world.get(world.entrypoint) == (200, "hello")
    world.tell("e.3")
    await world.wait_for_revision("e.3")


async def test_refused_routers_are_in_the_status_and_answer_503(world: World) -> None:
    world.tell(middlewares=("shop/web/gone",))
    world.start()
    await world.wait_for("/ready", 200)
    status = json.loads((await world.get(world.admin, "/status"))[1])
    reason = "middleware shop/web/gone is not in the configuration"
    expected = {"revision": "e.1", "ready": True, "workers": 1, "engine": engine.form}
    assert status == {**expected, "refused": [{"router": "http/routers/r", "reason": reason}]}
    assert await world.get(world.entrypoint) == (503, reason)


async def test_with_acl_a_configuration_made_without_it_answers_403(world: World) -> None:
    world.tell()
    world.start(plugins=FakePlugins(("acl",)))
    await world.wait_for("/ready", 200)
    assert (await world.get(world.entrypoint))[0] == 403
    world.tell("e.2", plugins=("acl",))
    await world.wait_for_revision("e.2")
    assert (await world.get(world.entrypoint))[0] == 200


async def test_a_middleware_of_a_plugin_acts(world: World) -> None:
    class NoSettings(msgspec.Struct):
        pass

    class Stamp:
        def on_response(self, exchange: Any) -> None:
            exchange.response_headers.set(b"x-stamp", b"yes")

    class Factory:
        kind = "stamp"
        settings_type = NoSettings

        def build_middleware(self, settings: Any, service: str) -> object:
            return Stamp()

    router = HttpRouter(entrypoint=world.entrypoint, hosts=("h",), service="s", middlewares=("shop/web/stamp",))
    service = Service(servers=(Server(address="127.0.0.1", port=world.upstream.port),))
    section = Section(
        routers={"r": router}, services={"s": service}, middlewares={"shop/web/stamp": Middleware(kind="stamp")}
    )
    world.controller.tell("e.1", {"http": section})
    world.start(plugins=FakePlugins(maesh_middleware_factories=[Factory()]))
    await world.wait_for("/ready", 200)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.entrypoint)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert b"x-stamp: yes\r\n" in (await reader.read()).lower()
    writer.close()


async def test_a_shutdown_ends_with_status_0_and_frees_the_ports(world: World) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.shutdown.request()
    assert await task == 0
    for port in (world.entrypoint, world.admin):
        with pytest.raises(ConnectionRefusedError):
            await world.get(port)


async def test_a_shutdown_before_any_configuration_ends_with_status_0(world: World) -> None:
    await world.controller.stop()
    task = world.start()
    await world.wait_for("/ping", 200)
    world.shutdown.request()
    assert await task == 0
    await world.controller.start()


async def test_a_drain_waits_for_what_is_under_way(world: World) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    await world.wait_for("/ready", 503)
    await world.wait_until_refused(world.entrypoint)
    assert not task.done()
    world.upstream.gate.set()
    assert await request == (200, "hello")
    assert await task == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_drain_says_what_it_waits_for_to_a_person_or_in_the_log(
    world: World, number: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request(number)
    text = "waiting up to 10 s for 1 connection to end"
    shown = ""
    while text not in shown:
        await asyncio.sleep(0)
        shown += capfd.readouterr().err + caplog.text
    world.upstream.gate.set()
    await request
    assert await task == 0
    shown += capfd.readouterr().err
    assert (f"maesh: {text}; press Ctrl-C again to end at once\n" in shown) is (number == signal.SIGINT)
    assert (f"{text}; a second signal ends the proxy at once" in caplog.text) is (number == signal.SIGTERM)


async def test_a_shutdown_that_waits_for_nothing_says_nothing(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.tell()
    task = world.start()
    await world.wait_for("/ready", 200)
    world.shutdown.request(signal.SIGINT)
    assert await task == 0
    assert "waiting" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"http": 1}, "1 connection"),
        ({"http": 12}, "12 connections"),
        ({"tcp": 1}, "1 connection (1 tcp)"),
        ({"udp": 2, "http": 1, "tcp": 0}, "3 connections (1 http, 2 udp)"),
    ],
)
def test_connections_are_named_by_their_protocols_unless_all_are_http_s(counts: dict[str, int], text: str) -> None:
    assert describe_connections(counts) == text


async def test_a_drain_ends_at_its_limit(world: World) -> None:
    world.tell()
    task = world.start(drain_timeout=0.01)
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    assert await task == 0
    await asyncio.gather(request, return_exceptions=True)


async def test_a_second_request_to_end_cuts_what_is_under_way_with_status_1(world: World) -> None:
    world.tell()
    task = world.start(drain_timeout=1000.0)
    await world.wait_for("/ready", 200)
    world.upstream.gate.clear()
    request = asyncio.ensure_future(world.get(world.entrypoint))
    await world.upstream.has_request.wait()
    world.shutdown.request()
    world.shutdown.request()
    assert await task == 1
    await asyncio.gather(request, return_exceptions=True)


@pytest.mark.parametrize("part", ["admin", "entrypoint"])
async def test_a_port_that_is_taken_stops_the_start(world: World, part: str) -> None:
    port = getattr(world, part)
    world.tell()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StartupError, match=f"{port}.*in use"):
        await world.start()


async def test_an_error_that_ends_a_part_ends_the_proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("maesh_core.proxy.node.entrypoints.Entrypoints.run", fail)
    with pytest.raises(RuntimeError, match="broken"):
        await world.start()


async def test_a_part_that_ends_without_an_error_ends_the_proxy_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(self: Any) -> None:
        """End at once."""

    monkeypatch.setattr("maesh_core.proxy.node.entrypoints.Entrypoints.run", end)
    with pytest.raises(RuntimeError, match="ended unexpectedly"):
        await world.start()


class FakeFactory:
    """Claims the kind `stamp`."""

    kind = "stamp"


class FakeHandler:
    """Claims a protocol."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.router_type = StreamRouter


@pytest.mark.parametrize(
    ("plugins", "text"),
    [
        (FakePlugins(maesh_middleware_factories=[FakeFactory(), FakeFactory()]), "middleware kind stamp is claimed"),
        (FakePlugins(maesh_protocol_handlers=[FakeHandler("udp"), FakeHandler("udp")]), "protocol udp is claimed"),
        (FakePlugins(maesh_protocol_handlers=[FakeHandler("http")]), "protocol http belongs to the core"),
    ],
)
async def test_two_that_claim_one_name_stop_the_start(world: World, plugins: FakePlugins, text: str) -> None:
    with pytest.raises(StartupError, match=text):
        await world.start(plugins=plugins)


async def test_a_bad_endpoint_stops_the_start(world: World) -> None:
    with pytest.raises(SettingsError):
        await world.start(endpoint="nowhere")
