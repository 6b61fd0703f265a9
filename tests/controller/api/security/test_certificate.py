"""The certificate of the API: its contexts, and its replacement."""

import ssl

import pytest
import trustme

from maesh_core.controller.api.security.certificate import ApiCertificate
from maesh_core.errors import StartupError


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def write(folder, issued, *, key=None):
    (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "tls.key").write_bytes((key or issued).private_key_pem.bytes())
    return str(folder / "tls.crt"), str(folder / "tls.key")


def connect(server, client, name=None):
    """Do a handshake in memory; raises ssl.SSLError."""
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    sides = [
        server.wrap_bio(pipes[0], pipes[1], server_side=True),
        client.wrap_bio(pipes[1], pipes[0], server_hostname=name),
    ]
    for _ in range(4):
        for side in reversed(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides[1].getpeercert(binary_form=True)


def trust(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_client_that_trusts_the_authority_gets_the_certificate(tmp_path, authority):
    certificate = ApiCertificate(*write(tmp_path, authority.issue_cert("controller.example")))
    assert connect(certificate.context, trust(authority), "controller.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(certificate.context, trust(trustme.CA()), "controller.example")


def test_a_controller_trusts_others_with_its_own_certificate_and_nobody_else(tmp_path, authority):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    certificate = ApiCertificate(*write(ours, authority.issue_cert("controller.example")))
    other = ApiCertificate(*write(theirs, authority.issue_cert("controller.example")))
    assert connect(certificate.context, certificate.peer_context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(other.context, certificate.peer_context)


def test_a_replaced_certificate_is_used_and_one_that_does_not_fit_its_key_is_not(tmp_path, authority, caplog):
    first, second = authority.issue_cert("one.example"), authority.issue_cert("two.example")
    certificate = ApiCertificate(*write(tmp_path, first))
    contexts = []
    certificate.on_change(contexts.append)
    write(tmp_path, second, key=first)
    certificate.files.look()
    assert contexts == []
    assert "are not a certificate and its key" in caplog.text
    assert connect(certificate.context, trust(authority), "one.example")
    write(tmp_path, second)
    certificate.files.look()
    assert contexts == [certificate.context]
    assert connect(contexts[0], trust(authority), "two.example")


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_without_a_certificate_stop_the_start(tmp_path, authority, text):
    paths = write(tmp_path, authority.issue_cert("controller.example"))
    (tmp_path / "tls.crt").write_bytes(text)
    with pytest.raises(StartupError, match=r"the API's certificate cannot be used \(--api-cert, --api-key\)"):
        ApiCertificate(*paths)
