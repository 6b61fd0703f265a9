"""Rules of routes with encryption and access control: both nodes judge what is sent to a backend that rules share."""

import pytest

from maesh_testing import wait_until

from .certificates import make_signer, write_signer
from .test_mtls_guards import CLIENT, build_access
from .two_nodes import RECEIVER, TwoNodes

pytestmark = pytest.mark.integration


def build_route():
    """Build a route whose rules share the backend `v1`; one of them changes the path, and one copies requests to it."""

    def build_rule(prefix, **fields):
        matches = [{"path": {"type": "PathPrefix", "value": prefix}}]
        return {"matches": matches, "backendRefs": [{"name": "v1", "port": 80}], **fields}

    path = {"type": "ReplaceFullPath", "replaceFullPath": "/secret"}
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": path}}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v1", "port": 80}}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
            "rules": [
                build_rule("/open/changed", filters=[rewrite]),
                build_rule("/open/copied", filters=[mirror]),
                build_rule("/open"),
                build_rule("/secret"),
            ],
        },
    }


@pytest.fixture
def nodes(start_maesh, start_upstream, tmp_path):
    folder = tmp_path / "nodes"
    (folder / "ca").mkdir(parents=True)
    write_signer(folder / "ca", make_signer())
    nodes = TwoNodes(start_maesh, start_upstream("ok"), folder)
    pods, rules = build_access()
    pods[-1]["status"]["podIP"] = nodes.upstream.address
    backend = nodes._build_service("v1", "strict", "http")
    nodes.write("strict", receiver=RECEIVER, others=[*pods, *rules, *backend, build_route()])
    nodes.start_controller("--acl")
    for node in ("sender", "receiver"):
        nodes.start_proxy(node, "--acl")
        nodes.wait_for_certificate(node)
    return nodes


def test_requests_of_rules_are_encrypted_and_judged_as_they_are_sent(nodes):
    assert [nodes.get("/open", client=CLIENT).status for _ in range(3)] == [200] * 3
    assert nodes.read_metric("sender", "maesh_transport_requests_total") == 3
    refused = [nodes.get(path, client=CLIENT).status for path in ("/secret", "/open/changed", "/other")]
    assert refused == [403, 403, 404]
    assert [request.path for request in nodes.upstream.requests] == ["/open"] * 3


def test_copies_are_encrypted_and_judged_by_both_nodes(nodes):
    assert nodes.get("/open/copied", client=CLIENT).status == 200
    wait_until(lambda: nodes.upstream.count == 2, "the request and its copy")
    assert [request.path for request in nodes.upstream.requests] == ["/open/copied"] * 2
    wait_until(lambda: nodes.read_metric("sender", "maesh_service_copies_total") == 1, "the metric of copies")
    assert nodes.read_metric("sender", "maesh_transport_requests_total") == 1
