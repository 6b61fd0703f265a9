"""Time-outs through a real mesh: of a server that is silent, and of one that stops in its response."""

import http.client
import socket
from typing import NamedTuple

import pytest

from maesh_testing import build_service, send_request
from maesh_testing.running_mesh import HOST

ANNOTATIONS = ("request-timeout", "backend-request-timeout")


class SilentServer(NamedTuple):
    """A socket that listens, so that the kernel accepts connections, and that nobody reads."""

    address: str
    port: int


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield SilentServer(*listener.getsockname())


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_a_silent_server_is_a_504(start_mesh, silent, annotation):
    mesh = start_mesh(annotations={annotation: "200ms"}, servers=[silent])
    answer = mesh.get()
    assert answer.status == 504
    assert "in time" in answer.headers["X-Maesh-Reason"]


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_a_response_that_does_not_end_is_cut(start_mesh, annotation):
    mesh = start_mesh(annotations={annotation: "200ms"})
    assert mesh.get().text == "app-1"
    mesh.upstreams[0].headers = {"Content-Length": "1000"}
    with pytest.raises((http.client.IncompleteRead, AssertionError)):
        assert send_request(mesh.http_port, HOST).status


def test_a_late_attempt_is_repeated_at_another_server(start_mesh, start_upstream, silent):
    annotations = {
        "request-timeout": "1m",
        "backend-request-timeout": "200ms",
        "retry-attempts": "2",
        "retry-on": "timeout",
    }
    mesh = start_mesh(annotations=annotations, servers=[silent, start_upstream("fast")])
    assert {mesh.get().text for _ in range(4)} == {"fast"}


def build_rule(path, **rule):
    return {"matches": [{"path": {"value": path}}], "backendRefs": [{"name": "app", "port": 80}], **rule}


def test_a_rule_has_time_outs_of_its_own_in_place_of_the_annotations(start_mesh, silent, start_upstream):
    rules = [
        build_rule("/request", timeouts={"request": "100ms"}),
        build_rule("/attempt", timeouts={"backendRequest": "100ms"}),
        build_rule("/wrong", timeouts={"request": "1s", "backendRequest": "2s"}),
        build_rule("/plain"),
    ]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": "test"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": rules},
    }
    mesh = start_mesh("--no-passive-health", servers=[silent], objects=[route], annotations={"request-timeout": "2s"})
    reasons = {path: mesh.get(path).headers["X-Maesh-Reason"] for path in ("/request", "/attempt", "/plain")}
    assert reasons["/request"] == reasons["/plain"] == "the request was not completed in time"
    assert reasons["/attempt"] == "the upstream did not respond in time"
    assert mesh.get("/wrong").status == 500
    fast = start_upstream("fast")
    mesh.manifests.write("app.json", build_service("app", [(fast.address, fast.port)]))
    mesh.wait_until(lambda: mesh.get("/attempt").text == "fast", "the other server")
