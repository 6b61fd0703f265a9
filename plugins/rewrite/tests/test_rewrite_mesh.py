"""Rewritten requests through a real mesh, by annotations and by the filters of a route."""

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


def rewrite(prefix, *, backend=None, **value):
    """Build a rule."""
    filters = [{"type": "URLRewrite", "urlRewrite": backend}] if backend else []
    return {
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "filters": [{"type": "URLRewrite", "urlRewrite": value}] if value else [],
        "backendRefs": [{"name": "app", "port": 80, "filters": filters}],
    }


def find_sent(mesh, path):
    """Return the path and the host that the server got."""
    assert mesh.get(path).status == 200
    request = mesh.upstreams[0].requests[-1]
    assert request.headers["x-forwarded-host"] == HOST
    return request.path, request.headers["host"]


def test_annotations_change_what_servers_get(start_mesh):
    mesh = start_mesh(annotations={"rewrite-host": "a.internal", "rewrite-prefix": "/api", "rewrite-path": "/v2"})
    assert find_sent(mesh, "/api/items?page=2") == ("/v2/items?page=2", "a.internal")
    assert find_sent(mesh, "/other") == ("/other", "a.internal")
    refused = mesh.get("/api/../admin")
    assert (refused.status, refused.headers["X-Maesh-Reason"]) == (403, "the path is ambiguous")


def test_filters_change_the_requests_of_their_rules(start_mesh):
    prefix = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    rules = [
        rewrite("/strip", path=prefix),
        rewrite("/all", path={"type": "ReplaceFullPath", "replaceFullPath": "/x"}, hostname="a.internal"),
        rewrite("/backend", backend={"hostname": "b.internal"}, path=prefix, hostname="a.internal"),
        rewrite("/"),
    ]
    mesh = start_mesh(objects=[build_route(*rules)])
    paths = ("/strip", "/strip/a?b=c", "/stripped", "/all/a", "/backend/a")
    assert {path: find_sent(mesh, path) for path in paths} == {
        "/strip": ("/", HOST),
        "/strip/a?b=c": ("/a?b=c", HOST),
        "/stripped": ("/stripped", HOST),
        "/all/a": ("/x", "a.internal"),
        "/backend/a": ("/a", "b.internal"),
    }
