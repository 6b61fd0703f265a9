"""Routes through a real mesh: what clients get, and what a change of a route does."""

from collections import Counter

import pytest

from maesh_testing import build_pod, build_service, send_request

from .conftest import write_path, write_route, write_rule

pytestmark = pytest.mark.integration
NAMESPACE = "test"


def route(rules, **options):
    parents = [{"group": "", "kind": "Service", "name": "app"}]
    return write_route("app", rules, namespace=NAMESPACE, parents=parents, **options)


def start(start_mesh, start_upstream, *objects, flags=()):
    """Start a mesh with the services app, v1 and v2."""
    found = []
    for name in ("v1", "v2"):
        upstream = start_upstream(name)
        found += build_service(name, [(upstream.address, upstream.port)])
    return start_mesh(*flags, objects=[*found, *objects])


def test_rules_decide_by_path_header_and_query_and_what_none_matches_is_404(start_mesh, start_upstream):
    rules = [
        write_rule("v1", matches=[write_path("/v1")]),
        write_rule("v2", matches=[{"headers": [{"name": "X-Version", "value": "two"}]}]),
        write_rule("app", matches=[{"queryParams": [{"name": "own", "value": "yes"}]}]),
    ]
    mesh = start(start_mesh, start_upstream, route(rules))
    assert mesh.get("/v1/x").text == "v1"
    assert mesh.get("/x", headers={"X-Version": "two"}).text == "v2"
    assert mesh.get("/x?own=yes").text == "app-1"
    assert mesh.get("/v10").status == 404

    def read_rules():
        (app,) = send_request(mesh.api_port, path="/api/traffic?service=test/app").json["services"]
        return [(each["total"]["requests"], each["total"]["total"].get("p50") is not None) for each in app["rules"]]

    mesh.wait_until(lambda: read_rules() == [(1, True)] * 3, "a request of each rule")
    mesh.manifests.write("more.json", [])
    mesh.wait_until(lambda: mesh.get("/v10").text == "app-1", "the service's own pod")


def test_weights_divide_and_an_invalid_backend_answers_its_share_with_500(start_mesh, start_upstream):
    backends = [{"name": "v1", "port": 80, "weight": 3}, {"name": "nope", "port": 80, "weight": 1}]
    mesh = start(start_mesh, start_upstream, route([write_rule(*backends)]))
    assert Counter(mesh.get("/").status for _ in range(40)) == {200: 30, 500: 10}


def test_a_bad_rule_and_a_bad_route_concern_nothing_else(start_mesh, start_upstream):
    rules = [
        write_rule("v1", matches=[write_path("/bad")], filters=[{"type": "Nonsense"}]),
        write_rule("v2", matches=[write_path("/good")]),
    ]
    mesh = start(start_mesh, start_upstream, route(rules))
    assert mesh.get("/bad").status == 500
    assert mesh.get("/good").text == "v2"
    found = send_request(mesh.api_port, path="/api/objects").json
    shown = [each for each in found if each["kind"] == "HTTPRoute"]
    assert any("'Nonsense' is not supported" in text for text in shown[0]["errors"])


def test_a_consumer_route_of_another_namespace_takes_no_traffic_of_others(start_mesh, start_upstream):
    foreign = write_route(
        "app",
        [write_rule({"name": "v2", "namespace": NAMESPACE, "port": 80})],
        namespace="client",
        parents=[{"group": "", "kind": "Service", "name": "app", "namespace": NAMESPACE}],
    )
    mesh = start(start_mesh, start_upstream, foreign)
    assert mesh.get("/").text == "app-1"


def test_without_the_plugin_a_route_is_not_read_and_the_service_serves(start_mesh, start_upstream):
    mesh = start(start_mesh, start_upstream, route([write_rule("v1")]), flags=("--no-gateway",))
    assert mesh.get("/").text == "app-1"


ORIGIN = "http://page.test"
CHANGES = [
    {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}},
    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Team", "value": "a"}]}},
    {
        "type": "URLRewrite",
        "urlRewrite": {
            "hostname": "new.test",
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
        },
    },
    {
        "type": "ResponseHeaderModifier",
        "responseHeaderModifier": {"set": [{"name": "Access-Control-Allow-Origin", "value": "http://other.test"}]},
    },
    {"type": "CORS", "cors": {"allowOrigins": [ORIGIN]}},
]
REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"hostname": "new.test"}}


def test_the_result_of_filters_of_different_kinds_is_the_same_in_every_order(start_mesh, start_upstream):
    """The Gateway API recommends the listed order; each kind changes something else, so that none is needed."""
    side, orders = start_upstream("side"), {"/a": CHANGES, "/b": CHANGES[::-1], "/c": CHANGES[2:] + CHANGES[:2]}
    redirects = {"/d": [REDIRECT, CHANGES[4]], "/e": [CHANGES[4], REDIRECT]}
    rules = [write_rule("app", matches=[write_path(path)], filters=filters) for path, filters in orders.items()]
    rules += [{"matches": [write_path(path)], "filters": filters} for path, filters in redirects.items()]
    mesh = start_mesh(objects=[*build_service("v2", [(side.address, side.port)]), route(rules)])
    for path in orders:
        found = mesh.get(f"{path}/x?y", headers={"Origin": ORIGIN})
        assert (found.status, found.headers["access-control-allow-origin"]) == (200, ORIGIN)
    mesh.wait_until(lambda: side.count == 3, "a copy of each request")
    for requests in (mesh.upstreams[0].requests, side.requests):
        sent = {(each.path, each.headers["host"], each.headers["x-team"]) for each in requests}
        assert sent == {("/new/x?y", "new.test", "a")}
    for path in redirects:
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
        preflight = mesh.send("OPTIONS", path, headers=asked)
        assert (preflight.status in (200, 204), preflight.headers["access-control-allow-origin"]) == (True, ORIGIN)
        assert mesh.get(path, headers={"Origin": ORIGIN}).status == 302


CLIENTS = {"127.0.34.1": NAMESPACE, "127.0.34.2": "lab", "127.0.34.3": "empty"}


def test_a_name_alone_has_the_result_of_the_mesh_name_in_the_clients_namespace(start_mesh, start_upstream):
    """Also with several workers, if consumer routes need the namespaces, and if pods change."""
    lab = start_upstream("lab")
    consumer = write_route(
        "app",
        [write_rule({"name": "app", "namespace": NAMESPACE, "port": 80}, matches=[write_path("/own")])],
        namespace=NAMESPACE,
        parents=[{"group": "", "kind": "Service", "name": "app", "namespace": "lab"}],
    )
    objects = [
        *build_service("app", [(lab.address, lab.port)], namespace="lab"),
        *(build_pod("client", address, "default", namespace=namespace) for address, namespace in CLIENTS.items()),
        route([write_rule("app", matches=[write_path("/app")])]),
        consumer,
    ]
    mesh = start_mesh("--workers", 2, objects=objects)
    found = {}
    for client, namespace in CLIENTS.items():
        for path in ("/app", "/own", "/"):
            plain, named = (
                (answer.status, answer.text if answer.status == 200 else "")
                for answer in (mesh.get(path, host=host, client=client) for host in ("app", f"app.{namespace}.maesh"))
            )
            assert plain == named
            found[namespace, path] = plain[1]
    assert found == {
        **{(NAMESPACE, path): text for path, text in (("/app", "app-1"), ("/own", ""), ("/", ""))},
        **{("lab", path): "lab" for path in ("/app", "/own", "/")},
        **{("empty", path): "" for path in ("/app", "/own", "/")},
    }
    assert mesh.get("/app", host="app").status == 404
    moved = [each for each in objects if each["kind"] != "Pod"]
    mesh.manifests.write("more.json", [*moved, build_pod("client", "127.0.34.1", "default", namespace="lab")])
    mesh.wait_until(lambda: mesh.get("/app", host="app", client="127.0.34.1").text == "lab", "the new namespace")
    mesh.wait_until(lambda: mesh.get("/app", host="app", client="127.0.34.2").status == 404, "no pod at the address")
