"""The authority's own certificate and key: makes them, and reads them from the files of a store.

The files have the names of a Secret of cert-manager: `tls.crt`, `tls.key`, and `ca.crt` with the certificates to trust,
which is needed if `tls.crt` is an intermediate certificate. No I/O.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from maesh_core.plugin import ConfigurationError
from maesh_mtls.controller.authority.stores import CERTIFICATE, KEY, TRUSTED, Stored

LIFETIME = timedelta(days=3650)
START_MARGIN = timedelta(minutes=5)
"""A certificate is valid from this time before its signing, for machines whose clocks are slow."""


class SigningAuthority(NamedTuple):
    """A key that signs, and its certificates: its own, those to send along, and those to trust (both in PEM)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    intermediates: str
    bundle: str


def make_authority(now: datetime) -> dict[str, bytes]:
    """Make a key and a certificate, as the files of a store."""
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = build_authority_certificate(key, now)
    return {CERTIFICATE: certificate.public_bytes(serialization.Encoding.PEM), KEY: encoded}


def build_authority_certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Build a certificate that a key signs for itself, and that may sign certificates of nodes only."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maesh certificate authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - START_MARGIN)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(build_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def build_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """Build the extension that says what a key is for."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def read_authority(stored: Stored, now: datetime, *, can_have_ended: bool = False) -> SigningAuthority:
    """Read the authority of a store. Raises ConfigurationError, whose text never contains the key."""
    if CERTIFICATE not in stored.files and KEY not in stored.files:
        raise ConfigurationError("there is no authority yet")
    key = _parse_key(stored)
    certificates = _parse_certificates(stored, CERTIFICATE)
    own = certificates[0]
    _check_certificate(own, key, now, can_have_ended=can_have_ended)
    is_root = own.issuer == own.subject
    if not is_root and TRUSTED not in stored.files:
        raise ConfigurationError(f"{CERTIFICATE} is not a root, so {TRUSTED} must have the root")
    bundle = _parse_certificates(stored, TRUSTED) if TRUSTED in stored.files else [own]
    if is_root and own not in bundle:
        raise ConfigurationError(f"{TRUSTED} does not have the certificate in {CERTIFICATE}")
    return SigningAuthority(own, key, "" if is_root else _encode(certificates), _encode(bundle))


def _parse_key(stored: Stored) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(stored.files.get(KEY, b""), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{KEY} is missing, or is not an unencrypted key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"the key in {KEY} is not an ECDSA key of the curve P-256")
    return key


def _parse_certificates(stored: Stored, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(stored.files.get(name, b""))
    except (ValueError, x509.InvalidVersion):
        raise ConfigurationError(f"{name} has no certificate in PEM, or a damaged one") from None


def _check_certificate(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime, *, can_have_ended: bool
) -> None:
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(f"the certificate in {CERTIFICATE} belongs to another key than {KEY}")
    if not can_sign(certificate):
        raise ConfigurationError(f"the certificate in {CERTIFICATE} is not that of an authority")
    if not (can_have_ended or certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc):
        raise ConfigurationError(f"the certificate in {CERTIFICATE} is not valid now")


def can_sign(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others (RFC 5280 sections 4.2.1.3 and 4.2.1.9)."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return constraints.ca and usage.key_cert_sign


def render_certificates(text: str) -> str:
    """Return only the certificates of a text, each once, so that a key among them is never published."""
    return _encode(list(dict.fromkeys(x509.load_pem_x509_certificates(text.encode("ascii")))))


def _encode(certificates: list[x509.Certificate]) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode("ascii") for each in certificates)
