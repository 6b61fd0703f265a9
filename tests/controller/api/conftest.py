"""A controller's API with doubles of what it serves, over a real connection."""

import asyncio
import json

import aiohttp
import pytest

from maesh_core.controller.api.handlers import Api
from maesh_core.controller.api.nodes import NodeRegistry
from maesh_core.controller.api.server import build_json
from maesh_core.model.messages import ControllerReport
from maesh_core.model.traffic import ServiceTraffic, TrafficReport
from maesh_core.plain_http.line_stream import LineStream

from ..explaining.test_pod_lookup import build_lookup, build_pod

CURRENT = "/api/configuration/current"


async def pass_until(condition):
    """Let the loop run until something is so; the test's time limit ends what never comes."""
    while not condition():  # noqa: ASYNC110 - what is waited for is the server's state, which tells nobody
        await asyncio.sleep(0)


class Published:
    """Revisions 1 to `number` of epoch `e`; bodies tell what they are, and how often each was rendered."""

    def __init__(self):
        self.is_ready = self.is_current = True
        self.epoch = "e"
        self.number = 1
        self.rendered = []

    @property
    def revision(self):
        return f"{self.epoch}.{self.number}"

    def render_configuration(self, since):
        self.rendered.append(since)
        if since == self.revision:
            return None
        return json.dumps({"revision": self.revision, "full": since is None, "since": since}).encode()

    def report(self):
        return ControllerReport(name="me", ready=True, leads=True, leader="me", revision=self.revision)

    def render_topology(self):
        return b'{"services": {}}'

    def render_services(self):
        return b"[]"

    @property
    def pods(self):
        return build_lookup(build_pod("web-0", "10.0.0.1", "fd00::1"))[0]

    def render(self, accept):
        return b"maesh_controller_ready 1.0\n", "text/plain; version=0.0.4; charset=utf-8"

    async def answer(self, request):
        return build_json(b'{"asked": "%b"}' % request.target.partition(b"?")[2])

    def render_objects(self):
        return b'[{"kind": "TrafficSplit"}]'

    status_pages = ("routes",)

    def render_statuses(self, page):
        return json.dumps([{"kind": page}]).encode()


class Asker:
    """Answers for every proxy, or raises."""

    def __init__(self):
        self.asked = []
        self.error = None

    async def fetch_configuration(self, address):
        self.asked.append(address)
        if self.error is not None:
            raise self.error
        return b'{"revision": "e.1", "full": true}'

    async def fetch_status(self, address):
        await self.fetch_configuration(address)
        return b'{"revision": "e.1", "ready": true, "workers": 1}'


class Traffic:
    """Reports two ports of one service and one of another, or raises."""

    def __init__(self):
        self.error = None

    async def report(self):
        if self.error is not None:
            raise self.error
        ports = [("web", "80"), ("web", "81"), ("db", "80")]
        return TrafficReport(
            at="now",
            services=tuple(
                ServiceTraffic(key=f"shop/{name}:{port}", namespace="shop", name=name, port=port)
                for name, port in ports
            ),
        )


class Taps:
    """Opens a stream that a test fills, or refuses it."""

    def __init__(self):
        self.stream = LineStream(lambda count: b"")
        self.asked = []
        self.error = None

    def open(self, parameters, client):
        self.asked.append((parameters, client))
        if self.error is not None:
            raise self.error
        return self.stream

    def finish(self):
        self.stream.finish()


class Peer:
    def __init__(self, published, api, asker, traffic, taps, server, session, url):
        self.published, self.api, self.asker, self.traffic, self.taps = published, api, asker, traffic, taps
        self.server, self.session = server, session
        self.url = url

    async def request(self, path, method="GET", **more):
        async with self.session.request(method, self.url + path, **more) as response:
            return response, await response.read()

    async def get(self, path, **more):
        return await self.request(path, **more)

    async def start_pull(self, path, **more):
        """Begin a pull that is held, and return once the server holds it."""
        held = self.api.held_pulls
        task = asyncio.create_task(self.get(path, **more))
        await pass_until(lambda: self.api.held_pulls > held)
        return task

    def advance(self):
        self.published.number += 1
        self.api.wake()


@pytest.fixture
async def build_peer(serve):
    sessions = []

    async def build(**limits):
        published = Published()
        asker = Asker()
        traffic = Traffic()
        taps = Taps()
        api = Api(
            published,
            NodeRegistry(),
            asker,
            status=published,
            traffic=traffic,
            taps=taps,
            explanations=published,
            metrics=published,
            **limits,
        )
        url, server = await serve(api.handle)
        session = aiohttp.ClientSession()
        sessions.append((session, api))
        return Peer(published, api, asker, traffic, taps, server, session, url)

    yield build
    for session, api in sessions:
        api.close()
        await session.close()


@pytest.fixture
async def peer(build_peer):
    return await build_peer()
