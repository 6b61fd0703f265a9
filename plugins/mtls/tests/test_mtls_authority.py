"""A request for a certificate in, a certificate out."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st
from maesh_mtls.controller.authority.node_certificates import AuthorityEndedError, RequestRefusedError
from maesh_mtls.proxy.enrolment import build_request

from .certificates import encode, make_authority, make_key, make_rsa_key, make_signer

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
SIGNER = make_signer(NOW)
AUTHORITY = make_authority(SIGNER, now=lambda: NOW)


def sign(csr, node="n1", authority=AUTHORITY):
    answer = authority.sign(csr, node)
    (certificate,) = x509.load_pem_x509_certificates(answer.chain.encode())
    return certificate


def get_extension(certificate, type_):
    return certificate.extensions.get_extension_for_class(type_)


def test_a_certificate_has_the_identity_of_the_node_and_nothing_else():
    key = make_key()
    certificate = sign(build_request(key))
    names = get_extension(certificate, x509.SubjectAlternativeName)
    assert names.critical
    assert [name.value for name in names.value] == ["spiffe://cluster.local/maesh/node/n1"]
    assert certificate.subject == x509.Name([])
    assert certificate.public_key() == key.public_key()
    usage = get_extension(certificate, x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not get_extension(certificate, x509.BasicConstraints).value.ca
    assert not get_extension(certificate, x509.KeyUsage).value.key_cert_sign
    certificate.verify_directly_issued_by(SIGNER.certificate)


def test_a_certificate_begins_5_minutes_ago_and_lives_for_the_lifetime():
    certificate = sign(build_request(make_key()))
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=1)


def test_no_certificate_outlives_the_authority():
    ends = SIGNER.certificate.not_valid_after_utc
    late = make_authority(SIGNER, now=lambda: ends - timedelta(hours=2))
    assert sign(build_request(make_key()), authority=late).not_valid_after_utc == ends
    with pytest.raises(AuthorityEndedError):
        sign(build_request(make_key()), authority=make_authority(SIGNER, now=lambda: ends))


def test_what_a_request_asks_for_is_ignored():
    key = make_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in (
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local/maesh/node/n2")]),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
    ):
        builder = builder.add_extension(extension, critical=True)
    wishes = sign(encode(builder.sign(key, hashes.SHA256())))
    plain = sign(build_request(key))
    assert wishes.subject == plain.subject
    assert list(wishes.extensions) == list(plain.extensions)


@pytest.mark.parametrize("key", [make_rsa_key(), ec.generate_private_key(ec.SECP384R1())], ids=["RSA", "P-384"])
def test_a_key_of_another_type_is_refused(key):
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(RequestRefusedError, match="curve P-256"):
        sign(encode(request))


def test_a_request_for_the_key_of_another_is_refused():
    mine, other = build_request(make_key()), make_key()
    theirs = x509.load_pem_x509_csr(build_request(other).encode())
    request = x509.load_pem_x509_csr(mine.encode())
    content = request.public_bytes(serialization.Encoding.DER)
    spki = (
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )
    forged = content.replace(request.public_key().public_bytes(*spki), theirs.public_key().public_bytes(*spki))
    assert forged != content
    with pytest.raises(RequestRefusedError, match="signature"):
        sign(encode(x509.load_der_x509_csr(forged)))


@pytest.mark.parametrize("csr", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----", encode(SIGNER.certificate), "\x00ü"])
def test_what_is_no_request_is_refused(csr):
    with pytest.raises(RequestRefusedError, match="not a certificate signing request"):
        sign(csr)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@example(position=7, byte=1)  # a version that no request has
def test_a_changed_request_is_refused_or_signed_for_the_same_key(position, byte):
    key = make_key()
    request = x509.load_pem_x509_csr(build_request(key).encode())
    content = bytearray(request.public_bytes(serialization.Encoding.DER))
    content[position % len(content)] = byte
    encoded = base64.encodebytes(content).decode()
    try:
        certificate = sign(f"-----BEGIN CERTIFICATE REQUEST-----\n{encoded}-----END CERTIFICATE REQUEST-----\n")
    except RequestRefusedError:
        return
    assert certificate.public_key() == key.public_key()


@pytest.mark.parametrize("node", ["", "N1", "a/b", "n1,URI:x", "a" * 254, "n1\n", "-a"])
def test_a_name_that_no_node_can_have_is_never_signed(node):
    with pytest.raises(ValueError):
        sign(build_request(make_key()), node)
