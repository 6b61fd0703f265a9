"""The files of a store in, an authority out, or the reason why not."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from maesh_mtls.controller.authority.ca import SigningAuthority, make_authority, read_authority
from maesh_mtls.controller.authority.stores import Stored

from maesh_core.plugin import ConfigurationError

from .certificates import encode, make_credentials, make_key, make_rsa_key, make_signer


def store(signer, **files):
    """Return what a store has; the files are named `tls_crt` and so on."""
    found = {"tls_crt": encode(signer.certificate), "tls_key": encode(signer.key), **files}
    return Stored(
        files={name.replace("_", "."): text.encode() for name, text in found.items() if text is not None}, version="1"
    )


def read(signer, *, now=None, **files):
    return read_authority(store(signer, **files), now or datetime.now(UTC))


def refuse(signer, **options):
    with pytest.raises(ConfigurationError) as caught:
        read(signer, **options)
    assert "PRIVATE KEY" not in str(caught.value)
    return str(caught.value)


def test_a_made_authority_can_be_read_and_signs_for_ten_years():
    now = datetime.now(UTC)
    made = read_authority(Stored(files=make_authority(now), version="1"), now)
    assert made.certificate.not_valid_after_utc - now > timedelta(days=3649)
    assert made.bundle == encode(made.certificate)
    assert make_credentials(made, "n1").identity == "spiffe://cluster.local/maesh/node/n1"


def test_a_store_without_the_files_has_no_authority():
    with pytest.raises(ConfigurationError, match="no authority yet"):
        read_authority(Stored(), datetime.now(UTC))


@pytest.mark.parametrize("missing", ["tls_crt", "tls_key"])
def test_one_of_the_files_is_not_enough(missing):
    assert missing.replace("_", ".") in refuse(make_signer(), **{missing: None})


def test_a_key_of_another_type_is_refused():
    assert "not an ECDSA key" in refuse(make_signer(), tls_key=encode(make_rsa_key()))


def test_a_certificate_of_another_key_is_refused():
    assert "belongs to another key" in refuse(make_signer(), tls_key=encode(make_key()))


def test_a_certificate_that_cannot_sign_is_refused():
    leaf = make_credentials(make_signer(), "n1")
    assert "not that of an authority" in refuse(make_signer(), tls_crt=leaf.chain, tls_key=leaf.key)


def test_an_authority_that_has_ended_is_refused():
    assert "not valid now" in refuse(make_signer(), now=datetime.now(UTC) + timedelta(days=3651))


@pytest.mark.parametrize("content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_file_is_refused(content):
    assert "tls.crt" in refuse(make_signer(), tls_crt=content)
    assert "tls.key" in refuse(make_signer(), tls_key=content)
    assert "ca.crt" in refuse(make_signer(), ca_crt=content)


def test_a_second_authority_is_trusted_while_one_replaces_the_other():
    old, new = make_signer(), make_signer()
    assert "ca.crt does not have the certificate" in refuse(old, ca_crt=new.bundle)
    loaded = read(old, ca_crt=old.bundle + new.bundle)
    assert (loaded.bundle, loaded.intermediates) == (old.bundle + new.bundle, "")


def make_root():
    key, now = make_key(), datetime.now(UTC)
    model = make_signer()
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=300))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(model.certificate.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
        .sign(key, hashes.SHA256())
    )
    return SigningAuthority(certificate, key, "", encode(certificate))


def make_intermediate(root):
    key, now = make_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "intermediate")])
    model = make_signer().certificate.extensions
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(model.get_extension_for_class(x509.KeyUsage).value, critical=True)
        .sign(root.key, hashes.SHA256())
    )
    return SigningAuthority(certificate, key, "", "")


def test_an_intermediate_sends_its_certificate_and_trusts_the_root():
    root = make_root()
    intermediate = make_intermediate(root)
    assert "ca.crt must have the root" in refuse(intermediate)
    loaded = read(intermediate, ca_crt=encode(root.certificate))
    assert loaded.bundle == encode(root.certificate)
    assert loaded.intermediates == encode(intermediate.certificate)
    assert make_credentials(loaded, "n1").chain.count("BEGIN CERTIFICATE") == 2
