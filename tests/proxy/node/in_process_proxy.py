"""A whole proxy in this process, between a scripted controller and a client, over loopback."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.model.messages import Update, render_update
from maesh_core.proxy.node.run import run_proxy
from maesh_core.proxy.node.shutdown import Shutdown
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

    def is_guard(self, provided: object) -> bool:
        return False

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

    def send_signal(self, number: int) -> None:
        raise AssertionError(f"a signal {number}, which would reach the tests")


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

    def start(
        self, *, plugins: FakePlugins | None = None, load_services: Any = None, **changes: Any
    ) -> "asyncio.Task[int]":
        settings = replace(self.settings, **changes)

        async def spawn(slot: int) -> InProcessWorker:
            self.workers.append(InProcessWorker(settings, plugins or FakePlugins()))
            return self.workers[-1]

        self.task = asyncio.ensure_future(
            run_proxy(settings, shutdown=self.shutdown, spawn=spawn, load_services=load_services)
        )
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
