"""Credentials in, contexts out: real handshakes between them."""

import os
import ssl
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from maesh_mtls.proxy.contexts import build_contexts

from .certificates import make_credentials, make_key, make_leaf, make_rsa_key, make_signer
from .handshakes import shake_hands

SIGNER = make_signer()
IDENTITY = "spiffe://cluster.local/maesh/node/n1"
N1 = build_contexts(make_credentials(SIGNER, "n1"))
N2 = build_contexts(make_credentials(SIGNER, "n2"))


def test_two_nodes_of_an_authority_connect_with_tls_1_3_and_h2():
    client, server = shake_hands(N1.client, N2.server)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "h2"
    assert server.getpeercert()["subjectAltName"] == (("URI", IDENTITY),)
    assert client.getpeercert()["subjectAltName"] == (("URI", IDENTITY.replace("n1", "n2")),)


def test_the_serial_number_of_credentials_is_that_of_the_certificate_as_peers_see_it():
    for _ in range(20):
        credentials = make_credentials(SIGNER, "n1")
        _, server = shake_hands(build_contexts(credentials).client, N2.server)
        assert server.getpeercert()["serialNumber"] == credentials.serial


@pytest.mark.parametrize(
    "credentials",
    [
        make_leaf(make_signer(), [IDENTITY]),
        make_leaf(SIGNER, [IDENTITY], starts=timedelta(days=-2), ends=timedelta(minutes=-1)),
        make_leaf(SIGNER, [IDENTITY], starts=timedelta(hours=1)),
        make_credentials(SIGNER, "n1", at=datetime.now(UTC) - timedelta(hours=25)),
    ],
    ids=["wrong authority", "expired", "not yet valid", "signed yesterday"],
)
def test_a_certificate_that_is_not_valid_is_refused_by_both_roles(credentials):
    trusting = msgspec.structs.replace(credentials, bundle=SIGNER.bundle)
    contexts = build_contexts(trusting)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(contexts.client, N2.server)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(N2.client, contexts.server)


def test_a_clock_that_is_less_than_5_minutes_slow_is_tolerated():
    ahead = make_credentials(SIGNER, "n1", at=datetime.now(UTC) + timedelta(minutes=4))
    shake_hands(build_contexts(ahead).client, N2.server)
    too_far = make_credentials(SIGNER, "n1", at=datetime.now(UTC) + timedelta(minutes=10))
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        shake_hands(build_contexts(too_far).client, N2.server)


def test_a_client_without_certificate_is_refused():
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(cadata=SIGNER.bundle)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(anonymous, N2.server)


def test_tls_before_1_3_is_refused_in_both_roles():
    for role, context in ((ssl.PROTOCOL_TLS_CLIENT, N2.server), (ssl.PROTOCOL_TLS_SERVER, N2.client)):
        old = ssl.SSLContext(role)
        old.check_hostname = False
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        pair = (old, context) if role is ssl.PROTOCOL_TLS_CLIENT else (context, old)
        with pytest.raises(ssl.SSLError):
            shake_hands(*pair)


def test_the_sender_of_an_rsa_certificate_is_known_by_its_identity_only():
    contexts = build_contexts(make_leaf(SIGNER, [IDENTITY], key=make_rsa_key()))
    _, server = shake_hands(contexts.client, N2.server)
    assert server.getpeercert()["subjectAltName"] == (("URI", IDENTITY),)


def test_a_session_is_resumed_with_the_same_certificate():
    client, server = shake_hands(N1.client, N2.server)
    server.write(b"x")  # the ticket is sent with the first bytes
    assert client.read(1) == b"x"
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = N1.client.wrap_bio(to_client, to_server, session=client.session)
    other = N2.server.wrap_bio(to_server, to_client, server_side=True)
    for end in (again, other, again, other):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert again.session_reused
    assert other.getpeercert()["subjectAltName"] == (("URI", IDENTITY),)


def test_no_descriptor_and_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.listdir("/proc/self/fd")
    build_contexts(make_credentials(SIGNER, "n1"))
    assert os.listdir("/proc/self/fd") == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["key", "chain", "bundle"])
@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_damaged_credentials_raise_and_leave_no_descriptor(field, text):
    before = os.listdir("/proc/self/fd")
    with pytest.raises((OSError, ValueError)):
        build_contexts(msgspec.structs.replace(make_credentials(SIGNER, "n1"), **{field: text}))
    assert os.listdir("/proc/self/fd") == before


def test_a_key_that_does_not_fit_the_certificate_is_refused():
    other = make_leaf(SIGNER, [IDENTITY], key=make_key())
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        build_contexts(msgspec.structs.replace(make_credentials(SIGNER, "n1"), key=other.key))
