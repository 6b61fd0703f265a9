"""Changed headers through a real mesh, by annotations and by the filters of a route."""

import pytest

from maesh_testing import build_service, send_request
from maesh_testing.running_mesh import NAMESPACE

pytestmark = pytest.mark.integration


def build_route(*rules):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": list(rules)},
    }


def modify(message, **changes):
    """Build a filter."""
    name = f"{message}HeaderModifier"
    return {"type": name[:1].upper() + name[1:], name: changes}


def fields(**values):
    return [{"name": f"X-{name}", "value": value} for name, value in values.items()]


def test_annotations_change_requests_and_responses(start_mesh):
    annotations = {"request-headers": "set X-A=1\nadd X-B=2\nremove X-C", "response-headers": "set X-D=4\nremove X-E"}
    mesh = start_mesh(annotations=annotations)
    mesh.upstreams[0].headers = {"X-D": "0", "X-E": "0", "X-F": "0"}
    answer = mesh.get("/headers", headers={"x-a": "0", "X-C": "0", "X-G": "0"})
    sent = {name: value for name, value in answer.json.items() if name.startswith("x-") and len(name) == 3}
    assert sent == {"x-a": "1", "x-b": "2", "x-g": "0"}
    assert [answer.headers[f"X-{name}"] for name in "DEF"] == ["4", None, "0"]


def test_what_the_mesh_itself_answers_is_not_changed(start_mesh):
    mesh = start_mesh("--no-passive-health", annotations={"response-headers": "set X-A=1"})
    mesh.upstreams[0].close()
    answer = mesh.get()
    assert (answer.status, answer.headers["X-A"]) == (502, None)


def test_filters_of_a_rule_and_of_its_backends_change_their_own_requests(start_mesh, start_upstream):
    other = start_upstream("other")
    filters = [modify("request", set=fields(Rule="yes")), modify("response", add=fields(Rule="yes"))]
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/headers"}}],
        "filters": filters,
        "backendRefs": [
            {"name": "other", "port": 80, "filters": [modify("request", set=fields(Backend="yes"), remove=["X-Gone"])]}
        ],
    }
    plain = {"backendRefs": [{"name": "app", "port": 80}]}
    objects = [*build_service("other", [(other.address, other.port)]), build_route(rule, plain)]
    mesh = start_mesh(objects=objects, annotations={"request-headers": "set X-Service=yes"})
    answer = mesh.get("/headers", headers={"X-Gone": "1", "X-Kept": "1"})
    sent = {name for name in answer.json if name in ("x-service", "x-rule", "x-backend", "x-gone", "x-kept")}
    assert sent == {"x-service", "x-rule", "x-backend", "x-kept"}
    assert answer.headers["X-Rule"] == "yes"
    mesh.get("/plain")
    assert {"x-rule", "x-backend"} & mesh.upstreams[0].requests[-1].headers.keys() == set()


def test_a_filter_that_cannot_be_built_closes_its_rule_alone(start_mesh):
    bad = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/bad"}}],
        "filters": [modify("request", set=[{"name": "Content-Length", "value": "0"}])],
        "backendRefs": [{"name": "app", "port": 80}],
    }
    mesh = start_mesh(objects=[build_route(bad, {"backendRefs": [{"name": "app", "port": 80}]})])
    assert mesh.get("/bad").status == 500
    assert mesh.get("/good").text == "app-1"
    shown = [each for each in send_request(mesh.api_port, path="/api/objects").json if each["kind"] == "HTTPRoute"]
    assert "'Content-Length' is a header that the mesh itself sets" in "\n".join(shown[0]["errors"])
