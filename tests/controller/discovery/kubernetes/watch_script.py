"""Follows one kind through a script: what the server answers, call by call, and which events are reported."""

import asyncio
import json

from maesh_core.controller.discovery.kubernetes.watch import (
    KindWatch,
)
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Applied, Deleted, Problem, Replaced

LIMIT_S = 60.0
"""Far above what anything here takes; only a failing test gets there."""
SLICES, ACCOUNTS = CORE_KINDS[1], CORE_KINDS[-1]
ORIGIN = "kubernetes serviceaccounts"
STAYS = "the watch stands and says no more"
HALF = 0.75
"""What chance, which is one half here, leaves of a pause."""


class After:
    """A batch of a watch that comes so much later."""

    def __init__(self, seconds, lines=()):
        self.seconds, self.lines = seconds, lines


class Server:
    """Answers each call with the next of its script: bytes, an error, or the batches of a watch. Then it is silent."""

    def __init__(self, script, clock):
        self._script = list(script)
        self._clock = clock
        self.calls = []
        self.silence_limits = []
        self.open_watches = 0
        self.is_through = asyncio.Event()

    async def get(self, path, query=None):
        self.calls.append((path, dict(query or {})))
        answer = await self._next()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes), f"the script has no answer to {path} {query}"
        return answer

    async def watch_lines(self, path, query, *, silence_limit_s):
        self.calls.append((path, dict(query)))
        self.silence_limits.append((silence_limit_s, float(query["timeoutSeconds"])))
        answer = await self._next()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list), f"the script has no watch of {path} {query}"
        self.open_watches += 1
        try:
            yield []
            for step in answer:
                if step == STAYS:
                    await self._end()
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, After):
                    self._clock.now += step.seconds
                    yield list(step.lines)
                else:
                    yield step
        finally:
            self.open_watches -= 1

    async def _next(self):
        return self._script.pop(0) if self._script else await self._end()

    async def _end(self):
        self.is_through.set()
        await asyncio.Event().wait()

    @property
    def versions(self):
        """The resource version of each watch; of a list, `list`."""
        return [query.get("resourceVersion", "list") for path, query in self.calls if query and "continue" not in query]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Played:
    """What came of a script; the watch is as it was at the end of it."""

    def __init__(self, script, kind):
        self.clock = Clock()
        self.server = Server(script, self.clock)
        self.pauses = []
        self.batches = []
        self.watch = KindWatch(self.server, kind, clock=self.clock, pause=self._pause, chance=lambda: 0.5)
        self.touch = []

    async def _pause(self, seconds):
        self.pauses.append(seconds)
        self.touch.append(self.watch.broken_since)
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def tell(self, batch):
        assert batch, "an empty batch was delivered"
        self.batches.append(list(batch))
        await asyncio.sleep(0)

    @property
    def events(self):
        return [shorten(event) for batch in self.batches for event in batch]

    @property
    def problems(self):
        """What is a problem at the end."""
        found = {}
        for batch in self.batches:
            for event in batch:
                if isinstance(event, Problem):
                    found[event.origin] = event.text
        return {origin: text for origin, text in found.items() if text is not None}


async def play(*script, kind=ACCOUNTS, document=True):
    """Play a script to its end; it begins with what the server serves."""
    played = Played([render_document("serviceaccounts", "pods"), *script] if document else script, kind)
    task = asyncio.create_task(played.watch.run(played.tell))
    through = asyncio.create_task(played.server.is_through.wait())
    try:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait([task, through], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        await asyncio.sleep(0)
    finally:
        for each in (task, through):
            each.cancel()
        await asyncio.gather(task, through, return_exceptions=True)
    assert played.server.open_watches == 0
    return played


def shorten(event):
    if isinstance(event, Applied):
        return f"+{event.resource.key.name}"
    if isinstance(event, Deleted):
        return f"-{event.key.name}"
    if isinstance(event, Replaced):
        return "=" + ",".join(resource.key.name for resource in event.resources)
    return f"{'!' if event.text else '~'}{event.origin.removeprefix(ORIGIN).strip()}"


def render_document(*names):
    return json.dumps({"kind": "APIResourceList", "resources": [{"name": name} for name in names]}).encode()


def render_page(version, *names, **more):
    items = [name if isinstance(name, dict) else build(name) for name in names]
    return json.dumps({"metadata": {"resourceVersion": version} | more, "items": items}).encode()


def build(name, version="1", **metadata):
    return {"metadata": {"name": name, "namespace": "apps", "resourceVersion": version} | metadata}


def bad(name, version="1"):
    return build(name, version, labels=["no map"])


def render_line(kind, name, version):
    value = name if isinstance(name, dict) else build(name, version)
    return json.dumps({"type": kind, "object": value}).encode()


def error_line(code, reason=""):
    status = {"kind": "Status", "code": code, "reason": reason, "message": "no more"}
    return json.dumps({"type": "ERROR", "object": status}).encode()


def refuse(status, reason="", **more):
    return KubernetesError(f"the server says {status}", status=status, reason=reason, **more)


CUT = KubernetesError("GET /api/v1/serviceaccounts: the connection broke")
ADDED = render_line("ADDED", "b", "7")
