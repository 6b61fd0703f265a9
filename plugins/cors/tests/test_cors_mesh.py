"""Pages of other origins through a real mesh, by annotations and by the filter of a route."""

import pytest

from maesh_testing.running_mesh import NAMESPACE

pytestmark = pytest.mark.integration

ORIGIN, EVIL = "https://shop.example", "https://evil.example"


def build_route(*rules):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": list(rules)},
    }


def preflight(mesh, path="/", origin=ORIGIN):
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    answer = mesh.send("OPTIONS", path, headers=headers)
    return answer.status, answer.headers["Access-Control-Allow-Origin"], answer.headers["Access-Control-Allow-Methods"]


def check_policy(mesh, path):
    count = mesh.upstreams[0].count
    assert preflight(mesh, path) == (204, ORIGIN, "GET, PUT")
    assert preflight(mesh, path, EVIL) == (403, None, None)
    assert mesh.upstreams[0].count == count
    mesh.upstreams[0].headers = {"Access-Control-Allow-Origin": "*"}
    found = [mesh.get(path, headers={"Origin": origin}) for origin in (ORIGIN, EVIL)]
    assert [answer.text for answer in found] == ["app-1", "app-1"]
    assert [answer.headers["Access-Control-Allow-Origin"] for answer in found] == [ORIGIN, None]
    assert [answer.headers["Vary"] for answer in found] == ["Origin", "Origin"]


def test_annotations_allow_pages_of_an_origin(start_mesh):
    mesh = start_mesh(annotations={"cors-allow-origins": ORIGIN, "cors-allow-methods": "GET, PUT"})
    check_policy(mesh, "/")
    assert mesh.send("OPTIONS", "/").text == "app-1"


def test_a_filter_allows_them_for_its_rule_alone(start_mesh):
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/open"}}],
            "filters": [{"type": "CORS", "cors": {"allowOrigins": [ORIGIN], "allowMethods": ["GET", "PUT"]}}],
            "backendRefs": [{"name": "app", "port": 80}],
        },
        {"backendRefs": [{"name": "app", "port": 80}]},
    ]
    mesh = start_mesh(objects=[build_route(*rules)])
    assert preflight(mesh, "/closed") == (200, None, None)
    check_policy(mesh, "/open/a")
