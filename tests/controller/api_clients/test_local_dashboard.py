"""The dashboard at a port of this machine: who may use it, and what it passes on."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from maesh_core.controller.api_clients.local_dashboard import LocalDashboard, find_status
from maesh_core.errors import ApiRefusedError, ControllerUnreachableError, KubernetesError, MaeshError, StartupError
from maesh_core.plain_http.messages import Request

KEY = "a-key-of-this-run"


class Api:
    """A controller with two pages; it can be lost, and `refuse` requests with a status."""

    def __init__(self, name):
        self.name, self.is_lost, self.asked, self.followed = name, False, [], []
        self.refusal, self.is_closed, self.gate = 0, False, None

    async def fetch(self, path):
        self.asked.append(path)
        if self.gate is not None:
            await self.gate.wait()
        self.check()
        return f"{self.name} {path}".encode()

    def check(self):
        if self.is_closed:
            raise RuntimeError("Session is closed")
        if self.is_lost:
            raise MaeshError(f"no controller answers at {self.name}")
        if self.refusal:
            raise ApiRefusedError(f"{self.refusal} no", status=self.refusal)

    async def follow(self, path, query, *, silence_limit_s):
        self.followed.append((path, dict(query)))
        self.check()
        yield []
        self.check()
        yield [b"{}", b'{"a": 1}']
        raise MaeshError("lost the controller")


class Cluster:
    """Finds these controllers."""

    def __init__(self, *apis):
        self.apis, self.opened, self.closed, self.now = list(apis), 0, 0, 100.0

    @asynccontextmanager
    async def open(self):
        await asyncio.sleep(0)
        if not self.apis:
            raise StartupError("no pod")
        self.opened += 1
        given = list(self.apis)
        try:
            yield given
        finally:
            self.closed += 1
            for api in given:
                api.is_closed = True


@pytest.fixture
def cluster():
    return Cluster(Api("a"), Api("b"))


@pytest.fixture
async def dashboard(cluster):
    async with LocalDashboard(cluster.open, KEY, clock=lambda: cluster.now) as dashboard:
        yield dashboard
    assert cluster.closed == cluster.opened


async def ask(dashboard, target, *, host="127.0.0.1:8000", method=b"GET"):
    request = Request(method=method, target=target.encode(), fields=[(b"host", host.encode())])
    return await dashboard.answer(request)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/assets/index-1.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
        ("/api/services", "application/json"),
        ("/api/explain?client=a.b&service=c.js", "application/json"),
    ],
)
async def test_paths_below_the_key_are_those_of_a_controller(dashboard, path, content_type):
    response = await ask(dashboard, f"/{KEY}{path}")
    assert (response.status, response.body) == (200, f"a {path}".encode())
    fields = dict(response.fields)
    assert fields[b"Content-Type"] == content_type.encode()
    assert fields[b"Referrer-Policy"] == b"no-referrer", "the key must not leave the page"
    assert b"default-src 'none'" in fields[b"Content-Security-Policy"]


@pytest.mark.parametrize(
    "target", ["/", "", "/api/services", f"/{KEY}", f"/{KEY[:-1]}/", f"/{KEY}x/", "/é/", f"{KEY}/"]
)
async def test_without_the_key_there_is_nothing(dashboard, cluster, target):
    assert (await ask(dashboard, target)).status == 403
    assert cluster.apis[0].asked == []


async def test_another_name_of_this_machine_is_refused(dashboard, cluster):
    for host in ("evil.example", "evil.example:8000", ""):
        assert (await ask(dashboard, f"/{KEY}/", host=host)).status == 421
    assert (await ask(dashboard, f"/{KEY}/", host="localhost:1")).status == 200
    assert len(cluster.apis[0].asked) == 1


async def test_requests_that_could_change_something_are_refused(dashboard):
    for method in (b"POST", b"PUT", b"DELETE"):
        assert (await ask(dashboard, f"/{KEY}/mtls/rotate", method=method)).status == 405


async def test_a_tap_is_passed_on_as_it_happens(dashboard, cluster):
    response = await ask(dashboard, f"/{KEY}/api/tap?path=%2Fa+b&limit=2")
    assert cluster.apis[0].followed == [("/api/tap", {"path": "/a b", "limit": "2"})]
    stream = response.stream
    assert await stream.__anext__() == b'{}\n{"a": 1}\n'
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    stream.close()


async def test_another_controller_is_asked_if_one_is_lost(dashboard, cluster):
    cluster.apis[0].is_lost = True
    assert (await ask(dashboard, f"/{KEY}/")).body == b"b /"
    assert (await ask(dashboard, f"/{KEY}/api/tap")).stream is not None


async def test_controllers_are_looked_up_again_if_all_are_lost(dashboard, cluster):
    for api in cluster.apis:
        api.is_lost = True
    response = await ask(dashboard, f"/{KEY}/")
    assert (response.status, response.body) == (502, b"no controller answers at a\n")
    cluster.apis = [Api("c")]
    assert (await ask(dashboard, f"/{KEY}/")).status == 502, "it was looked up just now"
    cluster.now += 1
    assert (await ask(dashboard, f"/{KEY}/")).body == b"c /"
    assert cluster.opened == 2


@pytest.mark.parametrize("status", [400, 403, 404, 503])
async def test_a_refusal_is_passed_on_and_looks_up_nothing(dashboard, cluster, status):
    tap = (await ask(dashboard, f"/{KEY}/api/tap")).stream
    cluster.apis[0].refusal = status
    cluster.apis[1].is_lost = True
    cluster.now += 10
    response = await ask(dashboard, f"/{KEY}/unknown")
    assert (response.status, response.body) == (status, f"{status} no\n".encode())
    assert (await ask(dashboard, f"/{KEY}/api/tap")).status == status
    assert (cluster.opened, cluster.closed) == (1, 0)
    cluster.apis[0].refusal = 0
    assert await tap.__anext__() == b'{}\n{"a": 1}\n'
    tap.close()


async def test_controllers_that_are_lost_are_looked_up_once_for_all_requests(dashboard, cluster):
    lost, cluster.apis = cluster.apis, [Api("c")]
    for api in lost:
        api.is_lost = True
    cluster.now += 10
    responses = await asyncio.gather(*(ask(dashboard, f"/{KEY}/{index}") for index in range(5)))
    assert [response.body for response in responses] == [f"c /{index}".encode() for index in range(5)]
    assert cluster.opened == 2
    cluster.now += 10
    await asyncio.sleep(0)
    assert (cluster.closed, [api.is_closed for api in lost]) == (1, [True, True])


async def test_what_uses_former_controllers_goes_on_after_a_look_up(dashboard, cluster):
    former = cluster.apis
    tap = (await ask(dashboard, f"/{KEY}/api/tap")).stream
    former[0].gate = asyncio.Event()
    slow = asyncio.create_task(ask(dashboard, f"/{KEY}/slow"))
    await asyncio.sleep(0)
    former[0].gate, gate = None, former[0].gate
    for api in former:
        api.is_lost = True
    cluster.apis, cluster.now = [Api("c")], cluster.now + 10
    assert (await ask(dashboard, f"/{KEY}/")).body == b"c /"
    former[0].is_lost = False
    gate.set()
    assert (await slow).body == b"a /slow"
    assert await tap.__anext__() == b'{}\n{"a": 1}\n'
    assert cluster.closed == 0
    tap.close()
    for _ in range(3):
        await asyncio.sleep(0)
    assert cluster.closed == 1


async def test_a_look_up_that_finds_nothing_keeps_the_former_controllers(dashboard, cluster):
    former, cluster.apis = cluster.apis, []
    for api in former:
        api.is_lost = True
    cluster.now += 10
    response = await ask(dashboard, f"/{KEY}/")
    assert (response.status, response.body) == (502, b"no pod\n")
    former[1].is_lost = False
    assert (await ask(dashboard, f"/{KEY}/")).body == b"b /"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MaeshError("x"), 0),
        (ApiRefusedError("x", status=404), 404),
        (ApiRefusedError("x", status=302), 0),
        (KubernetesError("x"), 0),
        (KubernetesError("no page", status=404), 404),
        (ControllerUnreachableError("no pod"), 0),
        (KubernetesError("no right", status=403, reason="Forbidden"), 403),
    ],
)
def test_a_refusal_has_the_status_of_whoever_refuses(error, status):
    assert find_status(error) == status
