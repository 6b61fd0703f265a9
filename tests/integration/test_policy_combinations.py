"""Policies together on one service, in a real mesh: what clients get, and what servers see of a request."""

from importlib.metadata import entry_points

import pytest

from maesh_testing import build_pod

pytestmark = pytest.mark.integration

CLIENT, SERVER = "127.0.1.1", "127.0.2.1"
ORIGIN = "https://shop.example"


@pytest.fixture(autouse=True)
def installed():
    for name in ("headers", "redirect", "rewrite", "cors", "fault", "retry", "ratelimit", "timeout", "acl"):
        if not entry_points(group="maesh.plugins", name=name):
            pytest.skip(f"the plugin {name} is not installed")


def test_every_attempt_sends_the_changed_request_and_the_client_gets_one_changed_response(start_mesh):
    annotations = {
        "retry-attempts": "3",
        "retry-on": "503",
        "request-headers": "add X-Team=payments",
        "response-headers": "add X-Mesh=maesh",
        "rewrite-prefix": "/api",
    }
    mesh = start_mesh(annotations=annotations)
    mesh.upstreams[0].status = 503
    answer = mesh.get("/api/a")
    assert (answer.status, answer.headers["X-Mesh"]) == (503, "maesh")
    sent = [(request.path, request.headers["x-team"]) for request in mesh.upstreams[0].requests]
    assert sent == [("/a", "payments")] * 3


def test_what_a_middleware_answers_is_neither_retried_nor_changed(start_mesh):
    annotations = {
        "retry-attempts": "3",
        "retry-on": "5xx",
        "response-headers": "set X-Mesh=maesh",
        "redirect-prefix": "/old",
        "cors-allow-origins": ORIGIN,
        "fault-abort": "500",
    }
    mesh = start_mesh("--fault", annotations=annotations)
    preflight = mesh.send("OPTIONS", "/old", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"})
    answers = [preflight, mesh.get("/old")]
    assert [(answer.status, answer.headers["X-Mesh"]) for answer in answers] == [(204, None), (500, None)]
    mesh.set_annotations({**annotations, "fault-abort-percent": "0"})
    mesh.wait_until(lambda: mesh.get("/old/a").status == 302, "a redirect")
    assert mesh.upstreams[0].count == 0


def test_a_limit_counts_requests_that_are_redirected_and_preflight_requests(start_mesh):
    limit = {"ratelimit-average": "2", "ratelimit-period": "1h"}
    mesh = start_mesh("--workers", "1", annotations={**limit, "redirect-scheme": "https", "cors-allow-origins": "*"})
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    assert [mesh.send("OPTIONS", headers=headers).status, mesh.get().status, mesh.get().status] == [204, 302, 429]


def test_an_injected_delay_is_no_part_of_a_time_out(start_mesh):
    annotations = {"fault-delay": "600ms", "request-timeout": "500ms", "backend-request-timeout": "400ms"}
    mesh = start_mesh("--fault", annotations=annotations)
    assert mesh.get().text == "app-1"


def build_access(path):
    """Build a client's pod, and what allows it to send requests whose path begins with a prefix."""
    group = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "api", "namespace": "test"},
        "spec": {"matches": [{"name": "paths", "pathRegex": path, "methods": ["*"]}]},
    }
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": "open", "namespace": "test"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "server", "namespace": "test"},
            "sources": [{"kind": "ServiceAccount", "name": "caller", "namespace": "test"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "api", "matches": ["paths"]}],
        },
    }
    return [build_pod("client", CLIENT, "caller"), group, target]


def test_a_rewrite_gives_no_access_to_another_path(start_mesh, start_upstream):
    server = start_upstream("app-1", SERVER)
    annotations = {"rewrite-prefix": "/public/admin", "rewrite-path": "/admin"}
    objects = build_access("/public(/.*)?")
    mesh = start_mesh("--acl", servers=[server], account="server", objects=objects, annotations=annotations)
    assert mesh.get("/public/a", client=CLIENT).status == 200
    assert mesh.get("/public/admin/a", client=CLIENT).status == 403
    assert mesh.get("/admin/a", client=CLIENT).status == 403
    assert [request.path for request in server.requests] == ["/public/a"]


def test_access_control_refuses_before_a_request_is_redirected(start_mesh, start_upstream):
    server = start_upstream("app-1", SERVER)
    objects, annotations = build_access("/a"), {"redirect-scheme": "https"}
    mesh = start_mesh("--acl", servers=[server], account="server", objects=objects, annotations=annotations)
    assert mesh.get("/a", client=CLIENT).status == 302
    assert mesh.get("/b", client=CLIENT).status == 403
    assert mesh.get("/a").status == 403
