"""Follows a whole source against the API server for tests. Pauses are short, and the clock advances only by them."""

import asyncio
import re
from contextlib import asynccontextmanager, suppress

from maesh_core.controller.discovery.kubernetes.source import KubernetesSource
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.sources import feed_source
from maesh_core.model.events import Replaced
from maesh_core.model.resources import Resource, ResourceKind

LIMIT_S = 60.0
"""Far above what anything here takes; only a failing test gets there."""
PAUSE_S = 0.002
"""What a pause takes, however long it is meant to be."""


class ConfigMap(Resource, frozen=True):
    data: dict[str, str] = {}


class Thing(Resource, frozen=True):
    level: int = 0


MAPS = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=ConfigMap)
THINGS = ResourceKind(
    name="Thing", plural="things", api_versions=("acme.example/v2", "acme.example/v1"), type=Thing, is_namespaced=False
)
KINDS = (MAPS, THINGS)
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.acme.example"},
    "spec": {
        "group": "acme.example",
        "scope": "Cluster",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def build_map(name, **values):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": values}


def build_thing(name, level):
    return {"apiVersion": "acme.example/v1", "kind": "Thing", "metadata": {"name": name}, "level": level}


def build_service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}


class Clock:
    """Time that passes by pauses alone."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def __call__(self):
        return self.now

    async def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(PAUSE_S)


class HastyClient(KubernetesClient):
    """A client that waits for a server that hangs no longer than a test can, and that can fail as none should."""

    surprise = None

    silence_limit_s = LIMIT_S

    async def get(self, path, query=None, *, timeout_s=1.0):
        self._check(path)
        return await super().get(path, query, timeout_s=timeout_s)

    async def watch_lines(self, path, query, *, silence_limit_s):
        self._check(path)
        async for lines in super().watch_lines(path, query, silence_limit_s=min(silence_limit_s, self.silence_limit_s)):
            yield lines

    def _check(self, path):
        if self.surprise is not None and self.surprise in path:
            raise RuntimeError("a bug")


class Follower:
    """Applies what a source tells to a snapshot, by the feed of a controller, in a task of its own."""

    def __init__(self, server, kinds, token=""):
        access = Access(server=server.url, headers={"Authorization": f"Bearer {token or server.token}"})
        self.client = HastyClient(Credentials(lambda: self._give(access)))
        self.kinds = kinds
        self.clock = Clock()
        self.source = KubernetesSource(self.client, clock=self.clock, pause=self.clock.pause)
        self.snapshot = Snapshot(kinds)
        self.batches = []
        self.restarts = 0
        self._has_told = asyncio.Event()
        self._task = None

    @staticmethod
    async def _give(access):
        return access

    def start(self):
        self._task = asyncio.create_task(feed_source(self.source, self.kinds, self._apply, pause=self._pause))

    async def stop(self):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.client.close()

    def _apply(self, batch, name):
        self.batches.append(batch)
        self.snapshot.apply(batch, source=name)
        self._has_told.set()

    async def _pause(self, seconds):
        self.restarts += 1
        await self.clock.pause(seconds)

    async def until(self, is_reached, limit_s=LIMIT_S):
        """Follow until something is so."""
        try:
            async with asyncio.timeout(limit_s):
                while not is_reached():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await self._has_told.wait()
                    self._has_told.clear()
        except TimeoutError:
            raise AssertionError(f"not reached: {self.source} {self.snapshot.problems}") from None

    @property
    def problems(self):
        return dict(self.snapshot.problems)

    @property
    def events(self):
        return [event for batch in self.batches for event in batch]

    def names(self, type_):
        return [key.name for key in self.snapshot.keys(type_)]

    def count_lists(self, type_):
        return sum(isinstance(event, Replaced) and event.type is type_ for event in self.events)

    def is_in_touch(self):
        is_followed = not re.search("broken|not following", repr(self.source))
        return is_followed and self.source.out_of_touch_s == 0 and not self.snapshot.problems


@asynccontextmanager
async def following(server, kinds=KINDS, token="", client=None):
    follower = Follower(server, kinds, token)
    for name, value in (client or {}).items():
        setattr(follower.client, name, value)
    before = asyncio.all_tasks()
    follower.start()
    try:
        yield follower
    finally:
        await follower.stop()
        await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - before if "aiohttp" not in repr(task.get_coro())}
        assert not left
