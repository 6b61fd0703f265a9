"""Redirects through a real mesh, by annotations and by the filters of a route."""

import pytest

from maesh_testing.running_mesh import HOST, NAMESPACE

pytestmark = pytest.mark.integration


def build_route(*rules):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": list(rules)},
    }


def redirect(prefix, **value):
    """Build a rule."""
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": value}],
    }


def test_annotations_redirect_a_service_and_no_server_is_asked(start_mesh):
    mesh = start_mesh(annotations={"redirect-scheme": "https", "redirect-status": "308"})
    answer = mesh.send("POST", "/a?b=c", body="x")
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{HOST}/a?b=c")
    assert answer.headers["X-Maesh-Reason"] == "the request is redirected"
    assert mesh.upstreams[0].count == 0
    mesh.set_annotations({"redirect-path": "/new", "redirect-prefix": "/old"})
    mesh.wait_until(lambda: mesh.get("/x").status == 200, "requests that are not redirected")
    assert mesh.get("/old/a").headers["Location"] == f"http://{HOST}/new/a"


def test_filters_redirect_the_requests_of_their_rules(start_mesh):
    rules = [
        redirect("/old", path={"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}),
        redirect("/all", path={"type": "ReplaceFullPath", "replaceFullPath": "/x"}, statusCode=301),
        redirect("/away", hostname="example.org", scheme="https", port=8443),
        redirect("/port", port=8083),
        redirect("/bad", path={"type": "ReplaceFullPath", "replaceFullPath": "//evil.example"}),
        {"backendRefs": [{"name": "app", "port": 80}]},
    ]
    mesh = start_mesh(objects=[build_route(*rules)])
    found = {path: mesh.get(path) for path in ("/old/a?b=c", "/old", "/all/a", "/away/a", "/port", "/older", "/bad")}
    assert {path: (answer.status, answer.headers["Location"]) for path, answer in found.items()} == {
        "/old/a?b=c": (302, f"http://{HOST}/new/a?b=c"),
        "/old": (302, f"http://{HOST}/new"),
        "/all/a": (301, f"http://{HOST}/x"),
        "/away/a": (302, "https://example.org:8443/away/a"),
        "/port": (302, f"http://{HOST}:8083/port"),
        "/older": (200, None),
        "/bad": (500, None),
    }
