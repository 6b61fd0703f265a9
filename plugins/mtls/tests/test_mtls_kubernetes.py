"""Controllers and proxies as processes, with an API server: nodes are proven by their pods' tokens, and nothing else.

Two controllers share the authority of the Secret that one of them makes.
"""

import base64

import pytest
from cryptography import x509

from .clusters import NAMESPACE
from .two_nodes import ADDRESSES, MARKER

pytestmark = pytest.mark.integration


@pytest.fixture
def nodes(cluster_nodes):
    return cluster_nodes


def test_proxies_enrol_with_their_pods_tokens_and_encrypt(nodes, relay):
    nodes.write("strict")
    nodes.start_controller()
    nodes.start_controller(api="other-api")
    nodes.commands["controller-api"].wait_until(
        lambda: nodes.server.find("configmaps", "maesh-trust", NAMESPACE), "the ConfigMap"
    )
    bundle = nodes.server.get("configmaps", "maesh-trust", NAMESPACE)["data"]["bundle.pem"]
    secret = nodes.server.get("secrets", "maesh-ca", NAMESPACE)
    (authority,) = x509.load_pem_x509_certificates(bundle.encode())
    assert base64.b64decode(secret["data"]["tls.crt"]).decode() == bundle
    (nodes.folder / "bundle.pem").write_text(bundle)
    trust = ("--set", f"mtls.trust={nodes.folder / 'bundle.pem'}")
    nodes.start_proxy("sender", *trust, token=nodes.issue("sender"))
    endpoint = ("--endpoint", f"http://127.0.0.1:{nodes.ports['other-api']}")
    nodes.start_proxy("receiver", *trust, *endpoint, token=nodes.issue("receiver"))
    for node in ADDRESSES:
        nodes.wait_for_certificate(node)
    nodes.wait_for_mode("strict")
    answer = nodes.commands["sender"].wait_until(
        lambda: found if (found := nodes.get(f"/{MARKER}")).status == 200 else None, "an answer"
    )
    assert answer.text == MARKER
    assert MARKER.encode() not in relay.recorded
    assert nodes.read_metric("sender", "maesh_tunnels") == 1
    assert nodes.read_problems() == {}
    assert authority.subject.rfc4514_string() == "CN=Maesh certificate authority"
    reviews = [call for call in nodes.server.calls if call.resource == "tokenreviews"]
    assert len(reviews) >= 2


def test_a_stolen_token_of_another_pod_gets_no_certificate(nodes, relay):
    nodes.write("strict")
    nodes.start_controller()
    nodes.start_proxy("receiver", token=nodes.issue("receiver"))
    nodes.wait_for_certificate("receiver")
    nodes.start_proxy("sender", token=nodes.issue("receiver"))
    report = nodes.wait_for_certificate("sender", "none")
    assert "the token's pod is on another node" in report["problem"]
    assert nodes.count_refusals("node") >= 1
    assert nodes.get().status == 503
    assert nodes.upstream.count == 0
    # the kubelet writes the right token, which the next attempt reads
    (nodes.folder / "token-sender").write_text(nodes.issue("sender"))
    nodes.wait_for_certificate("sender")


def test_while_the_api_server_is_away_no_certificate_is_signed(nodes):
    nodes.write("strict")
    nodes.start_controller()
    token = nodes.issue("sender")
    nodes.server.stop_listening()
    nodes.start_proxy("sender", token=token)
    report = nodes.wait_for_certificate("sender", "none")
    assert "the controller cannot check tokens" in report["problem"]
    assert nodes.count_refusals("api-server") >= 1
    nodes.server.resume()
    nodes.wait_for_certificate("sender")
