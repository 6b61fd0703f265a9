import asyncio
import json

import aiohttp
import pytest

from maesh_core.controller.api.handlers import Api
from maesh_core.controller.api.nodes import AdminAddress, NodeRegistry
from maesh_core.controller.api.server import build_json
from maesh_core.controller.tap.mesh_tap import TooManyTapsError
from maesh_core.errors import NodeUnreachableError, TrafficUnavailableError
from maesh_core.model.messages import ControllerReport
from maesh_core.model.traffic import ServiceTraffic, TrafficReport
from maesh_core.plain_http.line_stream import LineStream
from maesh_core.plugin_system.pages import PageResponse

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


async def test_a_pull_gives_the_whole_configuration(peer):
    response, body = await peer.get(CURRENT)
    assert response.status == 200
    assert response.content_type == "application/json"
    assert json.loads(body) == {"revision": "e.1", "full": True, "since": None}
    assert response.headers["ETag"] == '"e.1"'
    assert response.headers["Cache-Control"] == "no-cache"


async def test_a_pull_since_an_earlier_revision_gives_a_delta_under_a_tag_of_its_own(peer):
    peer.advance()
    response, body = await peer.get(f"{CURRENT}?since=e.1")
    assert json.loads(body)["full"] is False
    assert response.headers["ETag"] == '"e.2;since=e.1"'


async def test_a_pull_since_the_current_revision_has_nothing_new(peer):
    response, body = await peer.get(f"{CURRENT}?since=e.1")
    assert (response.status, body) == (304, b"")
    assert response.headers["ETag"] == '"e.1"'


@pytest.mark.parametrize("since", ["", "e", "e.", "e.x", "e.2", "e.-1", "f.1", ".1", "e.1 ", "e.%D9%A1", "x" * 4000])
async def test_a_revision_that_is_not_ours_gets_the_whole_at_once(peer, since):
    response, body = await peer.get(f"{CURRENT}?since={since}&wait=60")
    assert response.status == 200
    assert json.loads(body)["full"] is True


async def test_a_revision_of_an_earlier_start_gets_the_whole_at_once(peer):
    peer.published.epoch = "later"
    _, body = await peer.get(f"{CURRENT}?since=e.1&wait=60")
    assert json.loads(body) == {"revision": "later.1", "full": True, "since": None}


@pytest.mark.parametrize("wait", ["-1", "x", "", "nan", "inf", "1e3", "0x10", "1_0", "%D9%A1", "9" * 10])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(peer, wait):
    response, body = await peer.get(f"{CURRENT}?wait={wait}")
    assert response.status == 400
    assert b"wait is a number of seconds" in body


@pytest.mark.parametrize("wait", ["0", "0.01", "0.010"])
async def test_a_pull_that_waits_in_vain_ends_with_304(peer, wait):
    response, _ = await peer.get(f"{CURRENT}?since=e.1&wait={wait}")
    assert response.status == 304


async def test_a_held_pull_is_answered_by_the_next_revision(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    peer.advance()
    response, body = await pull
    assert response.status == 200
    assert json.loads(body) == {"revision": "e.2", "full": False, "since": "e.1"}


async def test_a_longer_wait_than_allowed_is_held_too(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=100000")
    peer.advance()
    response, _ = await pull
    assert response.status == 200


async def test_one_rendering_serves_all_that_waited(peer):
    pulls = [await peer.start_pull(f"{CURRENT}?since=e.1&wait=60") for _ in range(20)]
    peer.published.rendered.clear()
    peer.advance()
    bodies = {body for _, body in await asyncio.gather(*pulls)}
    assert len(bodies) == 1
    assert peer.published.rendered == ["e.1"]


async def test_nonsense_revisions_share_one_rendering(peer):
    peer.published.rendered.clear()
    for number in range(30):
        await peer.get(f"{CURRENT}?since=nonsense.{number}")
    assert peer.published.rendered == [None]


async def test_a_pull_whose_client_went_away_is_not_held_any_more(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    pull.cancel()
    await pass_until(lambda: not peer.api.held_pulls)
    assert (await peer.get("/api/services"))[0].status == 200


async def test_above_the_limit_a_pull_that_would_wait_is_refused(build_peer):
    peer = await build_peer(held_limit=1)
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    response, body = await peer.get(f"{CURRENT}?since=e.1&wait=60")
    assert (response.status, body) == (503, b"too many pulls are waiting\n")
    assert (await peer.get(CURRENT))[0].status == 200
    peer.api.close()
    await pull
    await peer.session.close()


async def test_closing_answers_the_pulls_that_wait_and_the_server_stops(build_peer):
    peer = await build_peer()
    pulls = [await peer.start_pull(f"{CURRENT}?since=e.1&wait=60") for _ in range(3)]
    peer.api.close()
    async with asyncio.timeout(60):
        await peer.server.close(grace_s=2.0)
        responses = await asyncio.gather(*pulls)
    assert [response.status for response, _ in responses] == [304] * 3
    await peer.session.close()


async def test_a_server_stops_even_if_the_api_was_not_closed(build_peer):
    peer = await build_peer()
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    async with asyncio.timeout(30):
        await peer.server.close(grace_s=2.0)
        with pytest.raises(aiohttp.ClientError):
            await pull
    await peer.session.close()


async def test_a_known_tag_has_nothing_new(peer):
    for known in ('"e.1"', 'W/"e.1"', '"x", "e.1"', "*"):
        response, _ = await peer.get(CURRENT, headers={"If-None-Match": known})
        assert response.status == 304, known


async def test_the_tag_of_a_delta_is_not_that_of_the_whole(peer):
    peer.advance()
    for known in ('"e.1"', '"e.2;since=e.1"', "e.2", "nonsense", '"'):
        response, _ = await peer.get(CURRENT, headers={"If-None-Match": known})
        assert response.status == 200, known
    response, _ = await peer.get(f"{CURRENT}?since=e.1", headers={"If-None-Match": '"e.2"'})
    assert response.status == 200


async def test_a_known_tag_can_be_waited_on(peer):
    pull = await peer.start_pull(f"{CURRENT}?wait=60", headers={"If-None-Match": '"e.1"'})
    peer.advance()
    response, body = await pull
    assert response.headers["ETag"] == '"e.2"'
    assert json.loads(body)["full"] is True


async def test_a_wait_without_a_revision_is_answered_at_once(peer):
    assert (await peer.get(f"{CURRENT}?wait=60"))[0].status == 200


async def test_nothing_is_pulled_before_the_first_build(peer):
    peer.published.is_ready = False
    response, body = await peer.get(f"{CURRENT}?wait=60&node=a")
    assert response.status == 503
    assert body == b"the first configuration is not built yet\n"
    assert response.headers["Retry-After"] == "1"
    (node,) = json.loads((await peer.get("/api/status/nodes"))[1])
    assert (node["name"], node["ready"], node["refused"]) == ("a", False, True)


async def test_readiness_is_reported_as_json(peer):
    response, body = await peer.get("/api/status/readiness")
    assert (response.status, response.content_type, body) == (200, "application/json", b"true")
    peer.published.is_ready = False
    response, body = await peer.get("/api/status/readiness")
    assert (response.status, response.content_type, body) == (503, "application/json", b"false")


async def test_services_and_topology_are_reported_as_json(peer):
    for path, expected in (
        ("/api/services", []),
        ("/api/objects", [{"kind": "TrafficSplit"}]),
        ("/api/status/routes", [{"kind": "routes"}]),
        ("/api/topology/current", {"services": {}}),
    ):
        response, body = await peer.get(path)
        assert (response.status, response.content_type) == (200, "application/json")
        assert json.loads(body) == expected


async def test_proxies_that_pull_with_a_name_are_reported(peer):
    assert json.loads((await peer.get("/api/status/nodes"))[1]) == []
    await peer.get(f"{CURRENT}?node=b")
    await peer.get(f"{CURRENT}?node=a%20b&since=e.1")
    await peer.get(CURRENT)
    nodes = json.loads((await peer.get("/api/status/nodes"))[1])
    assert [(node["name"], node["ip"], node["ready"], node["revision"]) for node in nodes] == [
        ("a b", "127.0.0.1", True, "e.1"),
        ("b", "127.0.0.1", False, None),
    ]
    assert nodes[0]["lastSeen"].endswith("Z")


@pytest.mark.parametrize("name", ["", "a%0Ab", "%00", "x" * 254])
async def test_a_name_that_is_none_is_refused(peer, name):
    response, body = await peer.get(f"{CURRENT}?node={name}")
    assert response.status == 400
    assert b"node is a name" in body


async def test_a_proxy_is_asked_where_it_pulled_from_at_the_port_it_reported(peer):
    await peer.get(f"{CURRENT}?node=a%20/b&admin=8080")
    response, body = await peer.get("/api/status/node/a%20%2Fb/configuration")
    assert (response.status, response.content_type) == (200, "application/json")
    assert json.loads(body) == {"revision": "e.1", "full": True}
    assert peer.asker.asked == [AdminAddress("127.0.0.1", 8080)]


async def test_the_status_of_a_proxy_is_that_of_its_admin_port(peer):
    await peer.get(f"{CURRENT}?node=a&admin=8080&admin-tls=1")
    response, body = await peer.get("/api/status/node/a/status")
    assert (response.status, json.loads(body)["workers"]) == (200, 1)
    assert peer.asker.asked == [AdminAddress("127.0.0.1", 8080, "a")]
    assert (await peer.get("/api/status/node/b/status"))[0].status == 404


async def test_a_proxy_that_cannot_be_asked_is_502_with_the_reason(peer):
    await peer.get(f"{CURRENT}?node=a")
    peer.asker.error = NodeUnreachableError("the proxy cannot be reached")
    response, body = await peer.get("/api/status/node/a/configuration")
    assert (response.status, response.content_type) == (502, "text/plain")
    assert body == b"the proxy cannot be reached\n"


@pytest.mark.parametrize("name", ["b", "", "a/", "..", "%00"])
async def test_a_proxy_that_did_not_pull_is_404_and_nothing_is_asked(peer, name):
    await peer.get(f"{CURRENT}?node=a&admin=8080")
    assert (await peer.get(f"/api/status/node/{name}/configuration"))[0].status == 404
    assert peer.asker.asked == []


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999", "-1", "+1", "080", "8_0", "1e3", "%D9%A1", "80%0A", "h:80"]
)
async def test_an_admin_port_that_is_none_is_refused(peer, port):
    response, body = await peer.get(f"{CURRENT}?node=a&admin={port}")
    assert (response.status, body) == (400, b"admin is a port, a number from 1 to 65535\n")
    assert json.loads((await peer.get("/api/status/nodes"))[1]) == []


@pytest.mark.parametrize("port", [1, 65535])
async def test_every_plain_port_is_taken(peer, port):
    await peer.get(f"{CURRENT}?node=a&admin={port}")
    await peer.get("/api/status/node/a/configuration")
    assert peer.asker.asked == [AdminAddress("127.0.0.1", port)]


@pytest.mark.parametrize(
    "query", ["namespace=shop&name=web-0", "address=10.0.0.1", "address=::ffff:10.0.0.1", "address=FD00:0::1"]
)
async def test_a_pod_is_found_by_its_name_and_by_each_spelling_of_its_addresses(peer, query):
    response, body = await peer.get(f"/api/pods?{query}")
    assert response.status == 200
    assert json.loads(body) == {
        "pods": [
            {
                "namespace": "shop",
                "name": "web-0",
                "serviceAccount": "web",
                "addresses": ["10.0.0.1", "fd00::1"],
                "hostNetwork": False,
                "ended": False,
            }
        ],
        "more": 0,
        "nearest": [],
    }


async def test_a_pod_that_is_not_there_is_answered_with_the_nearest_names(peer):
    _, body = await peer.get("/api/pods?namespace=shop&name=web")
    assert json.loads(body) == {"pods": [], "more": 0, "nearest": ["shop/web-0"]}


@pytest.mark.parametrize("query", ["", "?name=web-0", "?address=web-0", "?address=10.0.0.1&name=web-0", "?limit=10"])
async def test_pods_are_not_listed(peer, query):
    response, body = await peer.get(f"/api/pods{query}")
    assert (response.status, body) == (400, b"name a pod by namespace= and name=, or by address=\n")


async def test_a_pod_is_not_looked_for_before_the_pods_are_known(peer):
    peer.published.is_ready = False
    response, _ = await peer.get("/api/pods?address=10.0.0.1")
    assert (response.status, response.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("path", ["/", "/api", "/api/services/", "/api/status/node/a", "/%00"])
async def test_there_is_nothing_elsewhere(peer, path):
    response, body = await peer.get(path)
    assert response.status == 404
    assert response.content_type == "text/plain"
    assert b"/api/configuration/current" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_get_and_head_are_answered(peer, method):
    response, _ = await peer.request("/api/services", method=method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


async def test_head_has_the_head_of_get(peer):
    got, body = await peer.get(CURRENT)
    response, nothing = await peer.request(CURRENT, method="HEAD")
    assert (response.status, nothing) == (200, b"")
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers["ETag"] == got.headers["ETag"]


async def test_an_error_of_ours_is_logged_and_not_shown(peer, caplog):
    def fail():
        raise RuntimeError("a secret")

    peer.published.render_services = fail
    response, body = await peer.get("/api/services")
    assert response.status == 500
    assert b"secret" not in body
    assert "a secret" in caplog.text


async def test_a_controller_out_of_touch_with_its_cluster_answers_no_pull_and_is_not_ready(peer):
    peer.published.is_current = False
    response, body = await peer.get(CURRENT)
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Connection"] == "close", "the next pull may meet another replica"
    assert b"no contact" in body
    response, body = await peer.get("/api/status/readiness")
    assert (response.status, body) == (503, b"false")


async def test_a_proxy_whose_pulls_are_refused_is_reported_as_one_that_runs(peer):
    peer.published.is_current = False
    await peer.get(f"{CURRENT}?node=b&since=e.1&admin=8080")
    (node,) = json.loads((await peer.get("/api/status/nodes"))[1])
    assert (node["name"], node["revision"], node["adminPort"]) == ("b", "e.1", 8080)
    assert (node["ready"], node["refused"]) == (False, True)


async def test_a_controller_says_who_it_is_and_who_leads(peer):
    response, body = await peer.get("/api/status/controller")
    assert response.status == 200
    assert json.loads(body) == {
        "name": "me",
        "ready": True,
        "leads": True,
        "leader": "me",
        "revision": "e.1",
        "problems": {},
        "version": "",
        "plugins": [],
    }


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("", ["shop/web:80", "shop/web:81", "shop/db:80"]),
        ("?service=shop/web", ["shop/web:80", "shop/web:81"]),
        ("?service=shop%2Fweb%3A81", ["shop/web:81"]),
        ("?service=shop/none", []),
        ("?service=shop/web:82", []),
    ],
)
async def test_traffic_is_reported_of_all_services_or_of_one(peer, query, keys):
    response, body = await peer.get(f"/api/traffic{query}")
    assert (response.status, response.content_type) == (200, "application/json")
    assert [service["key"] for service in json.loads(body)["services"]] == keys
    assert json.loads(body)["services"] == [] or "receivedBytes" in json.loads(body)["services"][0]["last"]


@pytest.mark.parametrize(
    "query", ["service=", "service=web", "service=shop/web:x", "service=shop/a/b", "x=1", "service"]
)
async def test_an_invalid_filter_of_traffic_is_refused(peer, query):
    response, body = await peer.get(f"/api/traffic?{query}")
    assert response.status == 400
    assert body == b"the only parameter is service=NAMESPACE/NAME or service=NAMESPACE/NAME:PORT\n"


async def test_traffic_is_not_reported_before_the_first_build(peer):
    peer.published.is_ready = False
    response, _ = await peer.get("/api/traffic")
    assert (response.status, response.headers["Retry-After"]) == (503, "1")


async def test_why_traffic_cannot_be_measured_is_answered(peer):
    peer.traffic.error = TrafficUnavailableError("Prometheus cannot be reached")
    response, body = await peer.get("/api/traffic")
    assert (response.status, body) == (502, b"Prometheus cannot be reached\n")


async def test_metrics_are_served_as_prometheus_reads_them(peer):
    response, body = await peer.get("/metrics")
    assert (response.status, body) == (200, b"maesh_controller_ready 1.0\n")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_requests_are_counted_under_the_names_of_paths(peer):
    for path in ("/api/services", "/none", "/api/status/node/n-1/configuration", CURRENT, f"{CURRENT}?since=e.1"):
        await peer.get(path)
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    pull.cancel()
    await pass_until(lambda: peer.api.held_pulls == 0)
    requests, pulls, held = peer.api.collect_metrics()
    assert dict(requests.samples) == {
        ("/api/configuration/current", "200"): 1,
        ("/api/configuration/current", "304"): 1,
        ("/api/configuration/current", "499"): 1,
        ("/api/services", "200"): 1,
        ("/api/status/node/NAME/configuration", "404"): 1,
        ("other", "404"): 1,
    }
    assert dict(pulls.samples) == {("full",): 1, ("unchanged",): 1, ("left",): 1}
    assert held.samples == (((), 0),)


class Page:
    path = "/"

    async def respond(self, request):
        if "fail" in request.query:
            raise ValueError
        return PageResponse(content_type="text/html", body=b"<p>")


async def test_pages_of_plugins_are_served(build_peer):
    peer = await build_peer(pages={"/": Page()})
    response, body = await peer.get("/")
    assert (response.status, body, response.headers["Content-Type"]) == (200, b"<p>", "text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    response, body = await peer.request("/", method="HEAD")
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", "3")
    assert (await peer.request("/", method="POST"))[0].status == 405
    assert dict(peer.api.collect_metrics()[0].samples) == {("page", "200"): 2, ("page", "405"): 1}


class PostingPage(Page):
    path = "/in"
    body_limit_bytes = 10

    async def respond_to_post(self, request):
        if request.body == b"fail":
            raise ValueError
        return PageResponse(status=429, body=request.body)


async def test_a_post_request_reaches_only_pages_that_answer_it(serve, build_peer):
    peer = await build_peer(pages={"/": Page(), "/in": PostingPage()})
    assert peer.api.body_limits == {b"/in": 10}
    url, _ = await serve(peer.api.handle, body_limits=peer.api.body_limits)
    async with aiohttp.ClientSession() as session:
        for path, body, status in (
            ("/in", b"0123456789", 429),
            ("/in", b"01234567890", 413),
            ("/in", b"fail", 500),
            ("/", b"x", 405),
            ("/api/services", b"x", 405),
            ("/none", b"x", 404),
        ):
            async with session.post(f"{url}{path}", data=body) as response:
                assert response.status == status
                assert (await response.read() == body) == (status == 429)


async def test_a_page_that_raises_is_logged_and_answered_with_500(build_peer, caplog):
    peer = await build_peer(pages={"/": Page()})
    response, body = await peer.get("/?fail=1")
    assert (response.status, body) == (500, b"internal error; see the controller's log\n")
    assert "the API could not answer /" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/", 421), ("/api/services", 421)])
async def test_the_api_is_only_served_under_a_known_name(build_peer, path, status):
    peer = await build_peer(pages={"/": Page()})
    response, _ = await peer.get(path, headers={"Host": "evil.example"})
    assert response.status == status
    response, body = await peer.get(path, headers={"Host": "evil.example", "Accept-Language": "en"})
    assert response.status == 421
    assert b"--api-hosts evil.example allows it" in body


async def test_a_question_is_answered_by_what_explains(peer):
    response, body = await peer.get("/api/explain?client=a&service=b")
    assert (response.status, body) == (200, b'{"asked": "client=a&service=b"}')


AGENT = {"User-Agent": "Mozilla/5.0"}


@pytest.mark.parametrize("path", ["/api/explain?client=a&service=b", "/api/traffic", "/api/tap"])
async def test_a_page_of_another_site_starts_no_costly_work(peer, path):
    response, body = await peer.get(path, headers=AGENT)
    assert response.status == 403
    assert b"only for the controller's own pages" in body
    assert not peer.taps.asked
    peer.taps.stream.finish()
    response, _ = await peer.get(path, headers={**AGENT, "X-Maesh-Request": "1"})
    assert response.status == 200


async def test_a_page_of_another_site_makes_the_controller_ask_no_proxy(peer):
    response, _ = await peer.get("/api/status/node/a/configuration", headers=AGENT)
    assert response.status == 403


async def test_a_page_of_another_site_adds_no_proxy_but_may_be_followed_to_the_configuration(peer):
    headers = {**AGENT, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for fields in (AGENT, headers):
        response, _ = await peer.get(CURRENT + "?node=a&admin=22", headers=fields)
        assert response.status == 403
    assert json.loads((await peer.get("/api/status/nodes"))[1]) == []
    response, _ = await peer.get(CURRENT, headers=headers)
    assert response.status == 200


@pytest.mark.parametrize("path", ["/api/services", "/api/nothing", "/metrics", "/api/tap", CURRENT])
async def test_no_page_of_another_site_can_include_an_answer(peer, path):
    peer.taps.stream.finish()
    response, _ = await peer.get(path)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_nothing_is_explained_before_the_first_configuration(peer):
    peer.published.is_ready = False
    assert (await peer.get("/api/explain?client=a&service=b"))[0].status == 503


async def test_a_tap_is_a_stream_of_lines_until_the_api_closes(peer):
    async with peer.session.get(peer.url + "/api/tap?service=shop/web&path=%2Fa*") as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        peer.taps.stream.put(b'{"kind": "http"}\n')
        assert await response.content.readline() == b'{"kind": "http"}\n'
        peer.api.close()
        assert await response.content.read() == b""
    assert peer.taps.asked == [({"service": "shop/web", "path": "/a*"}, "127.0.0.1")]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("method is a method"), 400, "method is a method\n"),
        (TooManyTapsError(), 503, "too many taps are open\n"),
    ],
)
async def test_a_tap_is_refused_with_a_reason(peer, error, status, text):
    peer.taps.error = error
    response, body = await peer.get("/api/tap")
    assert (response.status, body.decode()) == (status, text)


async def test_there_is_no_tap_before_the_first_configuration(peer):
    peer.published.is_ready = False
    response, _ = await peer.get("/api/tap")
    assert (response.status, response.headers["Retry-After"], peer.taps.asked) == (503, "1", [])
