"""Nodes and credentials in, paths out, with an engine that records what it is asked."""

import asyncio
import logging

import msgspec
import pytest
from maesh_mtls import MtlsSettings
from maesh_mtls.proxy.transport import MtlsTransport
from maesh_mtls.wire import NodeEntry

from maesh_core.plugin import Delivery, PathRefusedError, Peer, RemoteServer

from .certificates import make_credentials, make_signer
from .handshakes import shake_hands

SIGNER = make_signer()
CREDENTIALS = make_credentials(SIGNER, "n1")
PAYLOAD = msgspec.json.encode(CREDENTIALS)
SERVER = RemoteServer("10.1.0.9", 80, "n2")
DELIVERY = Delivery(address="10.1.0.9", port=80, service="shop/web:80")


def build_entry(name, *addresses, revoked=()):
    identity = f"spiffe://cluster.local/maesh/node/{name}"
    return NodeEntry(addresses=addresses or ("10.0.0.2",), port=15008, identity=identity, revoked=revoked)


class RecordingTunnels:
    def __init__(self, rules):
        self.rules, self.contexts, self.opened, self.dropped = rules, [], [], []
        self.trusts_less = []

    def use(self, client, server, *, trusts_less=False):
        self.contexts.append((client, server))
        self.trusts_less.append(trusts_less)

    def open(self, peer, delivery, protocol):
        self.opened.append((peer, delivery, protocol))
        return "opening"

    def drop(self, node):
        self.dropped.append(node)

    def collect_metrics(self):
        return ()


class Worker:
    def build_tunnels(self, rules):
        self.tunnels = RecordingTunnels(rules)
        return self.tunnels

    async def judge_delivery(self, node, delivery):
        return None


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def now():
    return [CREDENTIALS.not_after - 3600]


@pytest.fixture
async def transport(worker, now):
    made = MtlsTransport(worker, MtlsSettings(), now=lambda: now[0])
    made.apply_nodes({"n2": build_entry("n2")}, {})
    return made


def find(transport, mode, node="n2"):
    """Find a path; returns it, None for a connection in clear, or the reason of a refusal."""
    try:
        return transport.find_path(SERVER._replace(node=node), mode)
    except PathRefusedError as error:
        return str(error)


async def test_the_path_to_a_node_opens_its_tunnel(transport, worker):
    transport.receive(PAYLOAD)
    path = find(transport, "strict")
    assert path.open(DELIVERY, "protocol") == "opening"
    peer = Peer("n2", ("10.0.0.2",), 15008, "spiffe://cluster.local/maesh/node/n2")
    assert worker.tunnels.opened == [(peer, DELIVERY, "protocol")]


async def test_the_contexts_of_the_credentials_are_used(transport, worker):
    transport.receive(PAYLOAD)
    ((client, server),) = worker.tunnels.contexts
    shake_hands(client, server)


async def test_a_node_that_takes_no_part_is_reached_in_clear_or_not_at_all(transport):
    transport.receive(PAYLOAD)
    assert find(transport, "permissive", "n9") is None
    assert find(transport, "strict", "n9") == "the server's node n9 has no tunnel"


async def test_without_a_certificate_nodes_are_reached_in_clear_or_not_at_all(transport):
    assert find(transport, "permissive") is None
    assert find(transport, "strict") == "this node has no valid certificate"


async def test_the_last_certificate_serves_until_it_ends(transport, now):
    transport.receive(PAYLOAD)
    now[0] = CREDENTIALS.not_after - 1
    assert find(transport, "strict") is find(transport, "permissive") is not None
    now[0] = CREDENTIALS.not_after
    assert find(transport, "permissive") is None
    assert find(transport, "strict") == "this node has no valid certificate"


async def test_the_engine_learns_that_an_authority_is_not_trusted_any_more(transport, worker):
    both = msgspec.structs.replace(CREDENTIALS, bundle=CREDENTIALS.bundle + make_signer().bundle)
    for credentials in (CREDENTIALS, both, both, CREDENTIALS, CREDENTIALS):
        transport.receive(msgspec.json.encode(credentials))
    assert worker.tunnels.trusts_less == [False, False, False, True, False]


async def test_connections_that_are_kept_are_replaced_when_the_certificate_ends(transport, worker, now):
    now[0] = CREDENTIALS.not_after
    transport.receive(PAYLOAD)
    transport.receive(PAYLOAD)
    assert len(worker.tunnels.contexts) == 2
    await asyncio.sleep(0.01)
    assert len(worker.tunnels.contexts) == 3, "once, for the last credentials"
    assert worker.tunnels.contexts[1] == worker.tunnels.contexts[2]


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"\xff", msgspec.json.encode(msgspec.structs.replace(CREDENTIALS, chain="x")), PAYLOAD[:-1]],
)
async def test_credentials_that_cannot_be_used_change_nothing(transport, worker, caplog, payload):
    caplog.set_level(logging.ERROR)
    transport.receive(PAYLOAD)
    transport.receive(payload)
    assert len(worker.tunnels.contexts) == 1
    assert not isinstance(find(transport, "strict"), str)
    assert "cannot be used" in caplog.text
    assert "PRIVATE KEY" not in caplog.text


async def test_connections_of_a_node_that_is_gone_are_reset(transport, worker):
    transport.apply_nodes({"n3": build_entry("n3")}, {})
    assert worker.tunnels.dropped == ["n2"]
    transport.receive(PAYLOAD)
    assert find(transport, "strict") == "the server's node n2 has no tunnel"


async def test_connections_of_a_node_that_has_lost_a_certificate_are_reset_once(transport, worker):
    revoked = {"n2": build_entry("n2", revoked=("0A",))}
    transport.apply_nodes(revoked, {})
    transport.apply_nodes(revoked, {})
    assert worker.tunnels.dropped == ["n2"]


async def test_connections_stay_while_a_node_only_gets_another_address(transport, worker):
    transport.receive(PAYLOAD)
    before = find(transport, "strict")
    transport.apply_nodes({"n2": build_entry("n2", "10.0.0.3"), "n3": build_entry("n3")}, {})
    assert worker.tunnels.dropped == []
    find(transport, "strict").open(DELIVERY, None)
    assert worker.tunnels.opened[0][0].addresses == ("10.0.0.3",)
    assert find(transport, "strict") is not before


async def test_the_rules_of_the_engine_know_the_nodes(transport, worker):
    certificate = {"subjectAltName": (("URI", "spiffe://cluster.local/maesh/node/n2"),), "serialNumber": "01"}
    certificate["notAfter"] = "Nov 29 12:00:00 2036 GMT"
    assert worker.tunnels.rules.find_identity(certificate, "192.0.2.1") == "n2"
    transport.apply_nodes({}, {})
    assert worker.tunnels.rules.find_identity(certificate, "192.0.2.1") is None
