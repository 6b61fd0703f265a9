import json

import aiohttp
import pytest

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.tap.mesh_tap import TooManyTapsError
from maesh_core.errors import NodeUnreachableError, TrafficUnavailableError
from maesh_core.plugin_system.pages import PageResponse

from .conftest import CURRENT, pass_until


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
async def test_an_unknown_path_is_404_and_lists_the_known_ones(peer, path):
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
