"""The certificate that the authority signs for the controller's API, and who is recognized by which."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from maesh_mtls import MtlsSettings
from maesh_mtls.controller.api_certificate import LOOK_S, MtlsCertifier, Timing
from maesh_mtls.controller.authority.state import Revocation
from maesh_mtls.controller.modes import MtlsRules
from maesh_mtls.identity import build_controller_identity
from maesh_mtls.parent import is_controller

from maesh_core.plugin import ConfigurationError

from .certificates import make_signer

HOSTS = ["maesh-controller.maesh.svc", "localhost", "127.0.0.1", "::1", "not a name", "*.example", ""]
DAY_S = 86400.0
START = datetime(2027, 1, 1, tzinfo=UTC)


class Clock:
    """The certifier in fake time."""

    def __init__(self, signer=None, **options):
        self.now, self.signer, self.problem = START.timestamp(), signer or make_signer(START), ""
        timing = Timing(lambda: self.now, self.sleep, lambda low, high: (low + high) / 2)
        self.certifier = MtlsCertifier(self.get_signer, "cluster.local", DAY_S, timing=timing, **options)
        self.watched = self.certifier.watch_credentials(HOSTS)

    def get_signer(self):
        if self.problem:
            raise ConfigurationError(self.problem)
        return self.signer

    async def sleep(self, seconds):
        self.now += seconds

    async def next(self):
        credentials = await anext(self.watched)
        return credentials, x509.load_pem_x509_certificate(credentials.chain.encode())


async def test_the_certificate_names_the_controller_and_its_addresses():
    clock = Clock()
    credentials, certificate = await clock.next()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [build_controller_identity("cluster.local")]
    assert names.get_values_for_type(x509.DNSName) == ["maesh-controller.maesh.svc", "localhost"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert certificate.not_valid_after_utc == START + timedelta(days=1)
    certificate.verify_directly_issued_by(clock.signer.certificate)
    assert credentials.bundle == clock.signer.bundle


async def test_it_is_renewed_with_another_key_at_half_of_its_life():
    clock = Clock()
    first, _ = await clock.next()
    second, _ = await clock.next()
    assert clock.now - START.timestamp() == pytest.approx(DAY_S / 2, abs=2 * LOOK_S)
    assert first.key != second.key


async def test_another_authority_replaces_it_at_once():
    clock = Clock()
    await clock.next()
    clock.signer = make_signer(START)
    _, certificate = await clock.next()
    assert clock.now - START.timestamp() == LOOK_S
    certificate.verify_directly_issued_by(clock.signer.certificate)


async def test_a_changed_bundle_replaces_it_at_once():
    clock = Clock()
    await clock.next()
    clock.signer = clock.signer._replace(bundle=clock.signer.bundle * 2)
    credentials, _ = await clock.next()
    assert (clock.now - START.timestamp(), credentials.bundle) == (LOOK_S, clock.signer.bundle)


async def test_without_an_authority_it_waits_and_says_so_once(caplog):
    clock = Clock()
    clock.problem = "mtls.ca: the Secret does not exist yet"

    async def sleep(seconds):
        clock.now += seconds
        if clock.now > START.timestamp() + 60:
            clock.problem = ""

    clock.certifier._timing = clock.certifier._timing._replace(sleep=sleep)
    await clock.next()
    assert caplog.text.count("the API gets no certificate now: mtls.ca: the Secret does not exist yet") == 1


async def test_it_ends_with_the_authority():
    clock = Clock()
    clock.now = (clock.signer.certificate.not_valid_after_utc - timedelta(hours=1)).timestamp()
    _, certificate = await clock.next()
    assert certificate.not_valid_after_utc == clock.signer.certificate.not_valid_after_utc


def build(now=None, **options):
    signer = make_signer()
    timing = Timing(now) if now else Timing()
    return MtlsCertifier(lambda: signer, "cluster.local", DAY_S, timing=timing, **options), signer


def describe_leaf(uris, *, dns=(), ends="Jan  1 00:00:00 2099 GMT", serial="0ABC"):
    names = [("URI", uri) for uri in uris] + [("DNS", name) for name in dns]
    return {"subjectAltName": tuple(names), "notAfter": ends, "serialNumber": serial}


NODE = "spiffe://cluster.local/maesh/node/n1"
OTHERS = [
    ([], ()),
    ([NODE, NODE], ()),
    ([NODE], ("localhost",)),
    (["spiffe://other.local/maesh/node/n1"], ()),
    (["spiffe://cluster.local/maesh/node/"], ()),
    (["spiffe://cluster.local/maesh/node/N1"], ()),
    (["spiffe://cluster.local/maesh/node/n1/x"], ()),
    (["spiffe://cluster.local/ns/shop/sa/web"], ()),
]


def test_nodes_are_recognized_by_exactly_one_name():
    certifier, _ = build()
    assert certifier.find_node(describe_leaf([NODE])) == "n1"
    for uris, dns in OTHERS:
        assert certifier.find_node(describe_leaf(uris, dns=dns)) is None
    assert certifier.find_node({}) is None


def test_controllers_are_recognized_by_their_identity():
    certifier, _ = build()
    controller = build_controller_identity("cluster.local")
    for check in (certifier.is_controller, partial(is_controller, domain="cluster.local")):
        assert check(describe_leaf([controller], dns=["localhost"]))
        for uris, dns in [*OTHERS, ([controller + "/x"], ()), ([], (controller,))]:
            assert not check(describe_leaf(uris, dns=dns))
        assert not check(describe_leaf([controller], ends="Jan  1 00:00:00 2020 GMT"))
        assert not check({})
    foreign = describe_leaf([build_controller_identity("other.local")])
    assert not is_controller(foreign, "cluster.local")
    assert not is_controller(foreign, None)
    assert is_controller(foreign, "other.local")


def test_a_certificate_that_has_ended_or_is_revoked_is_of_nobody():
    certifier, _ = build(is_revoked=lambda node, serial: (node, serial) == ("n1", "0ABC"))
    assert certifier.find_node(describe_leaf([NODE])) is None
    assert certifier.find_node(describe_leaf([NODE], serial="0ABD")) == "n1"
    assert certifier.find_node(describe_leaf([NODE], serial="0ABD", ends="Jan  1 00:00:00 2020 GMT")) is None


def test_a_node_is_revoked_beside_its_certificates():
    rules = MtlsRules(MtlsSettings())
    certifier, _ = build(is_revoked=rules.is_revoked)
    rules.use([Revocation(node="n1"), Revocation(node="n2", serial="0ABC")], None)
    assert certifier.is_revoked("n1")
    assert not certifier.is_revoked("n2")
    assert not certifier.is_revoked("n3")
