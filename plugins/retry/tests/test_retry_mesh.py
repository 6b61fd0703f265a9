"""Retries of a route through a real mesh: by status, after lost connections and late attempts, and never too many."""

import socket
from typing import NamedTuple

import pytest

from maesh_testing import build_service, send_request
from maesh_testing.running_mesh import NAMESPACE


class SilentServer(NamedTuple):
    """A socket that listens, so that the kernel accepts connections, and that nobody reads."""

    address: str
    port: int


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield SilentServer(*listener.getsockname())


def build_route(**rule):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "app"}],
            "rules": [{"backendRefs": [{"name": "app", "port": 80}], **rule}],
        },
    }


def fail_first(upstream, failures, status=503):
    """Let a server answer its first requests with an error, counted from now."""
    record, end = upstream.record, upstream.count + failures

    def record_and_choose(request):
        record(request)
        upstream.status = 200 if upstream.count > end else status

    upstream.record = record_and_choose


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_that_recovers_within_the_retries_has_answered_and_otherwise_its_last_answer_counts(
    start_mesh, status
):
    codes = [500, 502, 503, 504]
    mesh = start_mesh(objects=[build_route(retry={"attempts": 3, "codes": codes, "backoff": "1ms"})])
    (server,) = mesh.upstreams
    fail_first(server, 3, status)
    assert mesh.get().status == 200
    assert server.count == 4
    fail_first(server, 4, status)
    assert mesh.get().status == status
    assert server.count == 8


def test_a_status_that_is_not_listed_and_a_method_that_is_not_idempotent_are_not_retried(start_mesh):
    mesh = start_mesh(objects=[build_route(retry={"attempts": 3, "codes": [503]})])
    (server,) = mesh.upstreams
    server.status = 500
    assert mesh.get().status == 500
    server.status = 503
    assert mesh.send("POST", body=b"order").status == 503
    assert server.count == 2


def test_without_the_field_the_annotations_apply_and_with_it_they_do_not(start_mesh):
    plain = {"matches": [{"path": {"value": "/plain"}}], "backendRefs": [{"name": "app", "port": 80}]}
    route = build_route(retry={"attempts": 1, "codes": [500]})
    route["spec"]["rules"].append(plain)
    annotations = {"retry-attempts": "3", "retry-on": "503"}
    mesh = start_mesh(objects=[route], annotations=annotations)
    (server,) = mesh.upstreams
    server.status = 503
    assert mesh.get("/plain").status == mesh.get("/other").status == 503
    assert server.count == 3 + 1


def test_refused_connections_and_late_attempts_are_retried_without_codes(start_mesh, start_upstream, silent):
    rule = {"retry": {"attempts": 1}, "timeouts": {"request": "1m", "backendRequest": "2s"}}
    mesh = start_mesh("--no-passive-health", servers=[silent, start_upstream("fast")], objects=[build_route(**rule)])
    assert {mesh.get().text for _ in range(4)} == {"fast"}
    closed = start_upstream("closed")
    closed.close()
    mesh.manifests.write(
        "app.json", build_service("app", [(each.address, each.port) for each in (closed, mesh.upstreams[1])])
    )
    mesh.wait_until(
        lambda: str(closed.port) in send_request(mesh.admin_port, path="/configuration").text, "the closed server"
    )
    assert {mesh.get().text for _ in range(4)} == {"fast"}


def test_no_attempt_outlasts_the_time_out_of_the_request(start_mesh, silent):
    rule = {"retry": {"attempts": 50, "backoff": "50ms"}, "timeouts": {"request": "300ms", "backendRequest": "100ms"}}
    mesh = start_mesh(servers=[silent], objects=[build_route(**rule)])
    answer = mesh.get()
    assert answer.status == 504
    assert "in time" in answer.headers["X-Maesh-Reason"]


@pytest.mark.parametrize("annotation", ["retry-budget", "80.retry-budget"])
def test_the_retries_of_a_rule_stay_within_the_budget_of_the_service(start_mesh, annotation):
    route = build_route(retry={"attempts": 5, "codes": [503]})
    mesh = start_mesh("--workers", 1, annotations={annotation: "50"}, objects=[route])
    (server,) = mesh.upstreams
    server.status = 503
    assert [mesh.get().status for _ in range(10)] == [503] * 10
    assert server.count == 15
