"""Access control with encryption, as processes: both nodes enforce it, and the server's node trusts no sender."""

import asyncio

import msgspec
import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.proxy.transport import MtlsTransport
from maesh_mtls.wire import NodeEntry

from maesh_core.plugin import Delivery, RemoteServer
from maesh_testing import FakeNode, build_pod

from .certificates import make_credentials, make_signer, write_signer
from .recorder import Recorder, wait_until
from .two_nodes import HOST, RECEIVER, TwoNodes

pytestmark = pytest.mark.integration
CLIENT, ELSEWHERE, UNKNOWN = "127.0.11.8", "127.0.11.9", "127.0.11.10"


def build_access():
    """A client on the sender's node that may GET /open, and a pod of the same account on the receiver's."""
    pods = []
    for name, address, account, node in (
        ("client", CLIENT, "web", "sender"),
        ("elsewhere", ELSEWHERE, "web", "receiver"),
        ("server", "", "server", "receiver"),
    ):
        pod = build_pod(name, address, account, namespace="shop")
        pod["spec"]["nodeName"] = node
        pods.append(pod)
    group = {
        "apiVersion": "specs.smi-spec.io/v1alpha3",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "routes", "namespace": "shop"},
        "spec": {"matches": [{"name": "open", "pathRegex": "/open", "methods": ["GET"]}]},
    }
    owner = {"kind": "ServiceAccount", "namespace": "shop"}
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha2",
        "kind": "TrafficTarget",
        "metadata": {"name": "target", "namespace": "shop"},
        "spec": {
            "destination": {**owner, "name": "server"},
            "sources": [{**owner, "name": "web"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["open"]}],
        },
    }
    return pods, [group, target]


@pytest.fixture
def signer():
    return make_signer()


@pytest.fixture
def nodes(start_maesh, start_upstream, tmp_path, signer):
    folder = tmp_path / "nodes"
    (folder / "ca").mkdir(parents=True)
    write_signer(folder / "ca", signer)
    nodes = TwoNodes(start_maesh, start_upstream("ok"), folder)
    pods, rules = build_access()
    pods[-1]["status"]["podIP"] = nodes.upstream.address
    nodes.write("strict", receiver=RECEIVER, others=[*pods, *rules])
    nodes.start_controller("--acl")
    for node in ("sender", "receiver"):
        nodes.start_proxy(node, "--acl")
        nodes.wait_for_certificate(node)
    return nodes


def test_a_request_is_judged_on_both_nodes_whether_its_host_has_a_namespace_or_not(nodes):
    for host in (HOST, "web", "WEB:80"):
        assert nodes.get("/open", client=CLIENT, headers={"Host": host}).status == 200
        assert nodes.get("/secret", client=CLIENT, headers={"Host": host}).status == 403
    assert nodes.get("/open", client=UNKNOWN).status == 403
    assert nodes.get("/open", client=UNKNOWN, headers={"Host": "web"}).status == 404
    assert nodes.upstream.count == 3
    assert nodes.read_metric("sender", "maesh_transport_requests_total") == 3
    assert nodes.read_metric("receiver", "maesh_transport_requests_total") == 0


def test_a_sender_with_a_valid_certificate_cannot_go_around_the_rules(nodes, signer):
    async def attack(client, *requests):
        node = FakeNode()
        transport = MtlsTransport(node, MtlsSettings())
        transport.receive(msgspec.json.encode(make_credentials(signer, "sender")))
        entry = NodeEntry(
            addresses=(RECEIVER,),
            port=nodes.ports["tunnel"],
            identity="spiffe://cluster.local/maesh/node/receiver",
        )
        transport.apply_nodes({"receiver": entry}, {})
        address, port = nodes.upstream.address, nodes.upstream.port
        recorder = Recorder()
        try:
            path = transport.find_path(RemoteServer(address, port, "receiver"), "strict")
            path.open(Delivery(address, port, "shop/web:80", client), recorder)
            await wait_until(recorder.seen.is_set)
            if recorder.failure is not None:
                return recorder.failure.status
            recorder.transport.write(b"".join(requests))
            await wait_until(lambda: recorder.lost or recorder.data.count(b"HTTP/1.1 ") >= len(requests))
            return [int(answer[:3]) for answer in bytes(recorder.data).split(b"HTTP/1.1 ")[1:]]
        finally:
            transport.abort()
            await asyncio.sleep(0)
            node.close()

    def build(path, fields=b""):
        return b"GET %b HTTP/1.1\r\nHost: web.shop.maesh\r\n%b\r\n" % (path, fields)

    run = asyncio.run
    assert run(attack(CLIENT, build(b"/open"), build(b"/secret"), build(b"/open"))) == [200, 403, 200]
    assert run(attack(CLIENT, build(b"/secret", b"X-Forwarded-For: 127.0.11.8\r\n"))) == [403]
    assert run(attack(CLIENT, build(b"/open/../secret"))) == [403]
    assert run(attack(ELSEWHERE, build(b"/open"))) == 403, "the client is on another node"
    assert run(attack("", build(b"/open"))) == 403, "without a client"
    assert [request.path for request in nodes.upstream.requests] == ["/open"] * 2
