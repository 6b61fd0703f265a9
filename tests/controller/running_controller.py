"""A controller that runs in the test's event loop, with plugins of the test."""

import asyncio
import json

import aiohttp

from maesh_core.controller.run import run_controller
from maesh_core.model.events import Replaced
from maesh_core.plugin_system.pages import PageResponse

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {ports: [{port: 80}]}
"""


class FakePlugins:
    """The plugins of a test: `hooks` are the results of each hook, by its name."""

    names: tuple[str, ...] = ("acl",)

    def __init__(self, **hooks):
        self._hooks = hooks

    def collect(self, hook_name, **arguments):
        return list(self._hooks.get(hook_name, ()))

    def describe(self, provided):
        return f"plugin of {type(provided).__name__}"


class Running:
    """A controller that runs until `end`; `url` is that of its API."""

    def __init__(self, task, stop, controller):
        self.task, self.stop, self.controller = task, stop, controller
        self.url = f"http://127.0.0.1:{controller.api_port}"

    async def end(self):
        self.stop.set()
        async with asyncio.timeout(60):
            await self.task


async def start(settings, plugins=None):
    """Run a controller until it is ready; a start that fails raises here."""
    stop = asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_controller(settings, plugins or FakePlugins(), ready=ready.set_result, stop=stop))
    await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    return Running(task, stop, ready.result())


async def get(url):
    """Get a document of the API: status and content."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, json.loads(await response.read())


class ListedSource:
    """A source that lists no object of any kind, and then is silent."""

    def __init__(self, name):
        self.name = name

    async def watch_events(self, kinds):
        yield [Replaced(kind.type, []) for kind in kinds]
        await asyncio.Event().wait()


class SilentSource(ListedSource):
    """A source that never lists anything."""

    async def watch_events(self, kinds):
        await asyncio.Event().wait()
        yield []


class Page:
    """A page of a plugin."""

    path = "/"

    async def respond(self, request):
        return PageResponse(body=b"hello")
