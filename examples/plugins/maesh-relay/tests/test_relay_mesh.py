"""Two proxies as processes: what one node sends to a server of the other passes the other's proxy, or is refused."""

import pytest

from maesh_testing import build_pod

from .relay_nodes import RelayNodes

CLIENT, ELSEWHERE = "127.0.13.8", "127.0.13.9"
PATHS = 'maesh_transport_connections_total{path="%s".*}'


@pytest.fixture
def nodes(start_maesh, start_upstream, tmp_path):
    return RelayNodes(start_maesh, start_upstream("web"), tmp_path / "nodes")


def test_a_strict_service_is_reached_through_the_proxy_of_its_node(nodes):
    nodes.write("strict")
    nodes.start()
    assert [nodes.get().text for _ in range(3)] == ["web"] * 3
    assert nodes.read_metric("a", PATHS % "encrypted") == 1
    assert nodes.read_metric("b", "maesh_relay_connections") == 1
    nodes.write("off")
    nodes.wait_for_mode("off")
    assert nodes.get().text == "web"


def test_nodes_with_different_secrets_reach_strict_services_of_each_other_not_at_all(nodes):
    (nodes.folder / "other").write_text("t" * 32)
    nodes.write("strict")
    nodes.start(secrets=("other", "secret"))
    answer = nodes.get()
    assert answer.status == 503
    assert answer.headers["X-Maesh-Reason"].startswith("encryption is required: no tunnel to node b")
    assert nodes.upstream.count == 0
    nodes.write("permissive")
    nodes.wait_for_mode("permissive")
    assert nodes.get().text == "web"


def build_access():
    """A client on node `a` that may send requests for /open, and one of the same account on node `b`."""
    pods = []
    for name, address, account, node in (
        ("client", CLIENT, "web", "a"),
        ("elsewhere", ELSEWHERE, "web", "b"),
        ("server", "", "server", "b"),
    ):
        pod = build_pod(name, address, account, namespace="shop")
        pod["spec"]["nodeName"] = node
        pods.append(pod)
    owner = {"kind": "ServiceAccount", "namespace": "shop"}
    return [
        *pods,
        {
            "apiVersion": "specs.smi-spec.io/v1alpha3",
            "kind": "HTTPRouteGroup",
            "metadata": {"name": "routes", "namespace": "shop"},
            "spec": {"matches": [{"name": "open", "pathRegex": "/open", "methods": ["GET"]}]},
        },
        {
            "apiVersion": "access.smi-spec.io/v1alpha2",
            "kind": "TrafficTarget",
            "metadata": {"name": "target", "namespace": "shop"},
            "spec": {
                "destination": {**owner, "name": "server"},
                "sources": [{**owner, "name": "web"}],
                "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["open"]}],
            },
        },
    ]


def test_the_server_s_node_judges_each_request_by_the_client_that_it_comes_from(nodes):
    objects = build_access()
    objects[2]["status"]["podIP"] = nodes.upstream.address
    nodes.write("strict", others=objects)
    nodes.start("--acl")
    assert [nodes.get(path, client=CLIENT).status for path in ("/open", "/secret", "/open")] == [200, 403, 200]
    assert nodes.get("/open", client=ELSEWHERE).status == 403, "it is not on the node that sends"
    assert [request.path for request in nodes.upstream.requests] == ["/open"] * 2
    assert nodes.read_metric("b", "maesh_relay_connections") == 1
