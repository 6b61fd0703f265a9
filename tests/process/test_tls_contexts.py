"""Contexts from credentials in memory: which servers a client accepts, and which clients a server recognizes."""

import os
import ssl

import pytest
import trustme

from maesh_core.process.tls_contexts import build_checking_context, build_server_context
from maesh_core.process.tls_credentials import TlsCredentials


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def issue(authority, name, trusted=None):
    issued = authority.issue_cert(name)
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    bundle = (trusted or authority).cert_pem.bytes().decode()
    return TlsCredentials(key=issued.private_key_pem.bytes().decode(), chain=chain, bundle=bundle)


def connect(server, client, name):
    """Do a handshake in memory; returns the certificates that the server and the client saw. Raises ssl.SSLError."""
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    accepted = server.wrap_bio(pipes[0], pipes[1], server_side=True)
    connected = client.wrap_bio(pipes[1], pipes[0], server_hostname=name)
    for _ in range(4):
        for side in (connected, accepted):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return accepted.getpeercert(), connected.getpeercert()


def is_named(certificate, name):
    return ("DNS", name) in certificate["subjectAltName"]


def test_both_sides_see_the_certificate_of_the_other(authority):
    server = build_server_context(issue(authority, "n1.example"))
    client = build_checking_context(issue(authority, "controller.example"), is_named)
    seen, found = connect(server, client, "n1.example")
    assert is_named(seen, "controller.example")
    assert is_named(found, "n1.example")


def test_a_server_that_is_not_the_expected_one_gets_no_byte_after_the_handshake(authority):
    server = build_server_context(issue(authority, "n2.example"))
    client = build_checking_context(issue(authority, "controller.example"), is_named)
    with pytest.raises(ssl.SSLCertVerificationError, match="not that of the expected server"):
        connect(server, client, "n1.example")


def test_a_server_of_another_authority_is_refused(authority):
    server = build_server_context(issue(trustme.CA(), "n1.example"))
    client = build_checking_context(issue(authority, "controller.example"), lambda certificate, name: True)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, client, "n1.example")


def test_a_client_of_another_authority_is_refused_and_one_without_a_certificate_is_not(authority):
    server = build_server_context(issue(authority, "n1.example"))
    client = build_checking_context(issue(trustme.CA(), "x.example", authority), lambda certificate, name: True)
    with pytest.raises(ssl.SSLError):
        connect(server, client, "n1.example")
    anyone = ssl.create_default_context()
    authority.configure_trust(anyone)
    assert connect(server, anyone, "n1.example")[0] is None


def test_a_check_that_raises_ends_the_handshake(authority):
    def fail(certificate, name):
        raise ValueError("a plugin's error")

    server = build_server_context(issue(authority, "n1.example"))
    client = build_checking_context(issue(authority, "controller.example"), fail)
    with pytest.raises(ValueError, match="a plugin's error"):
        connect(server, client, "n1.example")


def test_no_descriptor_of_a_key_stays_open(authority):
    credentials = issue(authority, "n1.example")
    build_server_context(credentials)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        build_server_context(credentials)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("broken", [{"key": "nothing"}, {"chain": ""}, {"bundle": "nothing"}, {"key": "é"}])
def test_broken_credentials_are_an_error(authority, broken):
    credentials = issue(authority, "n1.example")
    fields = {"key": credentials.key, "chain": credentials.chain, "bundle": credentials.bundle, **broken}
    with pytest.raises((OSError, ValueError)):
        build_server_context(TlsCredentials(**fields))


def test_a_representation_shows_no_key(authority):
    assert repr(issue(authority, "n1.example")) == "<TlsCredentials>"
