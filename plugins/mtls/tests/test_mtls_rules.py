"""Certificates and deliveries in, decisions out: with certificates from real handshakes."""

import asyncio

import pytest
from maesh_mtls.proxy import directory as directory_module
from maesh_mtls.proxy.contexts import build_contexts
from maesh_mtls.proxy.directory import WAITING_LIMIT, WAITING_LIMIT_PER_NODE, Directory
from maesh_mtls.proxy.rules import MtlsTunnelRules
from maesh_mtls.wire import NodeEntry

from maesh_core.plugin import ByRequest, ClientEntry, Delivery, Refusal

from .certificates import make_credentials, make_leaf, make_signer
from .handshakes import shake_hands

SIGNER = make_signer()
SERVER = build_contexts(make_credentials(SIGNER, "receiver")).server
PREFIX = "spiffe://cluster.local/maesh/node/"
ADDRESS = "10.0.0.1"


def build_entry(name, *, addresses=(ADDRESS,), revoked=()):
    return NodeEntry(addresses=addresses, port=15008, identity=f"{PREFIX}{name}", revoked=revoked)


NODES = {name: build_entry(name) for name in ("n1", "n2")}
CLIENTS = {"10.1.0.1": ClientEntry("n1", "web@shop"), "10.1.0.2": ClientEntry("n2", "web@shop")}


def connect(credentials):
    """Connect with credentials; returns the certificate as the receiver sees it."""
    _, server = shake_hands(build_contexts(credentials).client, SERVER)
    return server.getpeercert()


async def allow_all(node, delivery):
    return None


class Core:
    """The core's decisions."""

    def __init__(self, judge_delivery, again=None):
        self.judge_delivery, self._again = judge_delivery, again

    def judge_delivery_again(self, delivery):
        return self._again


CERTIFICATES = [connect(make_credentials(SIGNER, name)) for name in NODES]


def make_rules(nodes=NODES, judge_delivery=allow_all, *, again=None, clients=CLIENTS, **options):
    """Make rules that know nodes and clients."""
    directory = Directory()
    directory.apply(nodes, clients)
    return MtlsTunnelRules(directory, Core(judge_delivery, again), **{"checks_source": False, **options})


async def test_a_node_is_known_by_its_certificate():
    assert make_rules().find_identity(connect(make_credentials(SIGNER, "n2")), "192.0.2.1") == "n2"


@pytest.mark.parametrize(
    ("uris", "dns"),
    [
        ((f"{PREFIX}n1", f"{PREFIX}n2"), ()),
        ((f"{PREFIX}n1", f"{PREFIX}n1"), ()),
        ((f"{PREFIX}n1",), ("n1",)),
        ((), ("n1",)),
        ((), ()),
        ((f"{PREFIX}n3",), ()),
        ((f"{PREFIX}n1/",), ()),
        ((f"{PREFIX}N1",), ()),
        (("spiffe://other.domain/maesh/node/n1",), ()),
        ((f"{PREFIX}n1\x00",), ()),
        ((f"{PREFIX}n1,URI:x",), ()),
    ],
)
async def test_a_certificate_without_exactly_one_known_identity_is_refused(uris, dns):
    assert make_rules().find_identity(connect(make_leaf(SIGNER, list(uris), dns=dns)), ADDRESS) is None


async def test_a_revoked_certificate_is_refused_and_a_newer_one_of_the_node_is_not():
    lost, newer = make_credentials(SIGNER, "n1"), make_credentials(SIGNER, "n1")
    rules = make_rules({"n1": build_entry("n1", revoked=(lost.serial,))})
    assert rules.find_identity(connect(lost), ADDRESS) is None
    assert rules.find_identity(connect(newer), ADDRESS) == "n1"


async def test_the_address_of_the_sender_is_checked_if_that_is_wanted():
    certificate = connect(make_credentials(SIGNER, "n1"))
    rules = make_rules(checks_source=True)
    assert rules.find_identity(certificate, "10.0.0.9") is None
    assert rules.find_identity(certificate, ADDRESS) == "n1"


async def test_an_identity_of_two_nodes_is_that_of_none():
    twins = {"n1": build_entry("n1"), "n2": build_entry("n1")}
    assert make_rules(twins).find_identity(connect(make_credentials(SIGNER, "n1")), ADDRESS) is None


@pytest.mark.parametrize(
    "certificate",
    [
        {},
        *(
            {key: value for key, value in CERTIFICATES[0].items() if key != missing}
            for missing in ("subjectAltName", "serialNumber", "notAfter")
        ),
    ],
)
async def test_a_certificate_that_lacks_something_is_refused(certificate):
    assert make_rules().find_identity(certificate, ADDRESS) is None


def build_delivery(client=""):
    return Delivery(address="10.1.0.9", port=80, service="shop/web:80", client=client)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(directory_module, "WAIT_S", 0.0)


async def test_a_node_may_only_vouch_for_clients_that_run_on_it(impatient):
    rules = make_rules()
    assert await rules.judge("n1", build_delivery("10.1.0.1")) is None
    for client in ("10.1.0.2", "10.1.0.3", "nonsense"):
        refusal = await rules.judge("n1", build_delivery(client))
        assert refusal.status == 403


async def test_without_a_client_the_core_decides():
    asked = []

    async def judge(node, delivery):
        asked.append((node, delivery))
        return Refusal(404, "the server is not on this node")

    delivery = build_delivery()
    assert await make_rules(judge_delivery=judge).judge("n1", delivery) == Refusal(
        404, "the server is not on this node"
    )
    assert asked == [("n1", delivery)]


async def test_the_core_is_not_asked_about_a_client_of_another_node(impatient):
    async def judge(node, delivery):
        raise AssertionError

    assert (await make_rules(judge_delivery=judge).judge("n1", build_delivery("10.1.0.2"))).status == 403


async def test_a_node_that_has_left_the_configuration_may_do_nothing():
    assert (await make_rules({"n2": NODES["n2"]}).judge("n1", build_delivery())).status == 403


async def test_a_client_that_is_not_known_yet_is_waited_for():
    rules = make_rules(clients={})
    directory = rules._directory
    task = asyncio.create_task(rules.judge("n1", build_delivery("10.1.0.1")))
    await asyncio.sleep(0)
    directory.apply(NODES, {"10.1.0.9": ClientEntry("n1", "web@shop")})
    await asyncio.sleep(0)
    assert not task.done()
    directory.apply(NODES, CLIENTS)
    assert await task is None
    assert directory._waiting.total() == 0


async def test_a_node_can_hold_only_some_of_the_places_for_waiting():
    rules = make_rules(clients={})
    directory = rules._directory
    tasks = [asyncio.create_task(rules.judge("n1", build_delivery("10.1.0.1"))) for _ in range(100)]
    other = asyncio.create_task(rules.judge("n2", build_delivery("10.1.0.2")))
    await asyncio.sleep(0)
    refused = [task.result().status for task in tasks if task.done()]
    assert refused == [403] * (100 - WAITING_LIMIT_PER_NODE)
    assert WAITING_LIMIT > WAITING_LIMIT_PER_NODE
    directory.apply(NODES, CLIENTS)
    assert await other is None
    await asyncio.gather(*tasks)


async def test_an_open_connection_needs_its_node_and_its_client_on_it():
    rules = make_rules(again=ByRequest())
    assert rules.judge_again("n1", build_delivery("10.1.0.1")) == ByRequest()
    assert rules.judge_again("n1", build_delivery()) == ByRequest()
    for node, client in (("n1", "10.1.0.2"), ("n1", "10.1.0.9"), ("n3", "")):
        assert rules.judge_again(node, build_delivery(client)).status == 403
